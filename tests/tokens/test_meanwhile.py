"""Changes during a sign-in, a refresh or a sign-out: a reload, another person, a damaged store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

import pytest

from bridge.errors import (
    AuthorizationFailed,
    AuthorizationRequired,
    ProviderUnavailable,
    StoreCorrupt,
    StoreUnavailable,
)
from bridge.model import AccessToken, Account, Endpoint, Protocol, TlsMode, TokenSet
from bridge.notices import Forgotten, NoticeBus, RefreshFailed
from bridge.oauth.base import AuthorizationRequest, DevicePending
from bridge.secret import Secret
from bridge.tokens import leases
from bridge.tokens.authorizations import Authorizations, Pending
from bridge.tokens.vault import Vault
from tests.tokens.fakes import ALICE, SALES, FailingStore, HandClock, ScriptedDevice, StrictProvider
from tests.tokens.world import World as Tokens
from tests.tokens.world import world


class Gate:
    """Holds up whoever passes until it is opened, and says when somebody has come."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self._opened = asyncio.Event()

    async def passed(self) -> None:
        self.reached.set()
        await self._opened.wait()

    def open(self) -> None:
        self._opened.set()


class SlowToWrite(FailingStore):
    """A store with gates in put()."""

    def __init__(self) -> None:
        super().__init__()
        self.gates: list[Gate] = []

    async def put(self, key: str, value: bytes, *, expected: int) -> int:
        if self.gates:
            await self.gates.pop(0).passed()
        return await super().put(key, value, expected=expected)


class Slow(StrictProvider):
    """A provider with gates in begin(), redeem() or adopt(), and revoke()."""

    def __init__(self, clock: HandClock) -> None:
        super().__init__(clock)
        self.begins: list[Gate] = []
        self.redeems: list[Gate] = []
        self.revokes: list[Gate] = []

    async def begin(self, *, login_hint: str, redirect_uri: str, asks_who: bool = False) -> AuthorizationRequest:
        request = await super().begin(login_hint=login_hint, redirect_uri=redirect_uri, asks_who=asks_who)
        if self.begins:
            await self.begins.pop(0).passed()
        if self.problem is not None:
            raise self.problem
        return request

    async def redeem(self, request: AuthorizationRequest, parameters: Mapping[str, str]) -> TokenSet:
        if self.redeems:
            await self.redeems.pop(0).passed()
        return await super().redeem(request, parameters)

    async def adopt(self, refresh_token: Secret[str]) -> TokenSet:
        if self.redeems:
            await self.redeems.pop(0).passed()
        return await super().adopt(refresh_token)

    async def revoke(self, grant: Secret[str]) -> bool:
        if self.revokes:
            await self.revokes.pop(0).passed()
        return await super().revoke(grant)


class World:
    """Sign-ins over a token service, for one account, at a provider with gates."""

    def __init__(self, tokens: Tokens) -> None:
        self.tokens = tokens
        self.provider = Slow(tokens.clock)
        self.accounts = {ALICE.address: ALICE}
        tokens.providers["acme"] = self.provider
        uris = {"acme": "http://localhost:3017/"}
        self.kept: list[Account] = []
        self.authorizations = Authorizations(
            tokens.providers, uris, tokens.clock, NoticeBus(), self.keep, self.accounts.get, tokens.vault.try_out
        )

    async def keep(self, account: Account, tokens: TokenSet) -> str:
        self.kept.append(account)
        return await self.tokens.service.keep(account, tokens)

    def reload(self, *, account: Account | None = ALICE, other_provider: bool = False) -> None:
        """Change the configuration as bridge.app does."""
        if other_provider:
            self.authorizations.drop_provider("acme")
            self.tokens.providers["acme"] = other = Slow(self.tokens.clock)
            other.fingerprint = "two"
        self.accounts.clear()
        if account is not None:
            self.accounts[account.address] = account
        self.authorizations.drop_changed()

    async def stored(self) -> bool:
        return (await self.tokens.vault.load(ALICE.address)).entry is not None


Change = Callable[[World], None]

RELOADS = [
    pytest.param(lambda it: it.reload(other_provider=True), id="other provider"),
    pytest.param(lambda it: it.reload(account=None), id="account removed"),
    pytest.param(lambda it: it.reload(account=replace(ALICE, subject="bob@example.com")), id="other person"),
]


async def outcome(work: Awaitable[object]) -> str:
    """The code of its failure, or "done"."""
    try:
        await work
    except AuthorizationFailed as problem:
        assert "configuration has changed" in str(problem)
        return problem.code
    return "done"


@pytest.mark.parametrize("change", RELOADS)
async def test_a_sign_in_that_was_beginning_during_a_reload_is_none(change: Change) -> None:
    """The answer of one provider would otherwise be redeemed at another one."""
    async with world() as tokens:
        it = World(tokens)
        it.provider.begins.append(gate := Gate())
        async with asyncio.TaskGroup() as group:
            begun = group.create_task(outcome(it.authorizations.begin(ALICE)))
            await gate.reached.wait()
            change(it)
            gate.open()
        assert begun.result() == "provider"
        assert it.authorizations.find(ALICE.address) is None


async def test_at_a_provider_that_a_reload_has_removed_no_sign_in_begins() -> None:
    async with world() as tokens:
        it = World(tokens)
        del tokens.providers["acme"]
        assert await outcome(it.authorizations.begin(ALICE)) == "provider"


async def redeemed_during(it: World, change: Change) -> str:
    """The outcome for a code that the provider is redeeming while the configuration changes."""
    pending = await it.authorizations.begin(ALICE)
    it.provider.redeems.append(gate := Gate())
    async with asyncio.TaskGroup() as group:
        completed = group.create_task(outcome(it.authorizations.complete({"state": pending.state, "code": "c"})))
        await gate.reached.wait()
        change(it)
        gate.open()
    return completed.result()


@pytest.mark.parametrize("change", RELOADS)
async def test_what_was_redeemed_during_a_reload_is_not_stored(change: Change) -> None:
    async with world() as tokens:
        it = World(tokens)
        assert await redeemed_during(it, change) == "provider"
        assert not await it.stored()


async def test_a_reload_that_changes_nothing_for_it_lets_a_sign_in_go_on() -> None:
    async with world() as tokens:
        it = World(tokens)

        def new_secret(it: World) -> None:
            it.reload()
            it.tokens.providers["acme"] = Slow(it.tokens.clock)

        assert await redeemed_during(it, new_secret) == "done"
        assert await it.stored()


POP3_OFF = replace(ALICE, endpoints={Protocol.IMAP: Endpoint("imap.example.com", 993, TlsMode.IMPLICIT)})
"""The same person at the same provider, but with other mail servers."""


async def test_what_a_sign_in_does_not_depend_on_may_change_while_it_waits_for_the_person() -> None:
    async with world() as tokens:
        it = World(tokens)
        pending = await it.authorizations.begin(ALICE)
        it.reload(account=POP3_OFF)
        assert await it.authorizations.begin(POP3_OFF) is pending
        await it.authorizations.complete({"state": pending.state, "code": "c"})
        assert await it.stored()
        assert it.kept == [POP3_OFF], "the mail servers of today are tried"


async def test_what_a_sign_in_does_not_depend_on_may_change_while_it_is_redeemed() -> None:
    async with world() as tokens:
        it = World(tokens)
        assert await redeemed_during(it, lambda it: it.reload(account=POP3_OFF)) == "done"
        assert it.kept == [POP3_OFF]


async def test_a_device_code_that_was_polled_during_a_reload_brings_nothing() -> None:
    class SlowDevice(ScriptedDevice):
        async def poll(self, request: object) -> TokenSet | DevicePending:
            await gate.passed()
            return await super().poll(request)  # type: ignore[arg-type]  # it does not look

    async with world() as tokens:
        it, gate = World(tokens), Gate()
        tokens.providers["acme"] = SlowDevice(it.provider, None)
        kept: list[Account] = []

        async def keep(account: Account, tokens: TokenSet) -> str:
            kept.append(account)
            await asyncio.sleep(0)
            return ""

        authorizations = Authorizations(
            tokens.providers, {}, tokens.clock, NoticeBus(), keep, it.accounts.get, tokens.vault.try_out
        )
        async with authorizations.running():
            pending: Pending = await authorizations.begin(ALICE)
            await gate.reached.wait()
            assert authorizations.find(ALICE.address) is pending
            it.accounts.clear()
            gate.open()
            while authorizations.find(ALICE.address) is not None:
                await asyncio.sleep(0)
        assert kept == []


async def test_a_token_adopted_during_a_reload_is_not_taken_for_the_new_providers() -> None:
    async with world() as tokens:
        it = World(tokens)
        grant = it.provider.issue().grant
        it.provider.redeems.append(gate := Gate())
        async with asyncio.TaskGroup() as group:
            group.create_task(tokens.service.adopt(ALICE, grant))
            await gate.reached.wait()
            it.reload(other_provider=True)
            gate.open()
        with pytest.raises(AuthorizationRequired):
            await tokens.service.access_token(ALICE)


async def test_of_three_who_begin_while_the_provider_comes_back_two_do_not_get_a_sign_in_each() -> None:
    """Otherwise the second state would end the first, and a person with two windows would sign in in vain in one."""
    async with world() as tokens:
        it = World(tokens)
        gates = [Gate() for _ in range(3)]
        it.provider.begins += gates
        it.provider.problem = ProviderUnavailable("away")

        async def state() -> str:
            try:
                return (await it.authorizations.begin(ALICE)).state
            except ProviderUnavailable:
                return ""

        async with asyncio.TaskGroup() as group:
            first = group.create_task(state())
            await gates[0].reached.wait()
            second = group.create_task(state())
            await asyncio.sleep(0)
            gates[0].open()
            await first
            it.provider.problem = None
            third = group.create_task(state())
            await gates[1].reached.wait()
            for gate in gates:
                gate.open()
        assert first.result() == ""
        assert second.result() == third.result() != ""


async def test_who_joins_a_refresh_gets_no_token_for_what_is_no_longer_configured() -> None:
    """Otherwise a token of one provider would go to the mail server of another."""
    async with world() as it:
        await it.sign_in()
        it.providers["other"] = other = StrictProvider(it.clock)
        other.fingerprint = "other"
        it.clock.advance(4000)
        it.provider.gate.clear()
        moved = replace(ALICE, provider="other")

        async def login(account: Account) -> AccessToken | AuthorizationRequired:
            try:
                return await it.service.access_token(account)
            except AuthorizationRequired as problem:
                return problem

        async with asyncio.TaskGroup() as group:
            before = group.create_task(login(ALICE))
            await it.provider.entered.wait()
            after = group.create_task(login(moved))
            await asyncio.sleep(0)
            it.provider.gate.set()
        assert isinstance(before.result(), AccessToken)
        assert isinstance(after.result(), AuthorizationRequired)
        assert it.provider.refreshes == 1


async def test_a_sign_out_counts_before_the_provider_has_heard_of_it() -> None:
    async with world() as tokens:
        it = World(tokens)
        await tokens.service.keep(ALICE, it.provider.issue())
        it.provider.revokes.append(gate := Gate())
        async with asyncio.TaskGroup() as group:
            group.create_task(tokens.service.forget(ALICE))
            await gate.reached.wait()
            with pytest.raises(AuthorizationRequired):
                await tokens.service.access_token(ALICE)
            assert tokens.heard(Forgotten) == 1
            newest = it.provider.issue()
            await tokens.service.keep(ALICE, newest)
            gate.open()
        assert tokens.heard(Forgotten) == 1  # a tray that heard it again now would show nobody signed in
        assert await tokens.service.access_token(ALICE) == newest.access


async def test_trouble_is_over_once_another_process_has_refreshed() -> None:
    clock, store = HandClock(), FailingStore()
    async with world(store, clock) as one, world(store, clock) as two:
        await one.sign_in()
        two.provider._good = one.provider._good
        clock.advance(2000)  # less than half of its life is left
        one.provider.problem = ProviderUnavailable("away, seen from here")
        await one.service.access_token(ALICE)
        assert (await one.service.grant_status(ALICE)).detail == "away, seen from here"
        clock.advance(10)
        newest = await two.service.access_token(ALICE)
        assert (await one.service.grant_status(ALICE)).detail == ""
        assert await one.service.access_token(ALICE) == newest
        assert one.provider.refreshes == 1


async def test_the_trouble_of_the_grant_before_is_not_that_of_a_new_sign_in() -> None:
    async with world() as it:
        await it.sign_in()
        it.clock.advance(4000)
        async with it.refreshing() as late:
            newest = it.provider.issue()
            await it.service.keep(ALICE, newest)
            it.provider.problem = ProviderUnavailable("no answer for a minute")
        assert late.result() == newest.access
        grant = await it.service.grant_status(ALICE)
        assert (grant.is_signed_in, grant.detail) == (True, "")
        assert it.heard(RefreshFailed) == 0


class ReadOnly(FailingStore):
    """A store that can be read, but takes no lease while `is_full` is set, like a read-only file."""

    async def acquire_lease(self, name: str, holder: str, seconds: float) -> bool:
        if self.is_full:
            raise StoreUnavailable("the disk is read-only")
        return await super().acquire_lease(name, holder, seconds)


@pytest.mark.parametrize(("store", "what"), [(FailingStore(), "full"), (ReadOnly(), "read-only")])
async def test_a_store_that_takes_nothing_is_the_accounts_trouble(store: FailingStore, what: str) -> None:
    """Mail programs are told "later", so the account must not be shown as working."""
    async with world(store) as it:
        await it.sign_in()
        it.clock.advance(4000)
        store.is_full = True
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                await it.service.access_token(ALICE)
        grant = await it.service.grant_status(ALICE)
        assert (grant.is_signed_in, grant.detail) == (True, f"the disk is {what}")
        assert it.heard(RefreshFailed) == 1
        store.is_full = False
        await it.service.access_token(ALICE)
        assert (await it.service.grant_status(ALICE)).detail == ""


async def test_a_sign_in_that_a_read_only_store_could_not_keep_is_not_begun() -> None:
    store = ReadOnly()
    async with world(store) as tokens:
        it = World(tokens)
        store.is_full = True
        with pytest.raises(StoreUnavailable, match="read-only"):
            await it.authorizations.begin(ALICE)


async def test_a_store_that_is_back_is_nobodys_trouble_any_more() -> None:
    """An account whose token is still valid shows no trouble, even without a refresh."""
    async with world() as before:
        token = await before.sign_in()
    async with world(before.store, before.clock) as it:
        it.store.is_away = True
        with pytest.raises(StoreUnavailable):
            await it.service.access_token(ALICE)
        it.store.is_away = False
        assert await it.service.access_token(ALICE) == token
        assert (await it.service.grant_status(ALICE)).detail == ""


async def test_where_the_store_is_back_and_nobody_has_signed_in_a_sign_in_is_what_is_missing() -> None:
    async with world() as it:
        before = await it.service.grant_status(ALICE)
        it.store.is_away = True
        with pytest.raises(StoreUnavailable):
            await it.service.access_token(ALICE)
        assert (await it.service.grant_status(ALICE)).detail == "the disk is away"
        it.store.is_away = False
        assert await it.service.grant_status(ALICE) == before


class DamagedWhileHeld(FailingStore):
    """The store reports damage when a lease that is held is to be extended."""

    async def acquire_lease(self, name: str, holder: str, seconds: float) -> bool:
        if name in self._leases:
            is_beaten.set()
            raise StoreCorrupt("the store is damaged")
        return await super().acquire_lease(name, holder, seconds)


is_beaten = asyncio.Event()


async def test_a_store_that_is_damaged_during_a_refresh_ends_neither_the_refresh_nor_the_bridge(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leases, "LEASE_BEAT", 0.0)
    is_beaten.clear()
    async with world(DamagedWhileHeld()) as it:
        await it.sign_in()
        it.clock.advance(4000)
        it.provider.gate.clear()
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(it.service.access_token(ALICE))
            await is_beaten.wait()
            it.provider.gate.set()
        assert asked.result().value.reveal() == "CANARY-access-2"
        assert (await Vault(it.store).load(ALICE.address)).version == 2


async def test_another_process_that_refreshes_for_too_long_is_the_accounts_trouble() -> None:
    async with world() as it:
        await it.sign_in()
        it.clock.advance(4000)
        assert await it.vault.acquire_lease(ALICE.address, "another", leases.LEASE_SECONDS)
        before = it.clock.monotonic()
        with pytest.raises(ProviderUnavailable, match=r"another mail-bridge has been refreshing alice@example.com"):
            await it.service.access_token(ALICE)
        assert it.clock.monotonic() - before == pytest.approx(leases.LEASE_PATIENCE, abs=2 * leases.LEASE_POLL)
        assert it.provider.refreshes == 0
        assert "for too long" in (await it.service.grant_status(ALICE)).detail
        assert it.heard(RefreshFailed) == 1


async def test_two_services_on_one_store_have_a_lease_one_after_the_other() -> None:
    async with world() as it, world(it.store, it.clock) as other:
        mine, theirs = (leases.Leases(each.vault, each.clock) for each in (it, other))
        async with mine.held(ALICE.address):
            with pytest.raises(ProviderUnavailable, match="another mail-bridge"):
                async with theirs.held(ALICE.address):
                    pass
        async with theirs.held(ALICE.address):
            pass


class KeepsLeases(FailingStore):
    """The store cannot be reached when the lease is released."""

    async def release_lease(self, name: str, holder: str) -> None:
        raise StoreUnavailable("the disk is away")


async def test_a_lease_that_cannot_be_given_back_costs_no_token() -> None:
    async with world(KeepsLeases()) as it:
        await it.sign_in()
        it.clock.advance(4000)
        assert (await it.service.access_token(ALICE)).value.reveal() == "CANARY-access-2"


async def test_an_account_that_is_asked_for_the_first_time_while_another_is_saved_disturbs_nothing() -> None:
    store = SlowToWrite()
    async with world(store) as it:
        await it.refresh_onto_a_full_disk()
        store.is_full = False
        store.gates.append(gate := Gate())
        async with asyncio.TaskGroup() as group:
            group.create_task(it.service.save_unsaved())
            await gate.reached.wait()
            with pytest.raises(AuthorizationRequired):
                await it.service.access_token(SALES)
            gate.open()
        assert (await it.service.access_token(ALICE)).value.reveal() == "CANARY-access-2"
        assert it.provider.refreshes == 1
