"""A bounded dictionary whose entries expire: results, sign-ins, sessions."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

from bridge.clock import Clock
from bridge.shares import Shares

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class _Entry(Generic[V]):
    until: float
    value: V
    owner: str


class Expiring(Generic[V]):
    """Keys are random and secret, or worthless. Beyond the limit, the oldest entry of the owner with the most is
    dropped."""

    def __init__(self, clock: Clock, *, limit: int, life: float) -> None:
        """`life` in seconds, by the monotonic clock."""
        self._clock = clock
        self._limit = limit
        self._life = life
        self._entries: OrderedDict[str, _Entry[V]] = OrderedDict()
        self._shares = Shares()

    def add(self, key: str, value: V, owner: str = "") -> None:
        """Keep the value for its life from now on. `owner`, the OS user who has caused it; empty if not known."""
        self._remove(key)
        self._entries[key] = _Entry(self._clock.monotonic() + self._life, value, owner)
        self._shares.add(owner, key)
        while len(self._entries) > self._limit:
            _, oldest = self._shares.next_to_go()
            self._remove(oldest)

    def get(self, key: str) -> V | None:
        """The value; None if it was never there, has expired or was dropped."""
        now = self._clock.monotonic()
        while self._entries:
            oldest = next(iter(self._entries))  # all live equally long
            if self._entries[oldest].until > now:
                break
            self._remove(oldest)
        entry = self._entries.get(key)
        return None if entry is None else entry.value

    def take(self, key: str) -> V | None:
        """The same, and remove it."""
        value = self.get(key)
        self._remove(key)
        return value

    def _remove(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._shares.remove(entry.owner, key)
