"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio


class ManualClock:
    """A bridge.clock.Clock. Time passes only in advance() and step()."""

    def __init__(self, now: float = 1_750_000_000.0) -> None:
        self._now = now
        self._monotonic = 1000.0
        self._pauses: list[tuple[float, asyncio.Future[None]]] = []
        """Deadlines by the monotonic clock."""
        self._fell_asleep = asyncio.Event()

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._now

    def monotonic(self) -> float:
        """Seconds from an arbitrary start."""
        return self._monotonic

    async def pause(self, seconds: float) -> None:
        """Return once monotonic() has advanced by this much."""
        deadline = self._monotonic + seconds
        while self._monotonic < deadline:
            sleeper = (deadline, asyncio.get_running_loop().create_future())
            self._pauses.append(sleeper)
            self._fell_asleep.set()
            try:
                await sleeper[1]
            finally:
                self._pauses.remove(sleeper)

    def advance(self, seconds: float) -> None:
        """Let time pass on both clocks, and wake the sleepers whose deadline has come."""
        if seconds < 0:
            raise ValueError("time does not go back; step() sets the wall clock")
        self._monotonic += seconds
        self._now += seconds
        for deadline, woken in self._pauses:
            if deadline <= self._monotonic and not woken.done():
                woken.set_result(None)

    def step(self, seconds: float) -> None:
        """Set the wall clock forward or back, as an administrator does; the monotonic clock does not change."""
        self._now += seconds

    @property
    def sleepers(self) -> int:
        """How many tasks wait in pause()."""
        return sum(not woken.done() for _, woken in self._pauses)

    async def until_asleep(self, count: int = 1) -> None:
        """Return once so many tasks wait in pause(): advance() has no effect on them earlier."""
        while self.sleepers < count:
            self._fell_asleep.clear()
            await self._fell_asleep.wait()
