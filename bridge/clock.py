"""The clock: wall and monotonic seconds, and pause; tests have their own."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """The only source of time for code whose behaviour depends on it."""

    def now(self) -> float:
        """Seconds since the epoch, by the wall clock; may jump."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back."""

    async def pause(self, seconds: float) -> None:
        """Return after these seconds, whatever happens to the wall clock meanwhile: a wait until a time of day would
        take an hour longer if somebody set the clock back by an hour."""


class SystemClock:
    """The machine's clocks."""

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds from an arbitrary start."""
        return time.monotonic()

    async def pause(self, seconds: float) -> None:
        """By the loop's monotonic clock; if that clock stops during a suspend, the wait goes on afterwards."""
        await asyncio.sleep(seconds)
