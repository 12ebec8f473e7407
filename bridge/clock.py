"""Wall and monotonic seconds, pause, sleep_until; tests bring their own."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

WAKE_AT_LEAST_EVERY = 30.0
"""Seconds. A long sleep is cut in pieces, since loop timers stand still while a laptop is suspended."""


class Clock(Protocol):
    """What time it is; the only source of time for code whose behaviour depends on it."""

    def now(self) -> float:
        """Seconds since the epoch, by the wall clock; may jump."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back."""
        ...

    async def sleep_until(self, wall: float) -> None:
        """Return once now() has reached `wall`, also after a suspend or a clock step."""
        ...

    async def pause(self, seconds: float) -> None:
        """Return after these seconds, whatever happens to the wall clock meanwhile: set back by an hour, it would make
        sleep_until() an hour longer."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds from an arbitrary start."""
        return time.monotonic()

    async def sleep_until(self, wall: float) -> None:
        """Sleep in short pieces, looking at the wall clock after each."""
        while (left := wall - time.time()) > 0:  # noqa: ASYNC110  the wall clock sends no events
            await asyncio.sleep(min(left, WAKE_AT_LEAST_EVERY))

    async def pause(self, seconds: float) -> None:
        """By the loop's monotonic clock; where that one stands still during a suspend, it goes on afterwards."""
        await asyncio.sleep(seconds)
