"""A token service on a store and at a provider that fail when a test says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from bridge.errors import SignInUnsaved, StoreUnavailable, UpstreamRefused
from bridge.model import AccessToken, Account
from bridge.notices import Notice, NoticeBus
from bridge.oauth.base import Provider
from bridge.tokens.service import PATIENCE, TokenService, Verify
from bridge.tokens.vault import Vault
from tests.tokens.fakes import ALICE, FailingStore, HandClock, StrictProvider


@dataclass
class World:
    clock: HandClock
    provider: StrictProvider
    store: FailingStore
    vault: Vault
    service: TokenService
    notices: list[Notice]
    providers: dict[str, Provider]

    async def sign_in(self, account: Account = ALICE) -> AccessToken:
        tokens = self.provider.issue()
        await self.service.keep(account, tokens)
        return tokens.access

    @asynccontextmanager
    async def refreshing(self) -> AsyncIterator[asyncio.Task[AccessToken]]:
        """A refresh for ALICE that has reached the provider, which answers at the end of the body."""
        self.provider.entered.clear()
        self.provider.gate.clear()
        async with asyncio.TaskGroup() as group:
            refresh = group.create_task(self.service.access_token(ALICE))
            await self.provider.entered.wait()
            yield refresh
            self.provider.gate.set()

    async def refresh_onto_a_full_disk(self) -> None:
        await self.sign_in()
        self.clock.advance(4000)
        self.store.is_full = True
        with pytest.raises(StoreUnavailable):
            await self.service.access_token(ALICE)

    async def sign_in_onto_a_full_disk(self) -> AccessToken:
        """The provider has redeemed the code, so it cannot be used again."""
        self.store.is_full = True
        tokens = self.provider.issue()
        with pytest.raises(SignInUnsaved, match="the disk is full"):
            await self.service.keep(ALICE, tokens)
        return tokens.access

    def heard(self, kind: type) -> int:
        return sum(isinstance(notice, kind) for notice in self.notices)


async def mailbox_opens(account: Account, token: AccessToken) -> None:
    pass


async def mailbox_refuses(account: Account, token: AccessToken) -> None:
    raise UpstreamRefused("not yours")


def sign_in_url(address: str) -> str:
    return f"http://localhost:3017/sign-in/{address}"


@asynccontextmanager
async def world(
    store: FailingStore | None = None,
    clock: HandClock | None = None,
    verify: Verify = mailbox_opens,
    patience: float = PATIENCE,
) -> AsyncIterator[World]:
    clock = clock or HandClock()
    store = store or FailingStore()
    provider, bus, vault = StrictProvider(clock), NoticeBus(), Vault(store)
    notices: list[Notice] = []
    bus.on_notice(notices.append)
    providers: dict[str, Provider] = {"acme": provider}
    service = TokenService(vault, providers, clock, bus, sign_in_url, verify, patience=patience)
    async with service.running():
        yield World(clock, provider, store, vault, service, notices, providers)
