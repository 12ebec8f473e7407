"""Wall and monotonic seconds, and pause; tests bring their own."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """What time it is; the only source of time for code whose behaviour depends on it."""

    def now(self) -> float:
        """Seconds since the epoch, by the wall clock; may jump."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back."""
        ...

    async def pause(self, seconds: float) -> None:
        """Return after these seconds, whatever happens to the wall clock meanwhile: waiting for a time of day takes an
        hour longer when somebody sets the clock back by one."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds from an arbitrary start."""
        return time.monotonic()

    async def pause(self, seconds: float) -> None:
        """By the loop's monotonic clock; where that one stands still during a suspend, it goes on afterwards."""
        await asyncio.sleep(seconds)
