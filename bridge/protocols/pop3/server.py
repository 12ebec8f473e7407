"""We are the server to the mail client until login (POP3: RFC 1939, 2449, 5034, 2595)."""

from __future__ import annotations

from collections.abc import Callable

from bridge.errors import (
    BridgeError,
    LimitReached,
    LoginRefused,
    ProtocolViolation,
    UpstreamRefused,
)
from bridge.model import Login, Protocol
from bridge.protocols import missteps, sasl
from bridge.protocols.base import Event, Hangup, LoginRequested, Ready, Send, StartTLS
from bridge.protocols.lines import ClientLines
from bridge.protocols.refusals import public_line
from bridge.secret import Secret

LINE_LIMIT = 8192
"""Octets of a line. RFC 2449 section 4 has 255 for commands; a SASL response may be longer (RFC 5034 section 4)."""
COMMANDS_LIMIT = 50
"""Commands before login; a mail client needs about four."""

ELSEWHERE = frozenset(["STAT", "LIST", "RETR", "DELE", "NOOP", "RSET", "TOP", "UIDL"])
"""Commands that need a login first."""


class Pop3Server:
    """The POP3 side of a mail client's connection, up to its login; see ServerMachine."""

    def __init__(self, *, starttls: bool = False, is_tls: bool = False) -> None:
        """`starttls`: STLS is offered, and demanded before a password. `is_tls`: TLS is there from the start."""
        self._starttls = starttls
        self._is_tls = is_tls
        self._buffer = ClientLines(LINE_LIMIT)
        self._commands = 0
        self._is_waiting = False
        self._is_over = False
        self._username: str | None = None
        self._exchange: sasl.Exchange | None = None
        self.misstep = ""
        """See ServerMachine."""
        self._was_refused = False
        """A login was refused; the client has been told why."""

    def greet(self) -> list[Event]:
        """No `<stamp>` in it: clients would try APOP, which cannot be bridged."""
        return [_line("+OK mail-bridge ready")]

    def receive(self, data: bytes) -> list[Event]:
        """Take the next bytes from the mail client and say what to do.

        Args: data, any piece of the stream, however it was cut; never empty.
        Returns: events; Hangup with a violation for a line over 8,192 octets or plaintext after STLS.
        Source: RFC 1939 sections 4 and 7; RFC 5034; RFC 2449; RFC 2595 section 4.
        """
        self._buffer.append(data)
        return self._go_on()

    @property
    def has_more(self) -> bool:
        """See ServerMachine."""
        return len(self._buffer) > 0

    def closed(self) -> list[Event]:
        """The client has left: there is nothing to answer."""
        return []

    def tls_started(self) -> list[Event]:
        """Forget everything from before."""
        self._is_tls = True
        self._username, self._exchange = None, None
        return []

    def accept(self, ready: Ready) -> list[Event]:
        """+OK with the upstream's words."""
        self._is_over = True
        text = ready.text.decode("ascii", "replace").strip() or "Logged in"
        return [_line(f"+OK {text}"), Ready(self._buffer.leftover())]

    def refuse(self, problem: BridgeError) -> list[Event]:
        """-ERR with a response code of RFC 2449 section 8 and RFC 3206."""
        self._is_waiting = False
        self._was_refused = True
        self._username = None
        if isinstance(problem, LimitReached):
            return self.send_away(problem)
        return [_line(f"-ERR [{_code(problem)}] {public_line(problem)}"), *self._go_on()]

    def time_out(self) -> list[Event]:
        """-ERR, then the end."""
        return self._hang_up("-ERR [SYS/TEMP] No login in time")

    def send_away(self, problem: LimitReached) -> list[Event]:
        """-ERR, unasked. The client takes it for the answer to its next command, which does no harm."""
        return self._hang_up(f"-ERR [SYS/TEMP] {public_line(problem)}")

    # --- reading ------------------------------------------------------------------------------------------------

    def _go_on(self) -> list[Event]:
        events: list[Event] = []
        try:
            while not self._is_waiting and not self._is_over and (line := self._buffer.next_line()) is not None:
                events += self._take(line.rstrip(b"\r\n"))
        except ProtocolViolation as problem:
            self._is_over = True
            events.append(Hangup(f"-ERR {problem}\r\n".encode("ascii", "replace"), str(problem)))
        return events

    def _take(self, line: bytes) -> list[Event]:
        if self._exchange is not None:
            return self._continue_exchange(self._exchange, line)
        self._commands += 1
        if self._commands > COMMANDS_LIMIT:
            return self._hang_up("-ERR [SYS/TEMP] Too many commands without a login")
        word, _, argument = line.partition(b" ")
        verb = word.upper().decode("ascii", "replace")
        commands: dict[str, Callable[[bytes], list[Event]]] = {
            "CAPA": lambda _: [_line("\r\n".join(["+OK", *self._capabilities, "."]))],
            "QUIT": lambda _: self._hang_up("+OK Bye"),
            "USER": self._user,
            "PASS": self._pass,
            "AUTH": self._auth,
            "APOP": lambda _: [self._tls_first() if self._needs_tls else self._other_way()],
            "STLS": self._start_tls,
        }
        if verb in commands:
            return commands[verb](argument)
        if verb not in ELSEWHERE:
            return [_line("-ERR Unknown command")]
        return [self._tls_first() if self._needs_tls else _line("-ERR Log in first")]

    # --- commands -----------------------------------------------------------------------------------------------

    def _user(self, argument: bytes) -> list[Event]:
        if self._needs_tls:
            return [self._tls_first()]
        if not argument.strip():
            return [_line("-ERR USER takes a user name")]
        self._username = sasl.decode_text(argument.strip())
        return [_line("+OK And the password?")]

    def _pass(self, argument: bytes) -> list[Event]:
        """The rest of the line, spaces included, is the password (RFC 1939 section 7)."""
        if self._needs_tls:
            return [self._tls_first()]
        if self._username is None:
            return [_line("-ERR USER comes first")]
        return self._requested(self._username, Secret(argument))

    def _auth(self, argument: bytes) -> list[Event]:
        if self._needs_tls:
            return [self._tls_first()]
        words = argument.split()
        if not words:  # how clients asked for the mechanisms before CAPA existed
            return [_line("\r\n".join(["+OK", *self._mechanisms, "."]))]
        mechanism = words[0].upper().decode("ascii", "replace")
        if mechanism not in sasl.MECHANISMS or len(words) > 2:
            return [self._other_way()]
        self._exchange = sasl.Exchange(mechanism)
        if len(words) == 1:
            return [self._challenge(self._exchange)]
        return self._continue_exchange(self._exchange, b"" if words[1] == b"=" else words[1])

    def _continue_exchange(self, exchange: sasl.Exchange, response: bytes) -> list[Event]:
        if response.strip() == b"*":
            self._exchange = None
            return [_line("-ERR Cancelled")]
        try:
            credentials = exchange.respond(response)
        except sasl.SaslError as problem:
            self._exchange = None
            if not self._was_refused:
                self.misstep = problem.misstep or self.misstep
            return [_line(f"-ERR {problem.public}")]
        if credentials is None:
            return [self._challenge(exchange)]
        self._exchange = None
        return self._requested(*credentials)

    def _start_tls(self, _: bytes) -> list[Event]:
        if self._is_tls:
            return [_line("-ERR TLS is on already")]
        if not self._starttls:
            self.misstep = missteps.WANTS_TLS
            return [_line("-ERR No TLS here")]
        if len(self._buffer):
            raise ProtocolViolation("plaintext behind STLS")
        self.misstep = ""
        return [StartTLS(b"+OK Begin TLS now\r\n")]

    def _requested(self, username: str, password: Secret[bytes]) -> list[Event]:
        self._is_waiting = True
        self.misstep = ""
        return [LoginRequested(Login(Protocol.POP3, username, password))]

    # --- words --------------------------------------------------------------------------------------------------

    @property
    def _needs_tls(self) -> bool:
        return self._starttls and not self._is_tls

    @property
    def _mechanisms(self) -> tuple[str, ...]:
        """The mechanisms that are announced; all of sasl.MECHANISMS are accepted."""
        return sasl.MECHANISMS if self._is_tls else sasl.IN_CLEAR

    @property
    def _capabilities(self) -> list[str]:
        """TOP and UIDL belong to the upstream, but clients ask for capabilities only before login; every provider has
        both."""
        login = ["STLS"] if self._needs_tls else ["USER", f"SASL {' '.join(self._mechanisms)}"]
        return [*login, "TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE"]

    def _tls_first(self) -> Send:
        self.misstep = missteps.BEFORE_TLS
        return _line("-ERR Start TLS first (STLS)")

    def _other_way(self) -> Send:
        if not self._was_refused:
            self.misstep = missteps.OTHER_WAY
        return _line("-ERR Use USER and PASS, or AUTH with PLAIN or LOGIN")

    def _challenge(self, exchange: sasl.Exchange) -> Send:
        return _line(f"+ {exchange.challenge.decode('ascii')}")

    def _hang_up(self, text: str) -> list[Event]:
        self._is_over = True
        return [Hangup(f"{text}\r\n".encode("ascii", "replace"))]


def _line(text: str) -> Send:
    return Send(f"{text}\r\n".encode("ascii", "replace"))


def _code(problem: BridgeError) -> str:
    """The response code of RFC 3206."""
    match problem:
        case LoginRefused() | UpstreamRefused() if not problem.temporary:
            return "AUTH"
        case _:
            return "SYS/TEMP" if problem.temporary else "SYS/PERM"
