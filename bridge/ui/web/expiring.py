"""A bounded dictionary whose entries end by themselves: results, sign-ins, sessions."""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

from bridge.clock import Clock

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class _Entry(Generic[V]):
    until: float
    value: V
    owner: str


class Expiring(Generic[V]):
    """Keys are random and secret, or worthless. Beyond the limit the oldest entry goes, of whoever has the most."""

    def __init__(self, clock: Clock, *, limit: int, life: float) -> None:
        """`life` in seconds, by the monotonic clock."""
        self._clock = clock
        self._limit = limit
        self._life = life
        self._entries: OrderedDict[str, _Entry[V]] = OrderedDict()

    def add(self, key: str, value: V, owner: str = "") -> None:
        """Keep the value for its life from now on. `owner`, the OS user who has caused it; empty if not known."""
        self._entries.pop(key, None)
        self._entries[key] = _Entry(self._clock.monotonic() + self._life, value, owner)
        while len(self._entries) > self._limit:
            ((greedy, _),) = Counter(entry.owner for entry in self._entries.values()).most_common(1)
            del self._entries[next(key for key, entry in self._entries.items() if entry.owner == greedy)]

    def get(self, key: str) -> V | None:
        """The value, unless it was never there, has expired or made room."""
        now = self._clock.monotonic()
        while self._entries and next(iter(self._entries.values())).until <= now:  # all live equally long: oldest first
            self._entries.popitem(last=False)
        entry = self._entries.get(key)
        return None if entry is None else entry.value

    def take(self, key: str) -> V | None:
        """The same, for the last time."""
        value = self.get(key)
        self._entries.pop(key, None)
        return value
