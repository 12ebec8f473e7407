"""Limits on sign-ins: how many may be under way in all, and how many one OS user may begin in vain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from bridge.advice.said import said
from bridge.clock import Clock
from bridge.errors import LimitReached

PENDING_LIMIT = 1000
"""Sign-ins under way: a `*@domain` pattern has countless addresses, and anybody on this machine may begin one."""
SHARE = 50
"""Sign-ins of one OS user in ten minutes that are under way or came to nothing. Each may ask the provider, and the
administrator is told of its end. No person presses the button so often in vain."""
SHARE_SECONDS = 600.0


class SignInLimits:
    """A sign-in that is about to begin counts, too, because store and provider take their time, and others may be begun
    meanwhile."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._beginning: Counter[str] = Counter()
        """By asker: sign-ins for which the store or the provider has yet to answer."""
        self._begun: dict[str, list[float]] = {}
        """By asker, monotonic: when the sign-ins began that have not succeeded. Not noted for unknown askers, who all
        count as one."""

    @contextmanager
    def for_one_more(self, asker: str, under_way: int) -> Iterator[None]:
        """Around the beginning of a sign-in, which calls noted(). `under_way`: sign-ins of all askers. Raises:
        LimitReached."""
        if asker and len(self._lately(asker)) + self._beginning[asker] >= SHARE:
            raise LimitReached(
                said(
                    "you have begun {number} sign-ins within ten minutes without completing them; try again later",
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
        """A sign-in of this asker has succeeded."""
        if begun := self._lately(asker):
            begun.pop()

    def _lately(self, asker: str) -> list[float]:
        since = self._clock.monotonic() - SHARE_SECONDS
        begun = [at for at in self._begun.pop(asker, []) if at > since]
        if begun:
            self._begun[asker] = begun
        return begun
