"""How many accounts are in which state, for monitoring. Anybody may ask, so they are counted once a minute at most."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

from bridge.clock import Clock
from bridge.control.contract import AccountStatus

COUNT_EVERY = 60.0
"""Seconds. Each account is looked up in the store, for which logins wait, too: with 5,000 that takes a second."""
PATIENCE = 5.0
"""Seconds for one count: Prometheus waits ten for all numbers, and most do not depend on the store."""


class AccountCounts:
    """Counts the accounts that `look` returns, which is called when somebody asks."""

    def __init__(self, look: Callable[[], Awaitable[tuple[AccountStatus, ...]]], clock: Clock) -> None:
        self._look = look
        self._clock = clock
        self._counting = asyncio.Lock()
        self._keep_until = float("-inf")
        self._counts: Mapping[str, int] | None = None

    async def counts(self) -> Mapping[str, int] | None:
        """By state, at most a minute old; None if the store was too slow to count them."""
        async with self._counting:
            if self._clock.monotonic() >= self._keep_until:
                self._keep_until, self._counts = self._clock.monotonic() + COUNT_EVERY, None
                with suppress(TimeoutError):
                    async with asyncio.timeout(PATIENCE):
                        self._counts = Counter(account.state.value for account in await self._look())
            return self._counts
