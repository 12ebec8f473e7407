"""We are the client of the upstream until authenticated: STLS, AUTH with a token."""

from __future__ import annotations

from enum import Enum, auto

from bridge.advice.said import said
from bridge.errors import ProtocolViolation
from bridge.protocols import sasl
from bridge.protocols.base import Credentials, Event, Ready, RefusalKind, Refused, Send, StartTLS
from bridge.protocols.lines import LineBuffer
from bridge.protocols.refusals import judged

LINE_LIMIT = 8192
"""Octets of one line before login; RFC 2449 section 4 has 512, an error challenge may be longer."""


class _Wait(Enum):
    """Which answer of the server comes next."""

    GREETING = auto()
    STLS = auto()
    PROMPT = auto()
    """The `+` that asks for the token."""
    VERDICT = auto()
    MAILBOX = auto()
    """Exchange's answer to a command that works only if the user has a mailbox."""
    NOTHING = auto()


_NOT_ABOUT_TOKEN = frozenset({_Wait.PROMPT, _Wait.MAILBOX})
"""A refusal here is not about the token: the server has not seen it yet, or has already accepted it."""


class Pop3Client:
    """See ClientMachine. CAPA is not sent: its answer would change nothing, and cost a round trip."""

    def __init__(self, credentials: Credentials, *, starttls: bool) -> None:
        self._credentials = credentials
        self._starttls = starttls
        self._buffer = LineBuffer(LINE_LIMIT)
        self._wait = _Wait.GREETING
        self._answered_challenge = False
        self._trouble = ""
        self._is_exchange = False
        self._accepted = b""

    def start(self) -> list[Event]:
        """The server greets first."""
        return []

    def receive(self, data: bytes) -> list[Event]:
        """Take the next bytes from the upstream; see ClientMachine.

        Source: RFC 1939 section 4; RFC 2595 section 4; RFC 5034 section 4; RFC 7628 section 3. Always two steps:
        Exchange drops the connection when the response comes with the command.
        """
        self._buffer.append(data)
        events: list[Event] = []
        while self._wait is not _Wait.NOTHING and (line := self._buffer.next_line()) is not None:
            events += self._take(line.rstrip(b"\r\n"))
        return events

    def closed(self) -> list[Event]:
        """POP3 has no farewell: a server that goes away has given no reason."""
        raise ProtocolViolation(said("the server closed the connection before the login was done"))

    def tls_started(self) -> list[Event]:
        """There is no second greeting."""
        return self._authenticate()

    def _take(self, line: bytes) -> list[Event]:
        if line.upper().startswith(b"-ERR"):
            return self._refused(line[4:].decode("utf-8", "replace").strip())
        is_ok = line.upper().startswith(b"+OK")
        match self._wait:
            case _Wait.GREETING if is_ok:
                self._is_exchange = b"MICROSOFT EXCHANGE" in line.upper()
                if not self._starttls:
                    return self._authenticate()
                self._wait = _Wait.STLS
                return [Send(b"STLS\r\n")]
            case _Wait.STLS if is_ok:
                if len(self._buffer):
                    raise ProtocolViolation("the server sent plaintext behind STLS")
                return [StartTLS(b"")]
            case _Wait.PROMPT if line.startswith(b"+") and not is_ok:
                self._wait = _Wait.VERDICT
                return [sasl.token_line(self._credentials)]
            case _Wait.VERDICT if is_ok:
                self._accepted = line[3:].strip()
                return self._ask_for_mailbox() if self._is_exchange else self._ready()
            case _Wait.MAILBOX if is_ok:
                return self._ready()
            case _Wait.VERDICT if line.startswith(b"+") and not self._answered_challenge:
                self._answered_challenge = True
                self._trouble = sasl.trouble_in(line[1:])
                return [sasl.line_after_challenge(self._credentials)]
            case _:
                raise ProtocolViolation("the server's answer makes no sense")

    def _authenticate(self) -> list[Event]:
        self._wait = _Wait.PROMPT
        return [Send(f"AUTH {self._credentials.mechanism.sasl_name}\r\n".encode("ascii"))]

    def _ask_for_mailbox(self) -> list[Event]:
        """Exchange accepts the token of a user without a mailbox, and says so only at the next command."""
        self._wait = _Wait.MAILBOX
        return [Send(b"NOOP\r\n")]

    def _ready(self) -> list[Event]:
        self._wait = _Wait.NOTHING
        return [Ready(self._buffer.leftover(), self._accepted)]

    def _refused(self, text: str) -> list[Event]:
        if self._wait is _Wait.STLS:
            raise ProtocolViolation(f"the server refuses STLS, and without TLS no token is sent: {text}")
        kind, text = judged(text, self._trouble)
        if self._wait is _Wait.GREETING:  # a "no" in place of the greeting is about our host, whatever its words
            kind = RefusalKind.BUSY
        elif kind is RefusalKind.TOKEN and self._wait in _NOT_ABOUT_TOKEN:
            kind = RefusalKind.POLICY
        self._wait = _Wait.NOTHING
        return [Refused(kind, text)]
