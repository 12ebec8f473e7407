"""We are the server to the mail client until login (IMAP4rev1 and rev2: RFC 3501, RFC 9051)."""

from __future__ import annotations

import re
from collections.abc import Callable

from bridge.errors import BridgeError, LoginRefused, ProtocolViolation, UpstreamRefused
from bridge.model import Protocol
from bridge.protocols import missteps, sasl
from bridge.protocols.base import Event, Ready, Send
from bridge.protocols.imap import syntax
from bridge.protocols.server import Server, Words, line
from bridge.secret import Secret

LITERAL_LIMIT = 4096
"""Octets of a literal before login: no user name or password is longer."""
LITERALS_LIMIT = 8
"""Literals of one command; LOGIN has two."""

WITH_PASSWORD = frozenset({"LOGIN", "AUTHENTICATE"})
"""Commands that carry a password, in whatever form."""

AFTER_LOGIN = re.compile(
    r"SELECT|EXAMINE|CREATE|DELETE|RENAME|(UN)?SUBSCRIBE|LIST|LSUB|NAMESPACE|STATUS|APPEND|IDLE|CLOSE|UNSELECT|EXPUNGE"
    r"|SEARCH|FETCH|STORE|COPY|MOVE|UID|ENABLE|CHECK|GETQUOTA(ROOT)?|COMPRESS"
)
"""Commands that get a better answer than "unknown"."""


class ImapServer(Server):
    """The IMAP side of a mail client's connection, up to its login; see ServerMachine. A non-synchronizing literal over
    LITERAL_LIMIT is a violation, too. Source: RFC 9051 sections 4.3, 6.1 and 6.2; RFC 7888; RFC 4959; RFC 2971."""

    protocol = Protocol.IMAP
    words = Words(
        wrong="BAD",
        farewell="* BYE",
        later="[UNAVAILABLE]",
        starttls="STARTTLS",
        no_tls="No STARTTLS here",
        tls_first="NO [PRIVACYREQUIRED] Start TLS first",
        other_way="NO [CANNOT] Use LOGIN, or AUTHENTICATE with PLAIN or LOGIN",
    )

    def __init__(self, *, starttls: bool = False, is_tls: bool = False, promised: tuple[str, ...] = ()) -> None:
        """See Server. `promised`: capabilities that the client will find after its login, whichever upstream that leads
        to."""
        super().__init__(starttls=starttls, is_tls=is_tls)
        self._promised = promised
        self._parts: list[bytes] = []
        """The parts of the command being read: text and literals in turn; the last is text."""
        self._literal: syntax.Literal | None = None
        self._tag = "*"
        """The tag of the command being answered."""

    def greet(self) -> list[Event]:
        """`* OK` with our capabilities."""
        return [line(f"* OK [CAPABILITY {self._capabilities}] mail-bridge ready")]

    def tls_started(self) -> list[Event]:
        """See Server; RFC 9051 section 6.2.1."""
        self._parts, self._literal = [], None
        return super().tls_started()

    # --- reading ------------------------------------------------------------------------------------------------

    def _step(self) -> list[Event] | None:
        try:
            if self._literal is not None:
                return self._take_literal(self._literal)
            received = self._buffer.next_line()
            return None if received is None else self._take_line(received.rstrip(b"\r\n"))
        except syntax.BadSyntax as problem:  # only this one command is bad
            return [self._wrong(str(problem))]

    def _take_literal(self, literal: syntax.Literal) -> list[Event] | None:
        block = self._buffer.next_block(literal.size)
        if block is None:
            return None
        self._literal = None
        self._parts.append(block)
        return []

    def _take_line(self, received: bytes) -> list[Event]:
        if self._exchange is not None:
            return self._continue_exchange(self._exchange, received)
        if not self._parts and (ended := self._open_command(received)):
            return ended
        literal = syntax.literal_at_end(received)
        if literal is None:
            parts, self._parts = [*self._parts, received], []
            return self._carry_out(parts)
        opening = self._parts[0] if self._parts else received
        if self._needs_tls and literal.is_synchronizing and _verb(opening) in WITH_PASSWORD:
            self._parts = []
            return [self._tls_first()]  # "+ Go ahead" would ask for the password in cleartext
        if literal.size > LITERAL_LIMIT or len(self._parts) >= 2 * LITERALS_LIMIT:
            if not literal.is_synchronizing:
                raise ProtocolViolation("a literal that is too long")
            self._parts = []
            return [self._answer(f"NO [TOOBIG] A literal may have {LITERAL_LIMIT} octets here")]
        self._parts.append(syntax.without_literal(received))
        self._literal = literal
        return [line("+ Go ahead")] if literal.is_synchronizing else []

    def _open_command(self, received: bytes) -> list[Event]:
        """Count the command and look at its tag; an answer if it ends here."""
        if end := self._one_too_many():
            return end
        tag, _, rest = received.partition(b" ")
        if not syntax.is_tag(tag) or not rest.strip():
            self._tag = tag.decode("ascii") if syntax.is_tag(tag) else "*"
            return [self._wrong("A command is a tag, a space and a word")]
        self._tag = tag.decode("ascii")
        return []

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
            "STARTTLS": lambda _: self._start_tls("OK Begin TLS now"),
            "LOGIN": self._login,
            "AUTHENTICATE": self._authenticate,
        }
        if verb in commands:
            return commands[verb](arguments)
        return [self._wrong("Log in first" if AFTER_LOGIN.fullmatch(verb) else "Unknown command")]

    def _capability(self, _: list[bytes]) -> list[Event]:
        return [line(f"* CAPABILITY {self._capabilities}"), self._ok("Done")]

    def _id(self, _: list[bytes]) -> list[Event]:
        return [line('* ID ("name" "mail-bridge")'), self._ok("Done")]

    def _logout(self, _: list[bytes]) -> list[Event]:
        return self._hang_up(f"* BYE Logging out\r\n{self._tag} OK Done")

    def _login(self, arguments: list[bytes]) -> list[Event]:
        if self._needs_tls:
            return [self._tls_first()]
        try:
            found = syntax.strings(arguments)
        except syntax.BadSyntax:
            self.misstep = missteps.UNESCAPED
            raise
        if len(found) != 2:
            if len(found) > 2:
                self.misstep = missteps.UNQUOTED
            return [self._wrong("LOGIN takes a user name and a password; quote them if they have spaces")]
        return self._requested(sasl.decode_text(found[0]), Secret(found[1]))

    def _authenticate(self, arguments: list[bytes]) -> list[Event]:
        return [self._tls_first()] if self._needs_tls else self._begin_exchange(syntax.strings(arguments))

    # --- words --------------------------------------------------------------------------------------------------

    @property
    def _capabilities(self) -> str:
        """What we do ourselves until login, and what is promised. LITERAL+ is accepted but not offered: Gmail lacks it,
        and clients still go by our list after login."""
        if self._needs_tls:
            return "IMAP4rev1 ID STARTTLS LOGINDISABLED"
        return " ".join(["IMAP4rev1 ID SASL-IR", *(f"AUTH={name}" for name in self._mechanisms), *self._promised])

    def _ok(self, text: str) -> Send:
        return self._answer(f"OK {text}")

    def _answer(self, text: str) -> Send:
        return line(f"{self._tag} {text}")

    def _accepted(self, ready: Ready) -> Send:
        """The upstream's untagged lines, with only those capabilities that concern a logged-in client, and our OK."""
        text = ready.text.decode("ascii", "replace").strip() or "Logged in"
        untagged = b"".join(_for_client(untagged) for untagged in ready.untagged.splitlines(keepends=True))
        return Send(untagged + self._ok(_without_login_words(text)).data)

    def _refusal(self, problem: BridgeError) -> str:
        """NO with a response code of RFC 5530."""
        match problem:
            case LoginRefused():
                code = "AUTHENTICATIONFAILED"
            case UpstreamRefused() if not problem.temporary:
                code = "AUTHORIZATIONFAILED"
            case _:
                code = "UNAVAILABLE" if problem.temporary else "CONTACTADMIN"
        return f"NO [{code}]"


def _verb(received: bytes) -> str:
    """The second word: what a command is called."""
    return received.split(b" ", 2)[1].upper().decode("ascii", "replace").strip()


def _for_client(untagged: bytes) -> bytes:
    """An untagged line of the upstream, without the capabilities that matter only before login, such as Exchange's
    LOGINDISABLED."""
    if untagged.upper().startswith(b"* CAPABILITY "):
        kept = [word for word in untagged.decode("ascii", "replace").split() if not _is_about_login(word)]
        return line(" ".join(kept)).data
    return untagged


def _without_login_words(text: str) -> str:
    """The same for `[CAPABILITY …]` inside the OK."""
    if not text.upper().startswith("[CAPABILITY "):
        return text
    inside, _, rest = text[1:].partition("]")
    return f"[{' '.join(word for word in inside.split() if not _is_about_login(word))}]{rest}"


def _is_about_login(capability: str) -> bool:
    word = capability.upper()
    return word in {"LOGINDISABLED", "STARTTLS", "SASL-IR"} or word.startswith("AUTH=")
