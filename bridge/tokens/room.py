"""How many sign-ins there may be: under way in all, and in vain by one OS user."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from bridge.advice.said import said
from bridge.clock import Clock
from bridge.errors import LimitReached

PENDING_LIMIT = 1000
"""Sign-ins under way; addresses below a `*@domain` pattern are without number, and anybody on this machine may ask."""
SHARE = 50
"""Of one OS user in ten minutes, under way or come to nothing: each may ask the provider, and its end is told to the
administrator. More than a person presses the button for in vain."""
SHARE_SECONDS = 600.0


class Room:
    """One that is about to begin counts as well: store and provider take their time, and others come meanwhile."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._beginning: Counter[str] = Counter()
        """By asker: those for which the store or the provider has yet to answer."""
        self._begun: dict[str, list[float]] = {}
        """By asker, monotonic: when those began that have come to no good end. Of those who are not known nothing is
        noted, since they are one."""

    @contextmanager
    def for_one_more(self, asker: str, under_way: int) -> Iterator[None]:
        """Around its beginning, and noted() within. `under_way`: of everybody. Raises: LimitReached."""
        if asker and len(self._lately(asker)) + self._beginning[asker] >= SHARE:
            raise LimitReached(
                said(
                    "you have begun {number} sign-ins within ten minutes that have come to nothing; try again later",
                    number=SHARE,
                )
            )
        if under_way + self._beginning.total() >= PENDING_LIMIT:
            raise LimitReached(said("{number} sign-ins are under way", number=PENDING_LIMIT))
        self._beginning[asker] += 1
        try:
            yield
        finally:
            self._beginning -= Counter([asker])  # "-=" drops an asker whose count is 0

    def noted(self, asker: str) -> None:
        """A sign-in has begun."""
        if asker:
            self._begun.setdefault(asker, []).append(self._clock.monotonic())

    def gone_well(self, asker: str) -> None:
        """One of them has come to a good end."""
        if begun := self._lately(asker):
            begun.pop()

    def _lately(self, asker: str) -> list[float]:
        since = self._clock.monotonic() - SHARE_SECONDS
        begun = [at for at in self._begun.pop(asker, []) if at > since]
        if begun:
            self._begun[asker] = begun
        return begun
