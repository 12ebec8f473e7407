"""The memory store's leases, on a clock that a test moves."""

from __future__ import annotations

from bridge.clock import SystemClock
from bridge.stores.memory import MemoryStore


class StandingClock(SystemClock):
    """Moves only when a test moves it."""

    time = 1000.0

    def monotonic(self) -> float:
        return self.time


async def test_a_lease_runs_to_its_last_instant_and_each_extension_counts_from_now() -> None:
    clock = StandingClock()
    store = MemoryStore(clock)
    assert await store.acquire_lease("a", "node-1", 10)
    clock.time += 9.5
    assert not await store.acquire_lease("a", "node-2", 10)
    assert await store.acquire_lease("a", "node-1", 10)
    clock.time += 9.5
    assert not await store.acquire_lease("a", "node-2", 10)
    clock.time += 0.5
    assert await store.acquire_lease("a", "node-2", 10)
    assert not await store.acquire_lease("a", "node-1", 10)
