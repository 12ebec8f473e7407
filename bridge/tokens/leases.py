"""The right to refresh one account, among all processes and nodes that share a store."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from bridge.advice.said import said
from bridge.clock import Clock
from bridge.errors import BridgeError, ProviderUnavailable
from bridge.tasks import task_group
from bridge.tokens.vault import Vault

LEASE_SECONDS = 10.0
"""How long a lease lasts unless extended, as it is while a refresh runs. A process that dies holds up the others no
longer than this, and a mail program waits for 30 s."""
LEASE_BEAT = 3.0
"""Seconds between two extensions; a slow disk may miss two of them."""
LEASE_PATIENCE = 30.0
"""Seconds to wait for another process's refresh."""
LEASE_POLL = 0.2
"""Seconds between two tries to get the lease meanwhile."""


class Leases:
    """The leases of this process."""

    def __init__(self, vault: Vault, clock: Clock) -> None:
        self._vault = vault
        self._clock = clock
        self._holder = secrets.token_hex(8)

    @asynccontextmanager
    async def held(self, address: str) -> AsyncIterator[None]:
        """Wait for the lease and keep it. Raises: ProviderUnavailable after LEASE_PATIENCE; StoreUnavailable."""
        deadline = self._clock.monotonic() + LEASE_PATIENCE
        while not await self._vault.acquire_lease(address, self._holder, LEASE_SECONDS):
            if self._clock.monotonic() > deadline:
                raise ProviderUnavailable(
                    said("another mail-bridge has been refreshing {address} for too long", address=address)
                )
            await self._clock.pause(LEASE_POLL)
        try:
            async with task_group() as group:
                beating = group.create_task(self._beat(address))
                try:
                    yield
                finally:
                    beating.cancel()
        finally:
            with suppress(BridgeError):  # otherwise the lease runs out by itself
                await self._vault.release_lease(address, self._holder)

    async def _beat(self, address: str) -> None:
        """Extend the lease again and again; if that fails, the provider's coming answer must still not be dropped."""
        while True:
            await asyncio.sleep(LEASE_BEAT)
            with suppress(BridgeError):
                await self._vault.acquire_lease(address, self._holder, LEASE_SECONDS)
