"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio


class ManualClock:
    """A bridge.clock.Clock. Time passes only in advance() and step()."""

    def __init__(self, now: float = 1_750_000_000.0) -> None:
        self._now = now
        self._monotonic = 1000.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []
        """Deadlines by the wall clock."""
        self._pauses: list[tuple[float, asyncio.Future[None]]] = []
        """Deadlines by the monotonic clock."""
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
            await self._sleep(self._sleepers, wall)

    async def pause(self, seconds: float) -> None:
        """Return once monotonic() is so much later."""
        deadline = self._monotonic + seconds
        while self._monotonic < deadline:
            await self._sleep(self._pauses, deadline)

    async def _sleep(self, sleepers: list[tuple[float, asyncio.Future[None]]], deadline: float) -> None:
        sleeper = (deadline, asyncio.get_running_loop().create_future())
        sleepers.append(sleeper)
        self._fell_asleep.set()
        try:
            await sleeper[1]
        finally:
            sleepers.remove(sleeper)

    def advance(self, seconds: float) -> None:
        """Let time pass on both clocks; wakes those whose time has come."""
        if seconds < 0:
            raise ValueError("time does not go back; step() sets the wall clock")
        self._monotonic += seconds
        self._wake(self._pauses, self._monotonic)
        self.step(seconds)

    def step(self, seconds: float) -> None:
        """Set the wall clock forward or back, as an administrator does; the monotonic one does not notice."""
        self._now += seconds
        self._wake(self._sleepers, self._now)

    def _wake(self, sleepers: list[tuple[float, asyncio.Future[None]]], now: float) -> None:
        for deadline, woken in sleepers:
            if deadline <= now and not woken.done():
                woken.set_result(None)

    @property
    def sleepers(self) -> int:
        """How many wait in sleep_until() and pause()."""
        return sum(not woken.done() for _, woken in (*self._sleepers, *self._pauses))

    async def until_asleep(self, count: int = 1) -> None:
        """Return once so many wait: only then does advance() mean something to them."""
        while self.sleepers < count:
            self._fell_asleep.clear()
            await self._fell_asleep.wait()
