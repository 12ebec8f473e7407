"""Tags, atoms, quoted strings, literals."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bridge.errors import ProtocolViolation

_TAG = re.compile(rb'[^\x00-\x20\x7f-\xff(){%*"\\+]{1,64}')
"""RFC 9051 section 9: ASTRING-CHAR without "+"; 64 octets are more than any client uses."""

_LITERAL = re.compile(rb"(?:^|[ (])\{(\d{1,10})(\+?)\}\Z")
"""At the end of a line, after a space or a parenthesis: the end of a password such as `abc{3}` is no literal."""

_BLANKS = re.compile(rb" *")
_BARE = re.compile(rb'[^ "\r\n\x00(][^ \r\n\x00]*')
"""More than RFC 9051 allows in an atom: clients forget to quote passwords with % or *, but a space still ends them."""
_QUOTED = re.compile(rb'"((?:[^"\\\r\n\x00]|\\[^\r\n\x00])*)"(?=[ )]|\Z)')
_ESCAPED = re.compile(rb'\\(["\\])')


@dataclass(frozen=True, slots=True)
class Literal:
    """The announcement of a counted block: `{6}` or `{6+}` (RFC 7888)."""

    size: int
    """Octets."""
    is_synchronizing: bool
    """The client waits for our `+` before it sends the octets."""


class BadSyntax(ProtocolViolation):
    """A command cannot be understood; it is answered with BAD and the connection goes on."""


def is_tag(word: bytes) -> bool:
    """True if the word may be the tag of a command."""
    return _TAG.fullmatch(word) is not None


def literal_at_end(line: bytes) -> Literal | None:
    """The literal that this line (without its end) announces, or None."""
    match = _LITERAL.search(line)
    return None if match is None else Literal(int(match[1]), not match[2])


def without_literal(line: bytes) -> bytes:
    """The line up to the announcement."""
    return line[: line.rindex(b"{")]


def strings(parts: Sequence[bytes]) -> list[bytes]:
    """The astrings of a command's arguments.

    Args: parts, alternating: text (even places; bare words and quoted strings), a literal's octets (odd places).
    Returns: their values. Raises: BadSyntax.
    """
    found: list[bytes] = []
    for place, part in enumerate(parts):
        if place % 2:
            found.append(part)
        else:
            found += _words(part)
    return found


def _words(text: bytes) -> list[bytes]:
    found = []
    position = _end_of_blanks(text, 0)
    while position < len(text):
        if (quoted := _QUOTED.match(text, position)) is not None:
            # RFC 9051 allows a backslash only before a quote or a backslash; elsewhere the client means a backslash.
            found.append(_ESCAPED.sub(rb"\1", quoted[1]))
            position = quoted.end()
        elif (bare := _BARE.match(text, position)) is not None:
            found.append(bare[0])
            position = bare.end()
        else:
            raise BadSyntax("the arguments cannot be understood")
        position = _end_of_blanks(text, position)
    return found


def _end_of_blanks(text: bytes, start: int) -> int:
    match = _BLANKS.match(text, start)
    return start if match is None else match.end()
