"""A bounded dictionary whose entries end by themselves: results, sign-ins, sessions."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

from bridge.clock import Clock

V = TypeVar("V")


class Expiring(Generic[V]):
    """Keys are random and secret, or worthless. Beyond the limit the oldest entry goes."""

    def __init__(self, clock: Clock, *, limit: int, life: float) -> None:
        """`life` in seconds, by the monotonic clock."""
        self._clock = clock
        self._limit = limit
        self._life = life
        self._entries: OrderedDict[str, tuple[float, V]] = OrderedDict()

    def add(self, key: str, value: V) -> None:
        """Keep the value for its life from now on."""
        self._entries.pop(key, None)
        self._entries[key] = (self._clock.monotonic() + self._life, value)
        while len(self._entries) > self._limit:
            self._entries.popitem(last=False)

    def get(self, key: str) -> V | None:
        """The value, unless it was never there, has expired or made room."""
        now = self._clock.monotonic()
        while self._entries and next(iter(self._entries.values()))[0] <= now:  # all live equally long: oldest first
            self._entries.popitem(last=False)
        entry = self._entries.get(key)
        return None if entry is None else entry[1]

    def take(self, key: str) -> V | None:
        """The same, for the last time."""
        value = self.get(key)
        self._entries.pop(key, None)
        return value
