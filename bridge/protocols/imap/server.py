"""We are the server to the mail client until login (IMAP4rev1 and rev2: RFC 3501, RFC 9051)."""

from __future__ import annotations

import re
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
from bridge.protocols.imap import syntax
from bridge.protocols.lines import ClientLines
from bridge.protocols.refusals import public_line
from bridge.secret import Secret

LINE_LIMIT = 8192
"""Octets of a line: RFC 7162 section 4 asks for 8,192; a PLAIN response of 6 KB fits too."""
LITERAL_LIMIT = 4096
"""Octets of a literal before login: no user name or password is longer."""
LITERALS_LIMIT = 8
"""Literals of one command; LOGIN has two."""
COMMANDS_LIMIT = 50
"""Commands before login; a mail client needs about five."""

WITH_PASSWORD = frozenset({"LOGIN", "AUTHENTICATE"})
"""Commands that carry a password, in whatever form."""

AFTER_LOGIN = re.compile(
    r"SELECT|EXAMINE|CREATE|DELETE|RENAME|(UN)?SUBSCRIBE|LIST|LSUB|NAMESPACE|STATUS|APPEND|IDLE|CLOSE|UNSELECT|EXPUNGE"
    r"|SEARCH|FETCH|STORE|COPY|MOVE|UID|ENABLE|CHECK|GETQUOTA(ROOT)?|COMPRESS"
)
"""Commands that get a better answer than "unknown"."""


class ImapServer:
    """The IMAP side of a mail client's connection, up to its login; see ServerMachine."""

    def __init__(self, *, starttls: bool = False, is_tls: bool = False, promised: tuple[str, ...] = ()) -> None:
        """`starttls`: STARTTLS is offered, and demanded before a password. `is_tls`: TLS is there from the start.
        `promised`: capabilities that the client will find after its login, whichever upstream that leads to."""
        self._starttls = starttls
        self._is_tls = is_tls
        self._promised = promised
        self._buffer = ClientLines(LINE_LIMIT)
        self._commands = 0
        self._is_waiting = False
        self._is_over = False
        self._parts: list[bytes] = []
        """The parts of the command being read: text and literals in turn; the last is text."""
        self._literal: syntax.Literal | None = None
        self._exchange: sasl.Exchange | None = None
        self._tag = "*"
        """The tag of the command being answered."""
        self.misstep = ""
        """See ServerMachine."""
        self._was_refused = False
        """A login was refused; the client has been told why."""

    def greet(self) -> list[Event]:
        """`* OK` with our capabilities."""
        return [_line(f"* OK [CAPABILITY {self._capabilities}] mail-bridge ready")]

    def receive(self, data: bytes) -> list[Event]:
        """Take the next bytes from the mail client and say what to do.

        Args: data, any piece of the stream, however it was cut; never empty.
        Returns: events; Hangup with a violation for a line over 8,192 octets, a non-synchronizing literal over 4,096,
        or plaintext after STARTTLS. Source: RFC 9051 sections 4.3, 6.1 and 6.2; RFC 7888; RFC 4959; RFC 2971.
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
        """Forget everything from before (RFC 9051 section 6.2.1)."""
        self._is_tls = True
        self._parts, self._literal, self._exchange = [], None, None
        return []

    def accept(self, ready: Ready) -> list[Event]:
        """The upstream's untagged lines, with only those capabilities that concern a logged-in client, and our OK."""
        self._is_over = True
        text = ready.text.decode("ascii", "replace").strip() or "Logged in"
        untagged = b"".join(_for_client(line) for line in ready.untagged.splitlines(keepends=True))
        return [
            Send(untagged + f"{self._tag} OK {_without_login_words(text)}\r\n".encode("ascii", "replace")),
            Ready(self._buffer.leftover()),
        ]

    def refuse(self, problem: BridgeError) -> list[Event]:
        """NO with a response code of RFC 5530, or BYE when the client must go."""
        self._is_waiting = False
        self._was_refused = True
        if isinstance(problem, LimitReached):
            return self.send_away(problem)
        return [_line(f"{self._tag} NO [{_code(problem)}] {public_line(problem)}"), *self._go_on()]

    def time_out(self) -> list[Event]:
        """BYE."""
        return self._hang_up("[UNAVAILABLE] No login in time")

    def send_away(self, problem: LimitReached) -> list[Event]:
        """BYE, which needs no tag (RFC 9051 section 7.1.5)."""
        return self._hang_up(f"[UNAVAILABLE] {public_line(problem)}")

    # --- reading ------------------------------------------------------------------------------------------------

    def _go_on(self) -> list[Event]:
        """Read commands until no whole one is left, or a login waits for its answer."""
        events: list[Event] = []
        try:
            while not self._is_waiting and not self._is_over and (step := self._step()) is not None:
                events += step
        except syntax.BadSyntax as problem:  # only this one command is bad
            events += [self._bad(str(problem)), *self._go_on()]
        except ProtocolViolation as problem:
            self._is_over = True
            events.append(Hangup(f"* BYE {problem}\r\n".encode("ascii", "replace"), str(problem)))
        return events

    def _step(self) -> list[Event] | None:
        """Read one line or literal, and carry out the command if that completes it; None while bytes are missing."""
        if self._literal is not None:
            block = self._buffer.next_block(self._literal.size)
            if block is None:
                return None
            self._literal = None
            self._parts.append(block)
            return []
        line = self._buffer.next_line()
        if line is None:
            return None
        line = line.rstrip(b"\r\n")
        if self._exchange is not None:
            return self._continue_exchange(self._exchange, line)
        if not self._parts and (refusal := self._open_command(line)) is not None:
            return refusal
        return self._take_line(line)

    def _open_command(self, line: bytes) -> list[Event] | None:
        """Count the command and look at its tag; an answer if it ends here."""
        self._commands += 1
        if self._commands > COMMANDS_LIMIT:
            return self._hang_up("[UNAVAILABLE] Too many commands without a login")
        tag, _, rest = line.partition(b" ")
        if not syntax.is_tag(tag) or not rest.strip():
            self._tag = tag.decode("ascii") if syntax.is_tag(tag) else "*"
            return [self._bad("A command is a tag, a space and a word")]
        self._tag = tag.decode("ascii")
        return None

    def _take_line(self, line: bytes) -> list[Event]:
        literal = syntax.literal_at_end(line)
        if literal is None:
            parts, self._parts = [*self._parts, line], []
            return self._carry_out(parts)
        opening = self._parts[0] if self._parts else line
        if self._needs_tls and literal.is_synchronizing and _verb(opening) in WITH_PASSWORD:
            self._parts = []
            return [self._privacy_required()]  # "+ Go ahead" would ask for the password in cleartext
        if literal.size > LITERAL_LIMIT or len(self._parts) >= 2 * LITERALS_LIMIT:
            if not literal.is_synchronizing:
                raise ProtocolViolation("a literal that is too long")
            self._parts = []
            return [_line(f"{self._tag} NO [TOOBIG] A literal may have {LITERAL_LIMIT} octets here")]
        self._parts.append(syntax.without_literal(line))
        self._literal = literal
        return [_line("+ Go ahead")] if literal.is_synchronizing else []

    # --- commands -----------------------------------------------------------------------------------------------

    def _carry_out(self, parts: list[bytes]) -> list[Event]:
        words = parts[0].split(b" ", 2)
        verb = _verb(parts[0])
        arguments = [words[2] if len(words) > 2 else b"", *parts[1:]]
        commands: dict[str, Callable[[list[bytes]], list[Event]]] = {
            "CAPABILITY": self._capability,
            "NOOP": lambda _: [self._ok("Nothing done")],
            "ID": self._id,
            "LOGOUT": self._logout,
            "STARTTLS": self._start_tls,
            "LOGIN": self._login,
            "AUTHENTICATE": self._authenticate,
        }
        if verb in commands:
            return commands[verb](arguments)
        return [self._bad("Log in first" if AFTER_LOGIN.fullmatch(verb) else "Unknown command")]

    def _capability(self, _: list[bytes]) -> list[Event]:
        return [_line(f"* CAPABILITY {self._capabilities}"), self._ok("Done")]

    def _id(self, _: list[bytes]) -> list[Event]:
        return [_line('* ID ("name" "mail-bridge")'), self._ok("Done")]

    def _logout(self, _: list[bytes]) -> list[Event]:
        self._is_over = True
        return [Hangup(f"* BYE Logging out\r\n{self._tag} OK Done\r\n".encode("ascii"))]

    def _start_tls(self, _: list[bytes]) -> list[Event]:
        if self._is_tls:
            return [self._bad("TLS is on already")]
        if not self._starttls:
            self.misstep = missteps.WANTS_TLS
            return [self._bad("No STARTTLS here")]
        if len(self._buffer):
            raise ProtocolViolation("plaintext behind STARTTLS")
        self.misstep = ""
        return [StartTLS(f"{self._tag} OK Begin TLS now\r\n".encode("ascii"))]

    def _login(self, arguments: list[bytes]) -> list[Event]:
        if self._needs_tls:
            return [self._privacy_required()]
        try:
            found = syntax.strings(arguments)
        except syntax.BadSyntax:
            self.misstep = missteps.UNESCAPED
            raise
        if len(found) != 2:
            if len(found) > 2:
                self.misstep = missteps.UNQUOTED
            return [self._bad("LOGIN takes a user name and a password; quote them if they have spaces")]
        return self._requested(sasl.decode_text(found[0]), Secret(found[1]))

    def _authenticate(self, arguments: list[bytes]) -> list[Event]:
        if self._needs_tls:
            return [self._privacy_required()]
        found = syntax.strings(arguments)
        mechanism = found[0].upper().decode("ascii", "replace") if found else ""
        if mechanism not in sasl.MECHANISMS or len(found) > 2:
            if not self._was_refused:
                self.misstep = missteps.OTHER_WAY
            return [_line(f"{self._tag} NO [CANNOT] Use LOGIN, or AUTHENTICATE with PLAIN or LOGIN")]
        self._exchange = sasl.Exchange(mechanism)
        if len(found) == 1:
            return [self._challenge(self._exchange)]
        return self._continue_exchange(self._exchange, b"" if found[1] == b"=" else found[1])

    def _continue_exchange(self, exchange: sasl.Exchange, response: bytes) -> list[Event]:
        if response.strip() == b"*":
            self._exchange = None
            return [self._bad("Cancelled")]
        try:
            credentials = exchange.respond(response)
        except sasl.SaslError as problem:
            self._exchange = None
            if not self._was_refused:
                self.misstep = problem.misstep or self.misstep
            return [self._bad(problem.public)]
        if credentials is None:
            return [self._challenge(exchange)]
        self._exchange = None
        return self._requested(*credentials)

    def _requested(self, username: str, password: Secret[bytes]) -> list[Event]:
        self._is_waiting = True
        self.misstep = ""
        return [LoginRequested(Login(Protocol.IMAP, username, password))]

    # --- words --------------------------------------------------------------------------------------------------

    @property
    def _needs_tls(self) -> bool:
        return self._starttls and not self._is_tls

    @property
    def _capabilities(self) -> str:
        """What we do ourselves until login, and what is promised. LITERAL+ is accepted but not offered: Gmail lacks it,
        and clients still go by our list after login."""
        if self._needs_tls:
            return "IMAP4rev1 ID STARTTLS LOGINDISABLED"
        mechanisms = sasl.MECHANISMS if self._is_tls else sasl.IN_CLEAR
        return " ".join(["IMAP4rev1 ID SASL-IR", *(f"AUTH={name}" for name in mechanisms), *self._promised])

    def _challenge(self, exchange: sasl.Exchange) -> Send:
        return _line(f"+ {exchange.challenge.decode('ascii')}")

    def _ok(self, text: str) -> Send:
        return _line(f"{self._tag} OK {text}")

    def _bad(self, text: str) -> Send:
        return _line(f"{self._tag} BAD {text}")

    def _privacy_required(self) -> Send:
        self.misstep = missteps.BEFORE_TLS
        return _line(f"{self._tag} NO [PRIVACYREQUIRED] Start TLS first")

    def _hang_up(self, text: str) -> list[Event]:
        self._is_over = True
        return [Hangup(f"* BYE {text}\r\n".encode("ascii", "replace"))]


def _verb(line: bytes) -> str:
    """The second word: what a command is called."""
    return line.split(b" ", 2)[1].upper().decode("ascii", "replace").strip()


def _line(text: str) -> Send:
    return Send(f"{text}\r\n".encode("ascii", "replace"))


def _code(problem: BridgeError) -> str:
    """The response code of RFC 5530."""
    match problem:
        case LoginRefused():
            return "AUTHENTICATIONFAILED"
        case UpstreamRefused() if not problem.temporary:
            return "AUTHORIZATIONFAILED"
        case _:
            return "UNAVAILABLE" if problem.temporary else "CONTACTADMIN"


def _for_client(line: bytes) -> bytes:
    """An untagged line of the upstream, without the capabilities that matter only before login, such as Exchange's
    LOGINDISABLED."""
    if line.upper().startswith(b"* CAPABILITY "):
        kept = [word for word in line.decode("ascii", "replace").split() if not _is_about_login(word)]
        return (" ".join(kept) + "\r\n").encode("ascii", "replace")
    return line


def _without_login_words(text: str) -> str:
    """The same for `[CAPABILITY …]` inside the OK."""
    if not text.upper().startswith("[CAPABILITY "):
        return text
    inside, _, rest = text[1:].partition("]")
    return f"[{' '.join(word for word in inside.split() if not _is_about_login(word))}]{rest}"


def _is_about_login(capability: str) -> bool:
    word = capability.upper()
    return word in {"LOGINDISABLED", "STARTTLS", "SASL-IR"} or word.startswith("AUTH=")
