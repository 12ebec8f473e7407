"""Refreshes tokens in the background before they expire, and after a suspend."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable
from functools import partial

from bridge.clock import Clock
from bridge.errors import BridgeError
from bridge.model import Account
from bridge.observe.logs import detail
from bridge.tokens.service import TokenService

LOOK_EVERY = 30.0
"""Seconds between two looks, by the monotonic clock: a wall clock that is set back does not stop them, and the first
look after a suspend or a step ahead renews what is due by then."""
EARLIEST, SPREAD = 0.58, 0.10
"""A token is renewed with 58 to 68 % of its life left, each account at its own point, so that an office that signed in
at nine does not ask its provider for a hundred tokens at half past. So a login never has to wait for a refresh."""
IN_USE = 2 * 3600.0
"""Seconds since the last login for which an account counts as in use; a CRM polls every few minutes."""
BACKOFF_FIRST, BACKOFF_LAST = 30.0, 900.0
"""Seconds until an account whose renewal failed is tried again; doubled each time. A login does not wait for it."""


class Renewal:
    """Keeps the tokens of accounts in use fresh."""

    def __init__(self, tokens: TokenService, find: Callable[[str], Account | None], clock: Clock) -> None:
        """`find`: an address to its account; None once the configuration no longer has it."""
        self._tokens = tokens
        self._find = find
        self._clock = clock
        self._waits: dict[str, tuple[float, float]] = {}
        """Of accounts that failed: when to try again (monotonic), and the wait after that."""
        self._under_way: set[str] = set()
        """Providers whose accounts are still being renewed since an earlier look: at a provider that hangs, each
        account takes 15 s."""

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._look(group)
                await self._clock.pause(LOOK_EVERY)

    async def look(self) -> None:
        """Renew what is due now, and wait for it."""
        async with asyncio.TaskGroup() as group:
            await self._look(group)

    async def _look(self, group: asyncio.TaskGroup) -> None:
        """Renews the accounts of a provider one after the other, the providers in parallel: one that hangs holds up
        only its own accounts, and no look."""
        await self._tokens.save_unsaved()
        await self._tokens.notice_removals()
        by_provider: dict[str, list[Account]] = {}
        for address in self._tokens.used_within(IN_USE):
            if (account := self._find(address)) is not None:
                by_provider.setdefault(account.provider, []).append(account)
        for provider, accounts in by_provider.items():
            if provider not in self._under_way:
                self._under_way.add(provider)
                renewing = group.create_task(self._renew(accounts))
                renewing.add_done_callback(partial(self._over, provider))

    def _over(self, provider: str, _: object) -> None:
        self._under_way.discard(provider)

    async def _renew(self, accounts: list[Account]) -> None:
        for account in accounts:
            not_before, wait = self._waits.get(account.address, (0.0, BACKOFF_FIRST))
            if self._clock.monotonic() < not_before:
                continue
            if await self._is_renewed(account):
                self._waits.pop(account.address, None)
            else:
                self._waits[account.address] = (self._clock.monotonic() + wait, min(2 * wait, BACKOFF_LAST))

    async def _is_renewed(self, account: Account) -> bool:
        """False if it has to be tried again; the service has logged why."""
        share = share_of(account.address)
        try:
            token = await self._tokens.renew(account, share)
        except BridgeError as problem:
            detail("renewal.failed", account=account.address, reason=str(problem))
            return False
        return token.is_fresh(self._clock.now(), share)  # if not, it is the old token: the provider is unavailable


def share_of(address: str) -> float:
    """The share of its token's life at which this account is renewed: always the same for the same address."""
    return EARLIEST + SPREAD * (zlib.crc32(address.encode()) % 1000) / 1000
