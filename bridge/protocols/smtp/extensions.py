"""Which SMTP extensions our EHLO may offer: only those that every possible upstream honours (RFC 5321 section 2.2)."""

from __future__ import annotations

import re
from collections.abc import Iterable

NOT_PASSED_ON = frozenset({"AUTH", "STARTTLS", "HELP", "ETRN", "VRFY", "EXPN", "ATRN", "TURN"})
"""Extensions that we offer ourselves, or that are of no use to a mail client."""

_SIZE = re.compile(r"[0-9]{1,20}")
"""RFC 1870 section 3."""


def offered_extensions(upstreams: Iterable[frozenset[str] | None]) -> tuple[str, ...]:
    """EHLO lines that hold for all of `upstreams`, sorted; none if one of them is not known yet (None).

    A client need not ask again after AUTH, so what it is told before must be true of the server that it gets.
    """
    known = [_by_keyword(lines) if lines is not None else {} for lines in upstreams]
    if not known:
        return ()
    common = set.intersection(*(set(lines) for lines in known))
    return tuple(sorted(_line(keyword, [lines[keyword] for lines in known]) for keyword in common))


def upstream_extensions(lines: Iterable[str]) -> frozenset[str]:
    """The EHLO lines of an upstream, without NOT_PASSED_ON and X extensions."""
    return frozenset(line for line in lines if _is_passed_on(line))


def _is_passed_on(line: str) -> bool:
    keyword = line.split(" ", 1)[0].upper()
    return bool(keyword) and keyword not in NOT_PASSED_ON and not keyword.startswith(("X", "AUTH="))


def _by_keyword(lines: frozenset[str]) -> dict[str, str]:
    """`SIZE 35882577` as SIZE: 35882577."""
    return {line.split(" ", 1)[0].upper(): line.partition(" ")[2].strip() for line in lines if _is_passed_on(line)}


def _line(keyword: str, parameters: list[str]) -> str:
    if keyword == "SIZE":
        limits = [int(text) for text in parameters if _SIZE.fullmatch(text) and int(text)]  # 0: no limit
        return f"SIZE {min(limits)}" if limits else "SIZE"
    common = set.intersection(*(set(text.upper().split()) for text in parameters))
    return " ".join([keyword, *sorted(common)])
