"""Statuses that mean "later", and how long a host wants to be left alone: Retry-After (RFC 9110 section 10.2.3)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime

from bridge.advice.said import said
from bridge.errors import ProviderNotAsked

LONGEST = 900.0
"""Seconds. A host that asks for more is asked again after this: a header made up by a gateway must not stop the
mail."""

_LATER = frozenset({408, 425, 429})
"""Below 500: RFC 9110 section 15.5.9, RFC 8470 section 5.2, RFC 6585 section 4."""


def says_later(status: int) -> bool:
    """True for an HTTP status that does not answer the request: the same request may be answered a while later."""
    return status >= 500 or status in _LATER


class RetryAfter:
    """The pauses that one provider's hosts have asked for; thread-safe. In memory only: after a restart a host may be
    asked once too early."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._until: dict[str, float] = {}
        self._lock = threading.Lock()

    def check(self, host: str) -> None:
        """Raises: ProviderNotAsked while the host wants to be left alone."""
        with self._lock:
            left = self._until.get(host, 0.0) - self._monotonic()
        if left > 0:
            raise ProviderNotAsked(
                said(
                    "{host} has asked mail-bridge to wait: it is asked again in {seconds} seconds.",
                    host=host,
                    seconds=f"{left:.0f}",
                ),
                wait=left,
            )

    def note(self, host: str, headers: Mapping[str, str]) -> float:
        """Remember the pause that an error answer of this host asks for. Returns: its seconds; 0 if it asks for
        none."""
        seconds = min(_seconds(headers), LONGEST)
        if seconds > 0:
            with self._lock:
                self._until[host] = max(self._until.get(host, 0.0), self._monotonic() + seconds)
        return max(seconds, 0.0)


def _seconds(headers: Mapping[str, str]) -> float:
    """Seconds from now. A date is compared with the answer's own Date, so that a wrong local clock does not matter."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdecimal():
        return float(value[:9])
    try:
        until = parsedate_to_datetime(value)
        return (until - parsedate_to_datetime(headers.get("Date", ""))).total_seconds()
    except (ValueError, IndexError, OverflowError, TypeError):  # TypeError: one date with a zone, the other without
        return 0.0
