"""This machine's clock against the providers' (pure)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC
from email.utils import parsedate_to_datetime

from bridge.control.contract import Finding
from bridge.doctor.findings import failed, ok, skipped

TOLERANCE = 300.0
"""Seconds; beyond it providers refuse signed requests and we misjudge the life of tokens (RFC 7519 section 4.1.4 has
"a few minutes")."""

RIGHT = "{seconds} s off the time of the providers, which is close enough"
AHEAD = (
    "{seconds} s ahead of the time of the providers: set this machine's clock and let it follow a time server; until "
    "then, valid tokens are taken for expired"
)
BEHIND = (
    "{seconds} s behind the time of the providers: set this machine's clock and let it follow a time server; until "
    "then, expired tokens are taken for valid"
)
NOT_TOLD = "no provider has told the time: none was reached, or none is on another machine"


def skew(date_header: str, asked: float, answered: float) -> float | None:
    """Seconds by which our clock is ahead of a server's `Date` (RFC 9110 section 6.6.1); None if that is no date.

    Args: asked, answered, our own time around the answer, seconds since the epoch.
    """
    try:
        theirs = parsedate_to_datetime(date_header)
    except (ValueError, IndexError, OverflowError, TypeError):
        return None
    if theirs.tzinfo is None:
        theirs = theirs.replace(tzinfo=UTC)
    seconds = theirs.timestamp()
    # Date has whole seconds, and the answer was made at some time in between: within these bounds our clock is right.
    if asked > seconds + 1:
        return asked - seconds - 1
    return min(answered - seconds, 0.0)


def clock_finding(skews: Iterable[float]) -> Finding:
    """Judged by the server that agrees best with us: one proxy with a wrong clock is no reason to mistrust ours."""
    found = min(skews, key=abs, default=None)
    if found is None:
        return skipped("clock", "", NOT_TOLD)
    if abs(found) <= TOLERANCE:
        return ok("clock", "", RIGHT, seconds=round(abs(found)))
    return failed("clock", "", AHEAD if found > 0 else BEHIND, seconds=round(abs(found)))
