"""Accounts for which nobody signs in: a token is obtained on demand, once for all who wait, and never with a prompt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from bridge.errors import AuthorizationFailed, BridgeError, GrantRevoked, ProviderRefused, ProviderUnavailable
from bridge.notices import AuthorizationNeeded, RefreshFailed
from bridge.secret import Secret
from bridge.tokens import refresh
from bridge.tokens.renewal import Renewal, share_of
from tests.tokens.fakes import ALICE, SALES, FailingStore, HandClock
from tests.tokens.world import World, world


@asynccontextmanager
async def unattended(store: FailingStore | None = None, clock: HandClock | None = None) -> AsyncIterator[World]:
    async with world(store, clock) as it:
        it.provider.is_unattended = True
        yield it


async def test_the_first_login_obtains_a_token_and_the_next_one_uses_it() -> None:
    async with unattended() as it:
        token = await it.service.access_token(SALES)
        assert await it.service.access_token(SALES) == token
        assert it.provider.subjects == [SALES.subject]
        assert not it.heard(AuthorizationNeeded)
        stored = await it.vault.load(SALES.address)
        assert stored.entry is not None
        assert (stored.entry.tokens.access, stored.entry.tokens.grant.reveal()) == (token, "")


async def test_fifty_first_logins_in_two_processes_make_one_request() -> None:
    clock, store = HandClock(), FailingStore()
    async with unattended(store, clock) as one, unattended(store, clock) as two:
        one.provider.gate.clear()
        async with asyncio.TaskGroup() as group:
            waiting = [group.create_task(one.service.access_token(ALICE)) for _ in range(25)]
            await one.provider.entered.wait()
            waiting += [group.create_task(two.service.access_token(ALICE)) for _ in range(25)]
            await asyncio.sleep(0)
            one.provider.gate.set()
        assert len({task.result().value.reveal() for task in waiting}) == 1
        assert (one.provider.refreshes, two.provider.refreshes) == (1, 0)


async def test_an_expired_token_is_replaced_and_a_stale_one_serves_while_the_provider_is_away() -> None:
    async with unattended() as it:
        first = await it.service.access_token(ALICE)
        it.clock.advance(2000)
        it.provider.problem = ProviderUnavailable("HTTP 500")
        assert await it.service.access_token(ALICE) == first
        it.provider.problem = None
        it.clock.advance(refresh.RETRY_AFTER)
        assert await it.service.access_token(ALICE) != first


async def test_a_configuration_with_other_rights_obtains_anew() -> None:
    async with unattended() as it:
        await it.service.access_token(ALICE)
        it.provider.fingerprint = "two"
        await it.service.access_token(ALICE)
        other = replace(ALICE, subject="other@example.com")
        await it.service.access_token(other)
        assert it.provider.subjects == ["alice@example.com", "alice@example.com", "other@example.com"]
        await it.service.access_token(other)
        assert it.provider.refreshes == 3, "what was obtained fits the configuration of now"


@pytest.mark.parametrize("problem", [GrantRevoked("not allowed: ask the admin"), ProviderRefused("ask the admin")])
@pytest.mark.parametrize("is_first", [True, False])
async def test_a_no_is_the_admins_turn_and_never_a_prompt(problem: BridgeError, is_first: bool) -> None:
    async with unattended() as it:
        if not is_first:
            await it.service.access_token(ALICE)
            it.clock.advance(4000)
        asked = it.provider.refreshes
        it.provider.problem = problem
        for _ in range(10):
            with pytest.raises(ProviderRefused, match="ask the admin"):
                await it.service.access_token(ALICE)
        assert it.provider.refreshes == asked + 1
        assert not it.heard(AuthorizationNeeded)
        assert [notice.temporary for notice in it.notices if isinstance(notice, RefreshFailed)] == [False]
        grant = await it.service.grant_status(ALICE)
        assert grant.is_signed_in
        assert "ask the admin" in grant.detail
        it.provider.problem = None
        it.clock.advance(refresh.REFUSED_RETRY_AFTER)
        await it.service.access_token(ALICE)
        assert (await it.service.grant_status(ALICE)).detail == ""


async def test_nothing_can_be_adopted_and_the_sentence_says_why() -> None:
    async with unattended() as it:
        with pytest.raises(AuthorizationFailed, match=r"Nobody signs in for alice@example\.com: the provider acme"):
            await it.service.adopt(ALICE, Secret("CANARY-foreign"))
        assert it.provider.refreshes == 0
        assert (await it.vault.load(ALICE.address)).entry is None


async def test_forgotten_it_is_obtained_again_and_there_is_nothing_to_revoke() -> None:
    async with unattended() as it:
        await it.service.access_token(ALICE)
        await it.service.forget(ALICE)
        assert it.provider.revoked == []
        assert (await it.service.grant_status(ALICE)).signed_in_as == ALICE.subject
        await it.service.access_token(ALICE)
        assert it.provider.refreshes == 2


async def test_forgotten_while_it_is_obtained_the_answer_is_late_and_nobody_is_prompted() -> None:
    async with unattended() as it:
        await it.service.access_token(ALICE)
        it.clock.advance(4000)
        it.provider.gate.clear()
        it.provider.entered.clear()
        async with asyncio.TaskGroup() as group:
            late = group.create_task(_outcome(it))
            await it.provider.entered.wait()
            await it.service.forget(ALICE)
            it.provider.gate.set()
        assert isinstance(late.result(), BridgeError)
        assert late.result().temporary
        assert not it.heard(AuthorizationNeeded)
        await it.service.access_token(ALICE)


async def _outcome(it: World) -> BridgeError:
    with pytest.raises(BridgeError) as caught:
        await it.service.access_token(ALICE)
    return caught.value


async def test_it_is_renewed_ahead_as_any_other() -> None:
    async with unattended() as it:
        await it.service.access_token(ALICE)
        it.clock.advance(3600 * (1 - share_of(ALICE.address)) + 1)
        await Renewal(it.service, {ALICE.address: ALICE}.get, it.clock).look()
        assert it.provider.refreshes == 2
