"""We are the client of the upstream until authenticated: EHLO, STARTTLS, AUTH with a token."""

from __future__ import annotations

import re
from enum import Enum, auto

from bridge.advice.said import said
from bridge.errors import ProtocolViolation
from bridge.protocols import sasl
from bridge.protocols.base import Credentials, Event, Ready, RefusalKind, Refused, Send, StartTLS
from bridge.protocols.lines import LineBuffer
from bridge.protocols.refusals import judged
from bridge.protocols.smtp.extensions import upstream_extensions

LINE_LIMIT = 8192
"""Octets of one line; RFC 5321 section 4.5.3.1.5 has 512, an error challenge may be longer."""
REPLY_LINES = 100
"""Lines of one reply."""
REPLY_LIMIT = 16 * 1024
"""Octets of one reply: we search it for its meaning, show it and log it, and before TLS anybody may have written it."""

_REPLY = re.compile(rb"(\d{3})(?:([ -])([^\r\n]*))?\r?\n?\Z")
NAMELESS = "[127.0.0.1]"
"""A name for EHLO that every server accepts."""
NAME_REFUSED = frozenset({501, 504, 550})
"""Reply codes to EHLO that may be about the client's name (RFC 5321 sections 4.1.4 and 4.3.2)."""
_CLIENT_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,253}[A-Za-z0-9])?|\[[A-Za-z0-9.:]{2,64}\]")


class _Wait(Enum):
    """Which answer of the server comes next."""

    GREETING = auto()
    EHLO = auto()
    STARTTLS = auto()
    PROMPT = auto()
    """The 334 that asks for the token."""
    VERDICT = auto()
    NOTHING = auto()


class SmtpClient:
    """See ClientMachine."""

    def __init__(self, credentials: Credentials, *, starttls: bool, client_name: str = "") -> None:
        """`client_name`: what the mail client called itself; sent on if servers can be expected to accept it."""
        self.extensions: frozenset[str] = frozenset()
        """The EHLO lines that the server sent inside TLS, without AUTH; complete once Ready was given."""
        self._credentials = credentials
        self._is_tls = not starttls
        self._client_name = client_name if _CLIENT_NAME.fullmatch(client_name) else NAMELESS
        self._buffer = LineBuffer(LINE_LIMIT)
        self._wait = _Wait.GREETING
        self._reply: list[str] = []
        self._reply_octets = 0
        self._refusal = ""
        """The server's refusal of our name in EHLO, while another name is tried."""
        self._answered_challenge = False
        self._trouble = ""

    def start(self) -> list[Event]:
        """The server greets first."""
        return []

    def receive(self, data: bytes) -> list[Event]:
        """Take the next bytes from the upstream; see ClientMachine.

        Source: RFC 5321 section 4.2; RFC 3207; RFC 4954 section 4; RFC 7628. AUTH and the token are two steps, as in
        Microsoft's sample.
        """
        self._buffer.append(data)
        events: list[Event] = []
        while self._wait is not _Wait.NOTHING and (line := self._buffer.next_line()) is not None:
            match = _REPLY.match(line)
            if match is None:
                raise ProtocolViolation("the server's reply is not of SMTP")
            self._reply.append((match[3] or b"").decode("utf-8", "replace"))
            self._reply_octets += len(line)
            if match[2] != b"-":
                reply, self._reply, self._reply_octets = self._reply, [], 0
                events += self._take(int(match[1]), reply)
            elif len(self._reply) > REPLY_LINES or self._reply_octets > REPLY_LIMIT:
                raise ProtocolViolation("the server's reply does not end")
        return events

    def closed(self) -> list[Event]:
        """Always a violation: a server that shuts down says 421 first, and that was Refused. If the server had refused
        our EHLO, that is the reason given."""
        if self._refusal:
            raise ProtocolViolation(self._refusal)
        raise ProtocolViolation(said("the server closed the connection before the login was done"))

    def tls_started(self) -> list[Event]:
        """Send EHLO anew: what the server said before TLS must not be trusted (RFC 3207 section 4.2)."""
        self._is_tls = True
        return self._hello()

    def _take(self, code: int, reply: list[str]) -> list[Event]:
        match self._wait, code:
            case _Wait.GREETING, 220:
                return self._hello()
            case _Wait.EHLO, 250:
                self._refusal = ""
                return self._greeted(reply[1:])
            case _Wait.STARTTLS, 220:
                if len(self._buffer):
                    raise ProtocolViolation("the server sent plaintext behind STARTTLS")
                return [StartTLS(b"")]
            case _Wait.PROMPT, 334:
                self._wait = _Wait.VERDICT
                return [sasl.token_line(self._credentials)]
            case _Wait.VERDICT, 334 if not self._answered_challenge:
                self._answered_challenge = True
                self._trouble = sasl.trouble_in(reply[-1].encode("utf-8"))
                return [sasl.line_after_challenge(self._credentials)]
            case _Wait.VERDICT, 235:
                self._wait = _Wait.NOTHING
                return [Ready(self._buffer.leftover(), reply[-1].encode("utf-8"))]
            case _ if 400 <= code <= 599:
                return self._refused(code, reply)
            case _:
                raise ProtocolViolation(f"the server's reply {code} makes no sense")

    def _hello(self) -> list[Event]:
        self._wait = _Wait.EHLO
        return [Send(f"EHLO {self._client_name}\r\n".encode("ascii"))]

    def _greeted(self, lines: list[str]) -> list[Event]:
        words = [line.upper().split() for line in lines]
        if not self._is_tls:
            if ["STARTTLS"] not in words:
                raise ProtocolViolation("the server does not offer STARTTLS; without TLS no token is sent")
            self._wait = _Wait.STARTTLS
            return [Send(b"STARTTLS\r\n")]
        mechanism = self._credentials.mechanism
        sasl.check_offer(mechanism, (name for line in words if line[:1] == ["AUTH"] for name in line[1:]))
        self.extensions = upstream_extensions(lines)
        self._wait = _Wait.PROMPT
        return [Send(f"AUTH {mechanism.sasl_name}\r\n".encode("ascii"))]

    def _refused(self, code: int, reply: list[str]) -> list[Event]:
        text = f"{code} " + " ".join(reply)
        if self._wait is _Wait.STARTTLS and code >= 500:
            raise ProtocolViolation(f"the server refuses STARTTLS, and without TLS no token is sent: {text}")
        if self._wait is _Wait.EHLO and code >= 500:
            self._refusal = f"the server refuses EHLO: {text}"
            if code not in NAME_REFUSED or self._client_name == NAMELESS:
                raise ProtocolViolation(self._refusal)
            self._client_name = NAMELESS
            return self._hello()
        kind, text = judged(text, self._trouble)
        may_be_token = kind is RefusalKind.TOKEN and self._wait is _Wait.VERDICT  # even with a 4xx, the words decide
        if self._wait is _Wait.GREETING or (code < 500 and not may_be_token):
            kind = RefusalKind.BUSY  # a "no" in place of the greeting is about our host, whatever its words
        elif kind is RefusalKind.TOKEN and (not may_be_token or 500 <= code != 535):
            kind = RefusalKind.POLICY  # the code is not about credentials, or came before the server had seen them
        self._wait = _Wait.NOTHING
        return [Refused(kind, text)]
