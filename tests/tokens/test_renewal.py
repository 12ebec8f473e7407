"""Renewal ahead of expiry: without a prompt, only for accounts in use, and also after a suspend."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from bridge.errors import AuthorizationRequired, ProviderUnavailable, StoreUnavailable
from bridge.model import Account, Subject
from bridge.notices import Forgotten
from bridge.tokens.renewal import BACKOFF_FIRST, EARLIEST, IN_USE, LOOK_EVERY, SPREAD, Renewal, share_of
from tests.clocks import ManualClock
from tests.tokens.fakes import ALICE, FailingStore, StrictProvider
from tests.tokens.world import World, world


def renewal(it: World) -> Renewal:
    return Renewal(it.service, {ALICE.address: ALICE}.get, it.clock)


async def test_a_token_in_use_is_renewed_before_a_login_has_to_wait() -> None:
    async with world() as it:
        await it.sign_in()
        await it.service.access_token(ALICE)
        ahead = renewal(it)
        await ahead.look()
        assert it.provider.refreshes == 0
        it.clock.advance(3600 * (1 - share_of(ALICE.address)) + 1)
        await ahead.look()
        assert it.provider.refreshes == 1
        await it.service.access_token(ALICE)
        assert it.provider.refreshes == 1


async def test_an_account_that_nobody_uses_is_left_alone() -> None:
    async with world() as it:
        await it.sign_in()
        await it.service.access_token(ALICE)
        it.clock.advance(IN_USE + 1)
        await renewal(it).look()
        assert it.provider.refreshes == 0


async def test_an_account_that_was_only_looked_at_is_left_alone() -> None:
    async with world() as it:
        await it.sign_in()
        assert it.clock.monotonic() < IN_USE  # the monotonic clock is still near zero, as after a start of the machine
        await it.service.grant_status(ALICE)
        it.clock.set_wall(3600)
        await renewal(it).look()
        assert it.provider.refreshes == 0


async def test_a_sign_in_that_another_node_has_removed_gives_no_token_any_more() -> None:
    async with world() as it, world(it.store, it.clock) as other:
        await it.sign_in()
        token = await other.service.access_token(ALICE)
        await renewal(other).look()
        assert await other.service.access_token(ALICE) == token
        await it.service.forget(ALICE)
        it.store.is_away = True
        await renewal(other).look()  # while the store does not answer, nobody loses a token
        assert await other.service.access_token(ALICE) == token
        it.store.is_away = False
        await renewal(other).look()
        with pytest.raises(AuthorizationRequired):
            await other.service.access_token(ALICE)
        assert other.heard(Forgotten) == 1


async def test_a_look_at_an_account_of_which_nothing_could_be_read_yet_changes_nothing() -> None:
    async with world() as before:
        token = await before.sign_in()
    async with world(before.store, before.clock) as it:
        it.store.is_away = True
        with pytest.raises(StoreUnavailable):
            await it.service.access_token(ALICE)
        it.store.is_away = False
        await renewal(it).look()
        assert it.heard(Forgotten) == 0
        assert await it.service.access_token(ALICE) == token


class Looking(FailingStore):
    """Lets something happen after the store was read and before its answer arrives."""

    async def happens(self) -> object:
        return None

    async def keys(self, prefix: str) -> list[str]:
        found = await super().keys(prefix)
        await self.happens()
        return found


async def test_who_signs_in_while_removals_are_looked_for_stays_signed_in(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Looking()
    async with world(store) as it, world(store, it.clock) as other:
        await it.sign_in()
        await other.service.access_token(ALICE)
        await it.service.forget(ALICE)
        monkeypatch.setattr(store, "happens", other.sign_in)
        await renewal(other).look()
        assert (await other.service.access_token(ALICE)).is_fresh(it.clock.now())
        assert other.heard(Forgotten) == 0


async def test_after_a_suspend_the_first_look_renews() -> None:
    async with world() as it:
        await it.sign_in()
        await it.service.access_token(ALICE)
        it.clock.set_wall(8 * 3600)  # the monotonic clock stood still meanwhile, as it does on Linux
        await renewal(it).look()
        assert it.provider.refreshes == 1


async def test_the_looks_go_on_when_the_wall_clock_is_set_back() -> None:
    async with world() as it:
        await it.sign_in()
        await it.service.access_token(ALICE)
        clock = ManualClock()
        async with asyncio.TaskGroup() as group:
            looking = group.create_task(Renewal(it.service, {ALICE.address: ALICE}.get, clock).run())
            await clock.until_asleep()
            it.clock.advance(2000)
            clock.step(-3600)
            clock.advance(LOOK_EVERY)
            await it.provider.entered.wait()
            looking.cancel()
        assert it.provider.refreshes == 1


async def test_a_provider_that_hangs_holds_up_nobody_elses_renewal() -> None:
    async with world() as it:
        other = StrictProvider(it.clock, Subject("bob@example.com"))
        it.providers["other"] = other
        bob = Account("bob@example.com", "other", "bob@example.com", {})
        await it.sign_in()
        await it.service.keep(bob, other.issue())
        for account in (ALICE, bob):
            await it.service.access_token(account)
        it.clock.advance(2000)
        it.provider.gate.clear()
        async with asyncio.TaskGroup() as group:
            group.create_task(Renewal(it.service, {ALICE.address: ALICE, bob.address: bob}.get, it.clock).look())
            await other.entered.wait()
            assert await it.service.access_token(bob)
            it.provider.gate.set()
        assert (it.provider.refreshes, other.refreshes) == (1, 1)


async def test_a_provider_that_hangs_holds_up_no_later_look() -> None:
    """With a hundred accounts the waits would add up to half an hour, in which sign-outs elsewhere go unnoticed."""
    async with world() as it, world(it.store, it.clock) as node:
        other = StrictProvider(it.clock, Subject("bob@example.com"))
        it.providers["other"] = node.providers["other"] = other
        bob = Account("bob@example.com", "other", "bob@example.com", {})
        await it.sign_in()
        await it.service.keep(bob, other.issue())
        for account in (ALICE, bob):
            await it.service.access_token(account)
        clock = ManualClock()
        it.clock.advance(2000)
        it.provider.gate.clear()
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            ahead = Renewal(it.service, {ALICE.address: ALICE, bob.address: bob}.get, clock)
            looking = group.create_task(ahead.run())
            await it.provider.entered.wait()
            await other.entered.wait()
            await node.service.forget(bob)
            while not it.heard(Forgotten):
                await clock.until_asleep()
                clock.advance(LOOK_EVERY)
                await asyncio.sleep(0)
            assert it.provider.refreshes == 1, "it hangs, and is not asked a second time"
            waiting = len(asyncio.all_tasks())
            for _ in range(3):
                await clock.until_asleep()
                clock.advance(LOOK_EVERY)
            await clock.until_asleep()
            assert len(asyncio.all_tasks()) == waiting, "nor waited for by one look more"
            it.provider.gate.set()
            looking.cancel()


async def test_a_provider_that_is_away_is_asked_less_and_less() -> None:
    async with world() as it:
        await it.sign_in()
        await it.service.access_token(ALICE)
        it.clock.advance(2000)
        it.provider.problem = ProviderUnavailable("away")
        ahead = renewal(it)
        for _ in range(40):
            it.clock.advance(BACKOFF_FIRST)
            it.clock.set_wall(-BACKOFF_FIRST)  # the token stays valid; only the backoff is tested
            await ahead.look()
        assert 5 <= it.provider.refreshes <= 8
        it.provider.problem = None
        it.clock.advance(900)
        await ahead.look()
        assert (await it.service.grant_status(ALICE)).detail == ""


@pytest.mark.parametrize("lives", [True, False], ids=["a token that lives", "a token that has ended"])
async def test_the_time_until_it_is_asked_again_is_doubled_up_to_a_quarter_of_an_hour(lives: bool) -> None:
    async with world() as it:
        await it.sign_in()
        await it.service.access_token(ALICE)
        it.clock.advance(2000 if lives else 3601)
        ahead = renewal(it)

        async def pauses(seconds: float) -> list[float]:
            """The pauses between requests to the provider within these seconds."""
            it.provider.problem = ProviderUnavailable("away")
            asked = []
            for _ in range(int(seconds / BACKOFF_FIRST)):
                before = it.provider.refreshes
                await ahead.look()
                if it.provider.refreshes > before:
                    asked.append(it.clock.monotonic())
                it.clock.advance(BACKOFF_FIRST)
                it.clock.set_wall(-BACKOFF_FIRST)  # the token's age stays as it is; only the backoff is tested
            return [later - earlier for earlier, later in pairwise(asked)]

        assert await pauses(1860) == [30, 60, 120, 240, 480, 900]
        it.provider.problem = None
        it.clock.advance(900)
        await ahead.look()
        await it.service.access_token(ALICE)
        it.clock.advance(2000 if lives else 3601)
        assert (await pauses(100))[:1] == [30], "it was well in between"


async def test_one_account_that_waits_holds_up_no_other_of_its_provider() -> None:
    async with world() as it:
        bob = Account("bob@example.com", ALICE.provider, ALICE.subject, {})
        ahead = Renewal(it.service, {ALICE.address: ALICE, bob.address: bob}.get, it.clock)
        await it.sign_in()
        await it.service.access_token(ALICE)
        it.clock.advance(2000)
        it.provider.problem = ProviderUnavailable("away")
        await ahead.look()
        it.provider.problem = None
        await it.service.keep(bob, it.provider.issue())
        await it.service.access_token(bob)
        it.clock.set_wall(2000)
        await ahead.look()
        assert it.provider.refreshes == 2


async def test_a_look_saves_what_the_store_did_not_take() -> None:
    async with world() as it:
        await it.refresh_onto_a_full_disk()
        before = (await it.vault.load(ALICE.address)).version
        it.store.is_full = False
        await Renewal(it.service, lambda address: None, it.clock).look()
        assert (await it.vault.load(ALICE.address)).version > before


async def test_an_account_that_left_the_configuration_is_not_renewed() -> None:
    async with world() as it:
        await it.sign_in()
        await it.service.access_token(ALICE)
        it.clock.advance(2000)
        nobody: dict[str, Account] = {}
        await Renewal(it.service, nobody.get, it.clock).look()
        assert it.provider.refreshes == 0


@pytest.mark.parametrize("address", ["alice@example.com", "é@example.com", ""])
def test_each_account_has_its_own_point_in_time(address: str) -> None:
    assert EARLIEST <= share_of(address) < EARLIEST + SPREAD
    assert share_of(address) == share_of(address)
    assert EARLIEST > 0.5, "a login waits for a refresh from there on"


def test_an_office_asks_at_many_times_and_not_at_one() -> None:
    points = sorted(share_of(f"person{number}@example.com") for number in range(100))
    assert points[-1] - points[0] > 0.8 * SPREAD
    assert max(later - earlier for earlier, later in pairwise(points)) < 0.1 * SPREAD
