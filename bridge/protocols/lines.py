"""LineBuffer: splits a stream into lines, bounded and in linear time, and returns what is left over."""

from __future__ import annotations

import re

from bridge.errors import ProtocolViolation

SPEAKS_TLS = "this port begins without TLS: set the mail program to no encryption, or to STARTTLS where the port has it"
SPEAKS_PROXY = "a balancer sends PROXY headers to this port: give its address as `proxy_protocol_from`, or stop them"
SPEAKS_HTTP = (
    "this is HTTP: a web page has sent a browser to this port, or a program that watches ports asks for a page"
)

_TLS = re.compile(rb"\x16\x03|[\x80-\xff].\x01\x03", re.DOTALL)
"""A TLS handshake record (RFC 8446 section 5.1), or the SSL 2.0 ClientHello with which programs built on OpenSSL 0.9.8
or Java 6 begin (RFC 5246 appendix E.2)."""
_PROXY = re.compile(rb"\0\r\n|PROXY (?:TCP[46]|UNKNOWN)\b")
"""Lines that only the PROXY protocol sends: the third line of version 2's signature, or version 1's header."""
_HTTP = re.compile(rb"(?:CONNECT|DELETE|GET|HEAD|OPTIONS|PATCH|POST|PUT|TRACE) [^ ]+ HTTP/\d")
"""A request line (RFC 9112 section 3). Any web page can make a browser post a form to this port, and the lines after
the headers are of that page's choice. A login among them would come from the computer of a person who only looked at
the page."""


class LineTooLong(ProtocolViolation):
    """A line over the limit."""


class LineBuffer:
    """Bytes received but not parsed yet; lines and blocks of a given size are taken from the front."""

    __slots__ = ("_bytes", "_limit", "_searched")

    def __init__(self, limit: int) -> None:
        """`limit`: the most octets of one line, its line end included."""
        self._bytes = bytearray()
        self._limit = limit
        self._searched = 0  # octets known to hold no line end, so that each octet is searched only once

    def __len__(self) -> int:
        return len(self._bytes)

    def append(self, data: bytes) -> None:
        """Add what has arrived, however it was cut."""
        self._bytes += data

    def next_line(self) -> bytes | None:
        """The next line with its line end (CRLF or a bare LF); None while it is incomplete.

        Raises: LineTooLong, as soon as the line is certain to exceed the limit.
        """
        end = self._bytes.find(b"\n", self._searched, self._limit)
        if end < 0:
            self._searched = min(len(self._bytes), self._limit)
            if len(self._bytes) >= self._limit:
                raise LineTooLong(f"a line of more than {self._limit} octets")
            return None
        return self._take(end + 1)

    def next_block(self, size: int) -> bytes | None:
        """The next `size` octets, whatever they are; None while there are fewer."""
        return self._take(size) if len(self._bytes) >= size else None

    def leftover(self) -> bytes:
        """Everything that is left; the buffer is empty afterwards."""
        return self._take(len(self._bytes))

    def _take(self, count: int) -> bytes:
        taken = bytes(self._bytes[:count])
        del self._bytes[:count]  # moves a pointer, not the rest
        self._searched = 0
        return taken


class ClientLines(LineBuffer):
    """What a mail client says before its login. Speakers of other protocols are recognized, because a client that
    begins with TLS, for instance, would wait for an answer for ever."""

    __slots__ = ()

    def next_line(self) -> bytes | None:
        """See LineBuffer. Raises: ProtocolViolation also for a TLS handshake, for a PROXY protocol header where none is
        expected, and for HTTP."""
        if _TLS.match(self._bytes):
            raise ProtocolViolation(SPEAKS_TLS)
        line = super().next_line()
        if line is not None and _PROXY.match(line):
            raise ProtocolViolation(SPEAKS_PROXY)
        if line is not None and _HTTP.match(line):
            raise ProtocolViolation(SPEAKS_HTTP)
        return line
