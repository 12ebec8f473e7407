"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio


class ManualClock:
    """A bridge.clock.Clock. Time passes only in advance() and step()."""

    def __init__(self, now: float = 1_750_000_000.0) -> None:
        self._now = now
        self._monotonic = 1000.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []
        self._fell_asleep = asyncio.Event()

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._now

    def monotonic(self) -> float:
        """Seconds from an arbitrary start."""
        return self._monotonic

    async def sleep_until(self, wall: float) -> None:
        """Return once now() has reached `wall`."""
        while self._now < wall:
            sleeper = (wall, asyncio.get_running_loop().create_future())
            self._sleepers.append(sleeper)
            self._fell_asleep.set()
            try:
                await sleeper[1]
            finally:
                if sleeper in self._sleepers:
                    self._sleepers.remove(sleeper)

    def advance(self, seconds: float) -> None:
        """Let time pass on both clocks; wakes those whose time has come."""
        if seconds < 0:
            raise ValueError("time does not go back; step() sets the wall clock")
        self._monotonic += seconds
        self.step(seconds)

    def step(self, seconds: float) -> None:
        """Set the wall clock forward or back, as an administrator does; the monotonic one does not notice."""
        self._now += seconds
        for wall, woken in self._sleepers:
            if wall <= self._now and not woken.done():
                woken.set_result(None)

    @property
    def sleepers(self) -> int:
        """How many wait in sleep_until()."""
        return sum(not woken.done() for _, woken in self._sleepers)

    async def until_asleep(self, count: int = 1) -> None:
        """Return once so many wait in sleep_until(): only then does advance() mean something to them."""
        while self.sleepers < count:
            self._fell_asleep.clear()
            await self._fell_asleep.wait()
