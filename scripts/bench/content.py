"""What is downloaded and uploaded: mail-like lines that both ends can make, so that every byte can be compared."""

from __future__ import annotations

import base64
import functools
import hashlib
import random
from collections.abc import Iterator

LINE = 78
"""Octets of a line of base64 with its CRLF. No line starts with a dot: nothing is stuffed, by POP3 or by SMTP."""
PERIOD = 53_777 * LINE
"""The lines repeat after 4 MiB; an odd count, so that no relay's buffer size hides a piece that came twice."""
PIECE = 256 * 1024
"""Octets that are handed to a socket at once."""


def whole_lines(octets: int) -> int:
    """The nearest smaller size that ends with a line."""
    return octets // LINE * LINE


@functools.cache
def _lines() -> memoryview:
    """One period, and one piece of the next."""
    source = random.Random("mail-bridge").randbytes(PERIOD // LINE * 57)
    text = base64.b64encode(source)
    period = b"".join(text[at : at + LINE - 2] + b"\r\n" for at in range(0, len(text), LINE - 2))
    return memoryview(period + period[:PIECE])


def piece(position: int, octets: int) -> memoryview:
    """What stands at `position`, one PIECE at most."""
    start = position % PERIOD
    return _lines()[start : start + min(octets, PIECE)]


def pieces(octets: int) -> Iterator[memoryview]:
    """All of it, in order."""
    position = 0
    while position < octets:
        found = piece(position, octets - position)
        yield found
        position += len(found)


@functools.cache
def digest(octets: int, before: bytes = b"", behind: bytes = b"") -> bytes:
    """SHA-256 of that much content between two other texts."""
    digested = hashlib.sha256(before)
    for each in pieces(octets):
        digested.update(each)
    digested.update(behind)
    return digested.digest()


def imap_response(octets: int) -> tuple[bytes, bytes]:
    """What stands before and behind the content in the answer to `A FETCH octets BODY[]`."""
    return f"* 1 FETCH (BODY[] {{{octets}}}\r\n".encode(), b")\r\nA OK done\r\n"


def pop3_response(octets: int) -> tuple[bytes, bytes]:
    """The same for `RETR octets`."""
    return f"+OK {octets} octets\r\n".encode(), b".\r\n"
