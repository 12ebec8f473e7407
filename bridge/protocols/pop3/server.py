"""We are the server to the mail client until login (POP3: RFC 1939, 2449, 5034, 2595)."""

from __future__ import annotations

from collections.abc import Callable

from bridge.errors import BridgeError, LoginRefused, UpstreamRefused
from bridge.model import Protocol
from bridge.protocols import sasl
from bridge.protocols.base import Event, Ready, Send
from bridge.protocols.server import Server, Words, line
from bridge.secret import Secret

ELSEWHERE = frozenset(["STAT", "LIST", "RETR", "DELE", "NOOP", "RSET", "TOP", "UIDL"])
"""Commands that need a login first."""


class Pop3Server(Server):
    """The POP3 side of a mail client's connection, up to its login; see ServerMachine. Source: RFC 1939 sections 4 and
    7; RFC 5034; RFC 2449; RFC 2595 section 4."""

    protocol = Protocol.POP3
    words = Words(
        wrong="-ERR",
        farewell="-ERR",
        later="[SYS/TEMP]",
        starttls="STLS",
        no_tls="No TLS here",
        tls_first="-ERR Start TLS first (STLS)",
        other_way="-ERR Use USER and PASS, or AUTH with PLAIN or LOGIN",
    )

    def __init__(self, *, starttls: bool = False, is_tls: bool = False) -> None:
        """See Server."""
        super().__init__(starttls=starttls, is_tls=is_tls)
        self._username: str | None = None

    def greet(self) -> list[Event]:
        """No `<stamp>` in it: clients would try APOP, which cannot be bridged."""
        return [line("+OK mail-bridge ready")]

    def tls_started(self) -> list[Event]:
        """See Server."""
        self._username = None
        return super().tls_started()

    def refuse(self, problem: BridgeError) -> list[Event]:
        """See Server; the user name has to be said again."""
        self._username = None
        return super().refuse(problem)

    # --- reading ------------------------------------------------------------------------------------------------

    def _step(self) -> list[Event] | None:
        received = self._buffer.next_line()
        if received is None:
            return None
        received = received.rstrip(b"\r\n")
        if self._exchange is not None:
            return self._continue_exchange(self._exchange, received)
        return self._one_too_many() or self._carry_out(received)

    def _carry_out(self, command: bytes) -> list[Event]:
        word, _, argument = command.partition(b" ")
        verb = word.upper().decode("ascii", "replace")
        commands: dict[str, Callable[[bytes], list[Event]]] = {
            "CAPA": lambda _: [line("\r\n".join(["+OK", *self._capabilities, "."]))],
            "QUIT": lambda _: self._hang_up("+OK Bye"),
            "USER": self._user,
            "PASS": self._pass,
            "AUTH": self._auth,
            "APOP": lambda _: [self._tls_first() if self._needs_tls else self._other_way()],
            "STLS": lambda _: self._start_tls("+OK Begin TLS now"),
        }
        if verb in commands:
            return commands[verb](argument)
        if verb not in ELSEWHERE:
            return [self._wrong("Unknown command")]
        return [self._tls_first() if self._needs_tls else self._wrong("Log in first")]

    # --- commands -----------------------------------------------------------------------------------------------

    def _user(self, argument: bytes) -> list[Event]:
        if self._needs_tls:
            return [self._tls_first()]
        if not argument.strip():
            return [self._wrong("USER takes a user name")]
        self._username = sasl.decode_text(argument.strip())
        return [line("+OK And the password?")]

    def _pass(self, argument: bytes) -> list[Event]:
        """The rest of the line, spaces included, is the password (RFC 1939 section 7)."""
        if self._needs_tls:
            return [self._tls_first()]
        if self._username is None:
            return [self._wrong("USER comes first")]
        return self._requested(self._username, Secret(argument))

    def _auth(self, argument: bytes) -> list[Event]:
        if self._needs_tls:
            return [self._tls_first()]
        words = argument.split()
        if not words:  # how clients asked for the mechanisms before CAPA existed
            return [line("\r\n".join(["+OK", *self._mechanisms, "."]))]
        return self._begin_exchange(words)

    # --- words --------------------------------------------------------------------------------------------------

    @property
    def _capabilities(self) -> list[str]:
        """TOP and UIDL belong to the upstream, but clients ask for capabilities only before login; every provider has
        both."""
        login = ["STLS"] if self._needs_tls else ["USER", f"SASL {' '.join(self._mechanisms)}"]
        return [*login, "TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE"]

    def _answer(self, text: str) -> Send:
        return line(text)

    def _accepted(self, ready: Ready) -> Send:
        """+OK with the upstream's words."""
        return line(f"+OK {ready.text.decode('ascii', 'replace').strip() or 'Logged in'}")

    def _refusal(self, problem: BridgeError) -> str:
        """-ERR with a response code of RFC 2449 section 8 and RFC 3206."""
        match problem:
            case LoginRefused() | UpstreamRefused() if not problem.temporary:
                return "-ERR [AUTH]"
            case _:
                return "-ERR [SYS/TEMP]" if problem.temporary else "-ERR [SYS/PERM]"
