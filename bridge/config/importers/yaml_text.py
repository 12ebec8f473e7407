"""Writes YAML with comments, which PyYAML cannot: what is read back is what was written."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence

WIDTH = 110
"""Columns of a comment."""

_NO_BREAK = "\u00a0"

Scalar = str | int | bool
Value = Scalar | Sequence[str] | Mapping[str, Scalar]

_PLAIN = re.compile(r"[A-Za-z/](?:[A-Za-z0-9._/@+=?&%~-]|:(?=[A-Za-z0-9/]))*")
_ADDRESS = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}:[0-9]{1,5}")
_REFERENCE = re.compile(r"\$\{[A-Za-z0-9_:./-]+\}")
_OTHER_MEANINGS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
"""Words that other readers of YAML 1.1 take for truth values."""


class Reference(str):
    """A `${…}` that is meant as one; in any other text `${` is written as `$${`."""

    __slots__ = ()


def scalar(value: Scalar) -> str:
    """One value, in quotes where it needs them."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Reference) and _REFERENCE.fullmatch(value):
        return str(value)
    text = str(value) if isinstance(value, Reference) else value.replace("${", "$${")
    if (_PLAIN.fullmatch(text) or _ADDRESS.fullmatch(text)) and text.lower() not in _OTHER_MEANINGS:
        return text
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(character: str) -> str:
    if character in {'"', "\\"}:
        return "\\" + character
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\x{code:02X}" if code < 0x100 else f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}"


def entry(key: str, value: Value, indent: int = 0) -> list[str]:
    """The lines of `key: value`; a mapping stands on one line, a list has a line for each item."""
    start = " " * indent + scalar(key) + ":"
    if isinstance(value, Mapping):
        return [f"{start} {flow(value)}"]
    if isinstance(value, (str, int)):
        return [f"{start} {scalar(value)}"]
    return [start, *(f"{' ' * indent}  - {scalar(item)}" for item in value)]


def flow(value: Mapping[str, Scalar]) -> str:
    """`{key: value, …}`: for references in quotes, since their braces mean something here."""
    return "{" + ", ".join(f"{scalar(key)}: {_within_braces(item)}" for key, item in value.items()) + "}"


def _within_braces(value: Scalar) -> str:
    text = scalar(value)
    needs_quotes = not text.startswith('"') and any(c in text for c in "{}[],?&%=")
    return f'"{text}"' if needs_quotes else text


def comment(texts: Iterable[str], indent: int = 0, *, bullet: bool = False) -> list[str]:
    """Each text as lines that begin with `#`, one paragraph each; a line break within it cannot end the comment.

    No-break spaces stay, so that no line begins with the colon or the question mark of a French sentence.
    """
    start = " " * indent + "# "
    lines: list[str] = []
    for text in texts:
        printable = "".join(c if c.isprintable() or c == _NO_BREAK else " " for c in text)
        shown = re.sub(" +", " ", printable).strip()
        lines += textwrap.wrap(
            shown,
            WIDTH,
            initial_indent=start + ("- " if bullet else ""),
            subsequent_indent=start + ("  " if bullet else ""),
            break_long_words=False,
            break_on_hyphens=False,
        )
    return lines
