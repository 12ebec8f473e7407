"""We are the client of the upstream until authenticated: CAPABILITY, STARTTLS, AUTHENTICATE with a token."""

from __future__ import annotations

import re
from enum import Enum, auto

from bridge.advice.said import said
from bridge.errors import ProtocolViolation
from bridge.protocols import sasl
from bridge.protocols.base import Credentials, Event, Ready, RefusalKind, Refused, Send, StartTLS
from bridge.protocols.lines import LineBuffer
from bridge.protocols.refusals import judged, kind_of_refusal

LINE_LIMIT = 16 * 1024
"""Octets of one line before login; Gmail's capability line has 400."""
UNTAGGED_LIMIT = 64 * 1024
"""Octets of untagged lines until the login is done; most of those behind the token are kept for the mail client. A
server that never stops talking would keep the loop busy, and its own time limit from ever being looked at."""

_CODE = re.compile(rb"\[CAPABILITY ([^\]]*)\]", re.IGNORECASE)


class _Wait(Enum):
    """Which answer of the server comes next."""

    GREETING = auto()
    CAPABILITY = auto()
    STARTTLS = auto()
    PROMPT = auto()
    """The `+` that asks for the token, from a server without SASL-IR."""
    VERDICT = auto()
    LATER_CAPABILITY = auto()
    """CAPABILITY again after the login, because the server did not include its capabilities in the OK."""
    MAILBOX = auto()
    """The same server's answer to a command that works only if the user has a mailbox."""
    NOTHING = auto()


_AFTER_TOKEN = frozenset({_Wait.VERDICT, _Wait.LATER_CAPABILITY, _Wait.MAILBOX})


class ImapClient:
    """See ClientMachine."""

    def __init__(self, credentials: Credentials, *, starttls: bool) -> None:
        self.extensions: frozenset[str] = frozenset()
        """What the server offers a logged-in client; complete once Ready was given."""
        self._credentials = credentials
        self._is_tls = not starttls
        self._buffer = LineBuffer(LINE_LIMIT)
        self._wait = _Wait.GREETING
        self._tags = 0
        self._tag = b""
        self._capabilities: frozenset[bytes] | None = None
        self._untagged = bytearray()
        self._untagged_octets = 0
        self._bye: str | None = None
        self._accepted = b""
        self._answered_challenge = False
        self._trouble = ""

    def start(self) -> list[Event]:
        """The server greets first."""
        return []

    def receive(self, data: bytes) -> list[Event]:
        """Take the next bytes from the upstream; see ClientMachine.

        Source: RFC 9051 sections 6.2.1, 6.2.2, 7.1; RFC 4959 (initial response); RFC 2342 (NAMESPACE); RFC 7628;
        Google and Microsoft on XOAUTH2.
        """
        self._buffer.append(data)
        events: list[Event] = []
        while self._wait is not _Wait.NOTHING and (line := self._buffer.next_line()) is not None:
            events += self._take(line.rstrip(b"\r\n"))
        return events

    def closed(self) -> list[Event]:
        """A server that said BYE is busy; one that did not is broken."""
        if self._bye is not None:
            return self._refused(kind_of_refusal(self._bye), self._bye, unless_token=RefusalKind.BUSY)
        raise ProtocolViolation(said("the server closed the connection before the login was done"))

    def tls_started(self) -> list[Event]:
        """Ask for capabilities anew: those from before TLS must not be trusted (RFC 9051 section 6.2.1)."""
        self._is_tls = True
        self._capabilities = None
        return self._ask_capabilities()

    # --- lines --------------------------------------------------------------------------------------------------

    def _take(self, line: bytes) -> list[Event]:
        if self._wait is _Wait.GREETING:
            return self._greeting(line)
        if line.startswith(b"* "):
            return self._take_untagged(line)
        if line == b"+" or line.startswith(b"+ "):
            return self._take_continuation(line[2:])
        tag, _, rest = line.partition(b" ")
        if tag != self._tag:
            raise ProtocolViolation("the server's answer has a foreign tag")
        status, _, text = rest.partition(b" ")
        return self._take_tagged(status.upper(), text)

    def _greeting(self, line: bytes) -> list[Event]:
        words = line.upper()
        if words.startswith(b"* BYE"):
            return self._refused(RefusalKind.BUSY, _text(line[6:]))
        if words.startswith(b"* PREAUTH"):
            raise ProtocolViolation("the server's greeting is PREAUTH: nobody knows whose mail this is")
        if not words.startswith(b"* OK"):
            raise ProtocolViolation("the server's greeting is not of IMAP")
        self._learn(line)
        return self._ask_capabilities() if self._capabilities is None else self._go_on()

    def _take_untagged(self, line: bytes) -> list[Event]:
        words = line.upper()
        if words.startswith(b"* CAPABILITY "):
            self._capabilities = frozenset(words.split()[2:])
        elif words.startswith(b"* BYE"):
            self._bye = _text(line[6:])
        self._untagged_octets += len(line)
        if self._untagged_octets > UNTAGGED_LIMIT:
            raise ProtocolViolation("the server does not stop talking before its answer")
        is_of_use = not words.startswith(b"* NAMESPACE ")  # NAMESPACE was our question, not the client's
        if is_of_use and self._wait in _AFTER_TOKEN:  # lines before the token are for us alone
            self._untagged += line + b"\r\n"
        return []

    def _take_continuation(self, challenge: bytes) -> list[Event]:
        if self._wait is _Wait.PROMPT:
            self._wait = _Wait.VERDICT
            return [sasl.token_line(self._credentials)]
        if self._wait is _Wait.VERDICT and not self._answered_challenge:
            self._answered_challenge = True  # answered only if asked: Exchange, which sends none, would say BAD
            self._trouble = sasl.trouble_in(challenge)
            return [sasl.line_after_challenge(self._credentials)]
        raise ProtocolViolation("the server asks for more when there is nothing to say")

    def _take_tagged(self, status: bytes, text: bytes) -> list[Event]:
        match self._wait:
            case _Wait.CAPABILITY:
                if status != b"OK" or self._capabilities is None:
                    raise ProtocolViolation("the server does not tell its capabilities")
                return self._go_on()
            case _Wait.STARTTLS:
                if status != b"OK":
                    raise ProtocolViolation(f"the server refuses STARTTLS: {_text(text)}")
                if len(self._buffer):
                    raise ProtocolViolation("the server sent plaintext behind STARTTLS")
                return [StartTLS(b"")]
            case _Wait.PROMPT | _Wait.VERDICT:
                return self._verdict(status, text)
            case _:
                return self._told_later(status, text)

    # --- steps --------------------------------------------------------------------------------------------------

    def _ask_capabilities(self) -> list[Event]:
        self._wait = _Wait.CAPABILITY
        return [self._command(b"CAPABILITY")]

    def _go_on(self) -> list[Event]:
        capabilities = self._capabilities or frozenset()
        if not self._is_tls:
            if b"STARTTLS" not in capabilities:
                raise ProtocolViolation("the server does not offer STARTTLS; without TLS no token is sent")
            self._wait = _Wait.STARTTLS
            return [self._command(b"STARTTLS")]
        mechanism = self._credentials.mechanism
        sasl.check_offer(mechanism, (_text(name[5:]) for name in capabilities if name.startswith(b"AUTH=")))
        self._capabilities = None  # from here on: those offered to a logged-in client
        command = f"AUTHENTICATE {mechanism.sasl_name}"
        if b"SASL-IR" not in capabilities:
            self._wait = _Wait.PROMPT
            return [self._command(command.encode("ascii"))]
        self._wait = _Wait.VERDICT
        blob = sasl.initial_response(self._credentials)
        return [self._command(command.encode("ascii") + b" " + blob, token_log=f"{command} (token)")]

    def _verdict(self, status: bytes, text: bytes) -> list[Event]:
        if status == b"OK" and self._wait is _Wait.VERDICT:
            self._accepted = text
            self._learn(text)
            if self._capabilities is not None:
                return self._ready()
            self._wait = _Wait.LATER_CAPABILITY
            return [self._command(b"CAPABILITY")]
        if status not in (b"NO", b"BAD"):
            raise ProtocolViolation("the server's answer to the login makes no sense")
        words = _text(text)
        if self._wait is _Wait.PROMPT:  # the server has not seen the token, so the token cannot be the reason
            return self._refused(kind_of_refusal(words), words, unless_token=RefusalKind.POLICY)
        return self._refused(*judged(words, self._trouble))

    def _told_later(self, status: bytes, text: bytes) -> list[Event]:
        """Exchange accepts the token of a user without a mailbox, and says so only at the first command that needs to
        be logged in. CAPABILITY and NOOP do not: Exchange answers them with OK. NAMESPACE does, and opens no folder.
        """
        is_ok, words = status == b"OK", _text(text)
        if self._wait is _Wait.LATER_CAPABILITY:
            if not is_ok:
                return self._refused(kind_of_refusal(words), words, unless_token=RefusalKind.POLICY)
            if b"NAMESPACE" in (self._capabilities or ()):
                self._wait = _Wait.MAILBOX
                return [self._command(b"NAMESPACE")]
        elif not is_ok and (kind := kind_of_refusal(words)) is not RefusalKind.TOKEN:
            return self._refused(kind, words)
        return self._ready()  # a "no" in unknown words, too, is about NAMESPACE and not about the login

    def _ready(self) -> list[Event]:
        self._wait = _Wait.NOTHING
        self.extensions = frozenset(word.decode("ascii", "replace") for word in self._capabilities or ())
        return [Ready(self._buffer.leftover(), self._accepted, bytes(self._untagged))]

    def _refused(self, kind: RefusalKind, text: str, unless_token: RefusalKind | None = None) -> list[Event]:
        self._wait = _Wait.NOTHING
        if kind is RefusalKind.TOKEN and unless_token is not None:
            kind = unless_token
        return [Refused(kind, text)]

    def _learn(self, text: bytes) -> None:
        match = _CODE.search(text)
        if match is not None:
            self._capabilities = frozenset(match[1].upper().split())

    def _command(self, words: bytes, token_log: str = "") -> Send:
        self._tags += 1
        self._tag = b"B%d" % self._tags
        log = token_log and f"{self._tag.decode('ascii')} {token_log}"
        return Send(self._tag + b" " + words + b"\r\n", log, shows_token=bool(token_log))


def _text(words: bytes) -> str:
    return words.decode("utf-8", "replace").strip()
