"""One refresh serves all who wait, it is saved before it is used, and failures never cost a token."""

from __future__ import annotations

import asyncio
import gc
import weakref
from dataclasses import replace

import pytest

from bridge.advice.diagnosis import Diagnosis
from bridge.errors import (
    AuthorizationFailed,
    AuthorizationRequired,
    BridgeError,
    GrantInDoubt,
    GrantRevoked,
    ProviderRefused,
    ProviderUnavailable,
    StoreUnavailable,
    UpstreamRefused,
)
from bridge.hooks.events import event_of
from bridge.model import Account, Endpoint, Protocol, Subject, TlsMode
from bridge.notices import AuthorizationNeeded, Authorized, Refreshed, RefreshFailed
from bridge.secret import Secret
from bridge.tokens import refresh, reminders
from bridge.tokens import service as module
from bridge.tokens.service import PATIENCE
from tests.tokens.fakes import ALICE, SALES, FailingStore, HandClock, StrictProvider
from tests.tokens.world import World, mailbox_refuses, sign_in_url, world


async def test_nobody_has_signed_in_yet() -> None:
    async with world() as it:
        with pytest.raises(AuthorizationRequired, match=r"sign-in/alice@example.com"):
            await it.service.access_token(ALICE)
        assert it.provider.refreshes == 0


async def test_a_fresh_token_is_handed_out_without_asking_anybody() -> None:
    async with world() as it:
        token = await it.sign_in()
        assert await it.service.access_token(ALICE) == token
        assert it.provider.refreshes == 0


async def test_trap_15_peer_15_fifty_logins_on_an_expired_token_make_one_refresh() -> None:
    async with world() as it:
        await it.sign_in()
        it.clock.advance(4000)
        async with asyncio.TaskGroup() as group:
            waiting = [group.create_task(it.service.access_token(ALICE)) for _ in range(50)]
        assert it.provider.refreshes == 1
        assert len({task.result().value.reveal() for task in waiting}) == 1


async def test_a_refresh_is_told_and_is_no_sign_in() -> None:
    async with world() as it:
        await it.sign_in()
        it.clock.advance(4000)
        it.notices.clear()
        token = await it.service.access_token(ALICE)
        assert it.notices == [Refreshed(ALICE.address, token.expires_at)]


async def test_a_bug_in_a_refresh_is_told_to_who_waits_and_ends_nothing_else() -> None:
    async with world() as it:
        await it.sign_in()
        it.clock.advance(4000)
        it.provider.problem = RuntimeError("of ours")
        with pytest.raises(RuntimeError, match="of ours"):
            await it.service.access_token(ALICE)
        it.provider.problem = None
        assert (await it.service.access_token(ALICE)).value.reveal() == "CANARY-access-2"


async def test_a_client_that_hangs_up_cancels_only_itself() -> None:
    async with world() as it:
        await it.sign_in()
        it.clock.advance(4000)
        it.provider.gate.clear()
        async with asyncio.TaskGroup() as group:
            impatient = group.create_task(it.service.access_token(ALICE))
            patient = group.create_task(it.service.access_token(ALICE))
            await it.provider.entered.wait()
            impatient.cancel()
            it.provider.gate.set()
        assert impatient.cancelled()
        assert patient.result().value.reveal() == "CANARY-access-2"
        assert it.provider.refreshes == 1


@pytest.mark.parametrize("why", ["its token was refused", "it came behind a reload"])
async def test_a_client_that_hangs_up_while_it_waits_for_a_refresh_before_its_own_cancels_only_itself(why: str) -> None:
    async with world() as it:
        token = await it.sign_in()
        it.clock.advance(4000)
        it.provider.gate.clear()
        reloaded = replace(ALICE, endpoints={Protocol.IMAP: Endpoint("imap.example.com", 993, TlsMode.IMPLICIT)})
        async with asyncio.TaskGroup() as group:
            patient = group.create_task(it.service.access_token(ALICE))
            await it.provider.entered.wait()
            impatient = group.create_task(
                it.service.access_token(ALICE, refused=token)
                if why == "its token was refused"
                else it.service.access_token(reloaded)
            )
            await asyncio.sleep(0)
            impatient.cancel()
            await asyncio.wait([impatient])
            it.provider.gate.set()
        assert impatient.cancelled()
        assert patient.result().value.reveal() == "CANARY-access-2"


async def test_the_rotated_grant_is_stored_before_the_token_is_handed_out() -> None:
    async with world() as it:
        await it.sign_in()
        it.clock.advance(4000)
        token = await it.service.access_token(ALICE)
        stored = await it.vault.load(ALICE.address)
        assert stored.entry is not None
        assert stored.entry.tokens.access == token
        assert stored.entry.tokens.grant.reveal() == "CANARY-grant-2"
        assert stored.entry.tokens.subject == Subject("alice@example.com", "id-1")  # a refresh does not report it again


async def test_a_full_disk_loses_nothing_and_hands_out_nothing() -> None:
    async with world() as it:
        await it.refresh_onto_a_full_disk()
        with pytest.raises(StoreUnavailable):  # the old grant is used up and must not be tried again
            await it.service.access_token(ALICE)
        assert it.provider.refreshes == 1
        it.store.is_full = False
        assert (await it.service.access_token(ALICE)).value.reveal() == "CANARY-access-2"
        assert it.provider.refreshes == 1


async def test_a_disk_that_is_free_again_gets_what_it_did_not_take_also_without_a_login() -> None:
    async with world() as it:
        await it.refresh_onto_a_full_disk()
        await it.service.save_unsaved()
        it.store.is_full = False
        await it.service.save_unsaved()
        stored = await it.vault.load(ALICE.address)
        assert stored.entry is not None
        assert stored.entry.tokens.grant.reveal() == "CANARY-grant-2"
    assert it.provider.refreshes == 1


async def test_the_last_thing_before_the_end_is_to_save_what_the_disk_did_not_take() -> None:
    async with world() as it:
        await it.refresh_onto_a_full_disk()
        it.store.is_full = False
    async with world(it.store, it.clock) as again:
        assert (await again.service.access_token(ALICE)).value.reveal() == "CANARY-access-2"
        assert again.provider.refreshes == 0


async def test_a_stale_token_serves_while_the_store_is_away() -> None:
    async with world() as it:
        token = await it.sign_in()
        it.clock.advance(2000)
        it.store.is_away = True
        assert await it.service.access_token(ALICE) == token
        it.clock.advance(2000)
        with pytest.raises(StoreUnavailable):
            await it.service.access_token(ALICE)
        assert it.provider.refreshes == 0
        it.store.is_away = False
        assert (await it.service.access_token(ALICE)).value.reveal() == "CANARY-access-2"


async def test_a_sign_in_is_not_overwritten_by_what_waits_for_the_disk() -> None:
    async with world() as it:
        await it.refresh_onto_a_full_disk()
        it.store.is_full = False
        newest = await it.sign_in()
        await it.service.save_unsaved()
        assert await it.service.access_token(ALICE) == newest


async def test_what_waits_for_the_disk_outlives_another_nodes_news_that_its_predecessor_has_ended() -> None:
    async with world() as it, world(it.store, it.clock) as other:
        other.providers["acme"] = it.provider
        await it.refresh_onto_a_full_disk()
        it.store.is_full = False
        with pytest.raises(AuthorizationRequired):  # it has only the grant that is used up
            await other.service.access_token(ALICE)
        assert (await it.service.access_token(ALICE)).value.reveal() == "CANARY-access-2"
        it.clock.advance(4000)
        assert (await other.service.access_token(ALICE)).value.reveal() == "CANARY-access-3"


async def test_what_waits_for_the_disk_does_not_outlive_a_sign_in_elsewhere_that_has_ended_since() -> None:
    async with world() as it, world(it.store, it.clock) as other:
        await it.refresh_onto_a_full_disk()
        it.store.is_full = False
        it.clock.advance(10)
        await other.service.keep(ALICE, replace(other.provider.issue(), grant=Secret("CANARY-newest")))
        it.clock.advance(4000)
        with pytest.raises(AuthorizationRequired):  # its provider did not issue "newest"
            await other.service.access_token(ALICE)
        with pytest.raises(AuthorizationRequired):
            await it.service.access_token(ALICE)
        stored = await it.vault.load(ALICE.address)
        assert stored.entry is not None
        assert stored.entry.tokens.grant.reveal() == "CANARY-newest"


async def test_a_sign_out_while_the_provider_is_asked_counts() -> None:
    async with world() as it:
        await it.sign_in()
        it.clock.advance(4000)
        it.provider.gate.clear()
        async with asyncio.TaskGroup() as group:
            late = group.create_task(_asked(it))
            await it.provider.entered.wait()
            await it.service.forget(ALICE)
            it.provider.gate.set()
        assert isinstance(late.result(), AuthorizationRequired)
        assert (await it.vault.load(ALICE.address)).entry is None


async def test_a_grant_that_ended_late_does_not_end_a_new_sign_in() -> None:
    async with world() as it, world(it.store, it.clock) as other:
        await it.sign_in()
        it.clock.advance(4000)
        for service in (it.service, other.service):  # in this process, and in another one on the same store
            async with it.refreshing() as late:
                newest = it.provider.issue()
                await service.keep(ALICE, newest)
                it.provider.end()
            assert late.result() == newest.access
            assert await it.service.access_token(ALICE) == newest.access
            assert it.heard(RefreshFailed) == 0, "nobody has to do anything"
            it.clock.advance(4000)


async def taken_back(it: World, *, is_tried: bool = False) -> None:
    """The store is as it was before the last refresh, as after a restore, or on a standby without the last write."""
    key = f"grant/{ALICE.address}"
    await it.sign_in()
    value, version = it.store.peek(key)
    it.clock.advance(4000)
    await it.service.access_token(ALICE)
    it.clock.advance(4000)
    it.store.poke(key, value, version)
    if is_tried:
        async with world(it.store, it.clock) as other:  # another node, which the provider tells that the grant ended
            with pytest.raises(AuthorizationRequired):
                await other.service.access_token(ALICE)


@pytest.mark.parametrize("is_tried", [False, True])
async def test_a_grant_that_the_store_has_lost_again_is_brought_back_by_whoever_knows_it(is_tried: bool) -> None:
    async with world() as it:
        await taken_back(it, is_tried=is_tried)
        await it.service.access_token(ALICE)
        assert it.heard(AuthorizationNeeded) == 0
        it.clock.advance(4000)
        await it.service.access_token(ALICE)


async def test_a_grant_that_the_store_has_lost_again_is_back_before_the_provider_is_asked() -> None:
    """Otherwise a process that ends before the answer comes would leave only the previous grant, which is used up."""
    async with world() as it:
        await taken_back(it)
        it.provider.problem = ProviderUnavailable("away")
        with pytest.raises(ProviderUnavailable):
            await it.service.access_token(ALICE)
        stored = await it.vault.load(ALICE.address)
        assert stored.entry is not None
        assert stored.entry.tokens.grant.reveal() == "CANARY-grant-2"


async def test_it_is_brought_back_by_who_knows_most_whatever_others_have_tried_before() -> None:
    """The version does not tell: every try counts it up, and so does every node that writes back what it knew."""
    async with world() as it, world(it.store, it.clock) as knows_less, world(it.store, it.clock) as knows_nothing:
        await it.sign_in()
        value, version = it.store.peek(f"grant/{ALICE.address}")
        it.clock.advance(4000)
        await it.service.access_token(ALICE)
        await knows_less.service.access_token(ALICE)
        it.clock.advance(4000)
        await it.service.access_token(ALICE)
        known = (await it.vault.load(ALICE.address)).version
        it.clock.advance(4000)
        it.store.poke(f"grant/{ALICE.address}", value, version)
        for node in (knows_nothing, knows_less):
            with pytest.raises(AuthorizationRequired):
                await node.service.access_token(ALICE)
        assert (await it.vault.load(ALICE.address)).version > known
        assert not (await it.service.grant_status(ALICE)).is_signed_in  # a look at the console takes nothing away
        assert (await it.service.access_token(ALICE)).value.reveal() == "CANARY-access-4"
        assert it.heard(AuthorizationNeeded) == 0


async def test_who_looks_at_the_account_meanwhile_makes_no_answer_late() -> None:
    """This process was frozen for longer than its lease: another one asks with the same grant, and notes its end."""
    async with world() as it, world(it.store, it.clock) as other:
        await it.sign_in()
        it.clock.advance(4000)
        async with it.refreshing() as answered:
            stored = await it.vault.load(ALICE.address)
            assert stored.entry is not None
            ended = replace(stored.entry, ended="this grant was used before")
            await other.vault.save(ALICE.address, ended, expected=stored.version)
            assert not (await it.service.grant_status(ALICE)).is_signed_in
        assert answered.result().value.reveal() == "CANARY-access-2"
        assert (await it.service.grant_status(ALICE)).is_signed_in


async def test_a_sign_in_at_a_node_whose_clock_is_behind_counts_all_the_same() -> None:
    async with world() as it, world(it.store, HandClock(it.clock.now() - 600)) as other:
        await it.sign_in()
        newest = replace(other.provider.issue(), grant=Secret("CANARY-newest"))
        await other.service.keep(ALICE, newest)
        it.clock.advance(1900)
        it.provider.problem = ProviderUnavailable("away")
        assert await it.service.access_token(ALICE) == newest.access
        stored = await it.vault.load(ALICE.address)
        assert stored.entry is not None
        assert stored.entry.tokens.grant.reveal() == "CANARY-newest"


async def test_what_waits_for_the_disk_outlives_a_store_that_was_taken_back() -> None:
    async with world() as it:
        await it.sign_in()
        key = f"grant/{ALICE.address}"
        value, version = it.store.peek(key)
        it.clock.advance(4000)
        await it.service.access_token(ALICE)
        it.clock.advance(4000)
        it.store.is_full = True
        with pytest.raises(StoreUnavailable):
            await it.service.access_token(ALICE)
        it.store.is_full = False
        it.store.poke(key, value, version)
        await it.service.access_token(ALICE)
        assert it.heard(AuthorizationNeeded) == 0
        assert it.provider.refreshes == 2


async def test_a_sign_in_or_a_sign_out_after_the_store_was_taken_back_counts() -> None:
    async with world() as it, world(it.store, it.clock) as other:
        await taken_back(it)
        newest = it.provider.issue()
        await other.service.keep(ALICE, newest)
        it.clock.advance(1900)
        await it.service.access_token(ALICE)
        await taken_back(it)
        await other.service.forget(ALICE)
        with pytest.raises(AuthorizationRequired):
            await it.service.access_token(ALICE)


async def test_a_registration_that_is_refused_is_tried_again_rarely_and_at_once_when_it_was_changed() -> None:
    async with world() as it:
        await it.sign_in()
        it.clock.advance(4000)
        it.provider.problem = ProviderRefused("the secret has expired")
        for _ in range(14):
            with pytest.raises(ProviderRefused):
                await it.service.access_token(ALICE)
            it.clock.advance(1)
        assert it.provider.refreshes == 1
        changed = StrictProvider(it.clock)
        changed._good = "CANARY-grant-1"
        it.providers["acme"] = changed
        assert (await it.service.access_token(ALICE)).value.reveal() == "CANARY-access-1"
        assert changed.refreshes == 1


async def test_a_grant_that_may_have_ended_is_kept_and_asks_the_person_until_it_works_again() -> None:
    """LemonLDAP::NG has one error for an ended grant and for a wrong request, so nobody can know whose turn it is."""
    async with world() as it:
        await it.sign_in()
        it.clock.advance(4000)
        doubt = Diagnosis.of("oauth.refresh_wrong", "invalid_request")
        it.provider.problem = GrantInDoubt(doubt.told(), diagnosis=doubt)
        problem = await _asked(it)
        assert isinstance(problem, AuthorizationRequired)
        assert problem.diagnosis == doubt
        assert problem.public == f"Open {sign_in_url(ALICE.address)} ({ALICE.address} must sign in)"
        grant = await it.service.grant_status(ALICE)
        assert (grant.is_signed_in, grant.diagnosis) == (False, doubt)
        assert isinstance(await _asked(it), AuthorizationRequired)
        assert (it.heard(AuthorizationNeeded), it.provider.refreshes) == (1, 1)
        it.provider.problem = None
        it.clock.advance(60)
        await it.service.access_token(ALICE)
        assert (await it.service.grant_status(ALICE)).is_signed_in


@pytest.mark.parametrize(("days", "key"), [(6, "google.ended"), (7, "sign_in.ran_out")])
async def test_a_sign_in_of_which_the_end_was_known_says_that_it_was_given_for_some_days_only(
    days: int, key: str
) -> None:
    """Google's sign-in for an app in status Testing ends with the same error as one whose password was changed."""
    async with world() as it:
        await it.service.keep(ALICE, replace(it.provider.issue(), ends_at=it.clock.now() + 7 * 86400))
        it.clock.advance(3 * 86400)
        await it.service.access_token(ALICE)  # the answer to a refresh does not repeat `ends_at`
        it.clock.advance((days - 3) * 86400)
        ended = Diagnosis.of("google.ended", "invalid_grant: Bad Request")
        it.provider.problem = GrantRevoked(ended.told(), diagnosis=ended)
        problem = await _asked(it)
        assert problem.diagnosis == Diagnosis.of(key, ended.words)
        assert [notice.diagnosis for notice in it.notices if isinstance(notice, RefreshFailed)] == [problem.diagnosis]
        assert (await it.service.grant_status(ALICE)).diagnosis == problem.diagnosis


async def _asked(it: World) -> BridgeError:
    with pytest.raises(BridgeError) as caught:
        await it.service.access_token(ALICE)
    return caught.value


async def test_a_restart_goes_on_with_what_is_stored() -> None:
    clock, store = HandClock(), FailingStore()
    async with world(store, clock) as it:
        token = await it.sign_in()
    async with world(store, clock) as again:
        assert await again.service.access_token(ALICE) == token


async def test_a_provider_that_is_away_costs_no_token_and_is_not_asked_by_everybody() -> None:
    async with world() as it:
        await it.sign_in()
        it.clock.advance(4000)
        it.provider.problem = ProviderUnavailable("HTTP 500")
        for _ in range(10):
            with pytest.raises(ProviderUnavailable):
                await it.service.access_token(ALICE)
        assert it.provider.refreshes == 1
        assert it.heard(RefreshFailed) == 1
        it.provider.problem = None
        it.clock.advance(refresh.RETRY_AFTER)
        assert (await it.service.access_token(ALICE)).value.reveal() == "CANARY-access-2"
        assert (await it.service.grant_status(ALICE)).detail == ""


async def test_a_stale_token_serves_while_the_provider_is_away() -> None:
    async with world() as it:
        token = await it.sign_in()
        it.clock.advance(2000)
        it.provider.problem = ProviderUnavailable("HTTP 500")
        assert await it.service.access_token(ALICE) == token
        assert (await it.service.grant_status(ALICE)).detail == "HTTP 500"


async def test_trap_20_a_revoked_grant_asks_the_person_once_and_the_provider_no_more() -> None:
    async with world() as it:
        await it.sign_in()
        it.clock.advance(4000)
        it.provider.end()
        for _ in range(5):
            with pytest.raises(AuthorizationRequired):
                await it.service.access_token(ALICE)
        assert it.provider.refreshes == 1
        assert it.heard(AuthorizationNeeded) == 1
        stored = await it.vault.load(ALICE.address)
        assert stored.entry is not None
        assert "has ended" in stored.entry.ended
        it.clock.advance(reminders.REMIND_EVERY)
        with pytest.raises(AuthorizationRequired):
            await it.service.access_token(ALICE)
        assert it.heard(AuthorizationNeeded) == 2
        await it.sign_in()
        await it.service.access_token(ALICE)


async def test_peer_09_a_refused_token_is_replaced_once_and_then_left_alone() -> None:
    async with world() as it:
        token = await it.sign_in()
        it.clock.advance(100)
        second = await it.service.access_token(ALICE, refused=token)
        assert second != token
        assert await it.service.access_token(ALICE, refused=second) == second  # brand new: the token is not the cause
        assert await it.service.access_token(ALICE, refused=token) == second  # it has been replaced already
        assert it.provider.refreshes == 1


async def test_scripts_hear_of_a_grant_that_has_ended() -> None:
    async with world() as it:
        await it.sign_in()
        it.clock.advance(4000)
        it.provider.end()
        with pytest.raises(AuthorizationRequired):
            await it.service.access_token(ALICE)
        told = [found.event for found in map(event_of, it.notices) if found is not None]
        assert told == ["refresh-failed", "authorization-needed"]


async def test_trap_29_peer_08_the_wrong_person_is_named_and_nothing_is_stored() -> None:
    async with world() as it:
        it.provider.subject = Subject("mallory@example.com")
        with pytest.raises(
            AuthorizationFailed, match=r"mallory@example.com has signed in, but alice@example.com"
        ) as caught:
            await it.sign_in()
        assert caught.value.code == "wrong_person"
        assert (await it.vault.load(ALICE.address)).entry is None
        # Nobody can sign in as a shared mailbox: this tells its delegate what to configure.
        assert "sign_in_as: mallory@example.com" in str(caught.value)


async def test_a_shared_mailbox_is_opened_by_the_person_named_in_the_configuration() -> None:
    async with world() as it:
        token = await it.sign_in(SALES)
        assert await it.service.access_token(SALES) == token


async def test_trap_30_an_alias_that_the_provider_vouches_for_is_the_same_person() -> None:
    async with world() as it:
        it.provider.subject = Subject("alice@contoso.onmicrosoft.com", aliases=frozenset({"alice@example.com"}))
        await it.sign_in()


async def test_without_evidence_the_mailbox_decides() -> None:
    async with world() as it:
        it.provider.subject = None
        assert await it.service.keep(ALICE, it.provider.issue()) == ALICE.subject
    async with world(verify=mailbox_refuses) as it:
        it.provider.subject = None
        with pytest.raises(UpstreamRefused):
            await it.sign_in()
        assert (await it.vault.load(ALICE.address)).entry is None


@pytest.mark.parametrize("is_elsewhere", [False, True])
async def test_a_late_refresh_does_not_overwrite_a_new_sign_in(is_elsewhere: bool) -> None:
    """Elsewhere, the token of the refresh is even the younger one."""
    async with world() as it, world(it.store, it.clock) as other:
        await it.sign_in()
        it.clock.advance(4000)
        async with it.refreshing() as late:
            newest = replace(it.provider.issue(), grant=Secret("CANARY-newest"))
            await (other if is_elsewhere else it).service.keep(ALICE, newest)
            it.clock.advance(1 if is_elsewhere else 0)
            it.provider._good = "CANARY-grant-1"
        assert late.result() == newest.access
        stored = await it.vault.load(ALICE.address)
        assert stored.entry is not None
        assert stored.entry.tokens.grant.reveal() == "CANARY-newest"


async def test_two_processes_on_one_store_refresh_once() -> None:
    clock, store = HandClock(), FailingStore()
    async with world(store, clock) as one, world(store, clock) as two:
        await one.sign_in()
        assert await two.service.access_token(ALICE) == await one.service.access_token(ALICE)
        clock.advance(4000)
        one.provider.gate.clear()
        async with asyncio.TaskGroup() as group:
            first = group.create_task(one.service.access_token(ALICE))
            await one.provider.entered.wait()
            second = group.create_task(two.service.access_token(ALICE))
            await asyncio.sleep(0)
            one.provider.gate.set()
        assert first.result() == second.result()
        assert (one.provider.refreshes, two.provider.refreshes) == (1, 0)


async def test_a_record_of_before_clients_were_noted_gets_its_own_with_the_next_refresh() -> None:
    async with world() as it:
        await it.sign_in()
        stored = await it.vault.load(ALICE.address)
        assert stored.entry is not None
        await it.vault.save(ALICE.address, replace(stored.entry, client=""), expected=stored.version)
        it.clock.advance(4000)
        await it.service.access_token(ALICE)
        stored = await it.vault.load(ALICE.address)
        assert stored.entry is not None
        assert stored.entry.client == it.provider.client


async def test_a_provider_that_is_called_otherwise_from_now_on_asks_nobody() -> None:
    async with world() as it:
        token = await it.sign_in()
        it.providers["renamed"] = it.providers.pop("acme")
        renamed = replace(ALICE, provider="renamed")
        assert await it.service.access_token(renamed) == token
        it.clock.advance(4000)
        assert await it.service.access_token(renamed) != token
        entry = (await it.vault.load(ALICE.address)).entry
        assert entry is not None
        assert entry.provider == "renamed"


async def test_a_session_from_before_a_reload_without_its_provider_is_told_to_come_again() -> None:
    async with world() as it:
        await it.sign_in()
        it.providers.clear()
        with pytest.raises(ProviderUnavailable, match="the provider acme is no longer configured"):
            await it.service.access_token(ALICE)


async def test_a_refused_token_does_not_come_back_by_a_refresh_that_was_under_way() -> None:
    async with world() as it:
        token = await it.sign_in()
        it.clock.advance(2000)  # less than half of its life is left
        it.provider.gate.clear()

        async def refused() -> None:
            with pytest.raises(ProviderUnavailable):
                await it.service.access_token(ALICE, refused=token)

        async with asyncio.TaskGroup() as group:
            first = group.create_task(it.service.access_token(ALICE))
            await it.provider.entered.wait()
            group.create_task(refused())
            await asyncio.sleep(0)
            it.provider.problem = ProviderUnavailable("away")
            it.provider.gate.set()
        assert first.result() == token


async def test_nor_by_one_that_another_login_begins_as_that_ends() -> None:
    async with world() as it:
        token = await it.sign_in()
        it.clock.advance(2000)
        it.provider.gate.clear()

        async def comes_twice() -> None:
            for _ in range(2):
                assert await it.service.access_token(ALICE) == token

        async def refused() -> None:
            with pytest.raises(ProviderUnavailable):
                await it.service.access_token(ALICE, refused=token)

        async with asyncio.TaskGroup() as group:
            group.create_task(comes_twice())
            await it.provider.entered.wait()
            group.create_task(refused())
            await asyncio.sleep(0)
            it.provider.problem = ProviderUnavailable("away")
            it.provider.gate.set()


async def test_adopt_tries_the_token_before_it_is_stored() -> None:
    async with world() as it:
        good = it.provider.issue().grant
        assert await it.service.adopt(ALICE, good) == "alice@example.com"
        assert it.heard(Authorized) == 1
        with pytest.raises(AuthorizationFailed, match="does not take this token"):
            await it.service.adopt(ALICE, Secret("CANARY-stolen"))
        assert (await it.vault.load(ALICE.address)).entry is not None


@pytest.mark.parametrize("step", [3600, -3600])
async def test_a_clock_an_hour_off_costs_one_refresh_when_it_is_set_and_none_after(step: float) -> None:
    async with world() as it:
        await it.sign_in()
        for times, seconds in enumerate((step, -step), 1):
            it.clock.set_wall(seconds)
            for _ in range(5):
                token = await it.service.access_token(ALICE)
                assert token.is_fresh(it.clock.now())
                it.clock.advance(60)
            assert it.provider.refreshes == times


async def test_standing_tells_who_and_why() -> None:
    async with world() as it:
        assert not (await it.service.grant_status(ALICE)).is_signed_in
        await it.sign_in()
        grant = await it.service.grant_status(ALICE)
        assert grant.is_signed_in
        assert grant.signed_in_as == "alice@example.com"
        it.provider.subject = Subject("al@example.com", aliases=frozenset({"alice@example.com"}))
        token = await it.sign_in()
        grant = await it.service.grant_status(ALICE)
        assert (grant.signed_in_as, grant.expires_at) == ("al@example.com", token.expires_at)
        it.store.is_away = True
        grant = await it.service.grant_status(ALICE)
        assert (grant.is_signed_in, grant.is_readable, grant.detail) == (False, False, "the disk is away")


@pytest.mark.parametrize(("kind", "times"), [(ProviderUnavailable, 0), (ProviderRefused, 2)])
async def test_scripts_hear_of_a_registration_that_is_refused_every_ten_minutes_and_of_no_outage(
    kind: type[ProviderUnavailable], times: int
) -> None:
    async with world() as it:
        await it.sign_in()
        it.clock.advance(4000)
        for _ in range(20):  # as a CRM that tries every minute
            it.provider.problem = kind("the secret has expired")
            with pytest.raises(kind):
                await it.service.access_token(ALICE)
            it.clock.advance(60)
        assert it.heard(RefreshFailed) == it.provider.refreshes == 20
        told = [found for found in map(event_of, it.notices) if found is not None]
        assert [(found.event, found.account) for found in told] == [("refresh-failed", ALICE.address)] * times
        assert all("the secret has expired" in found.reason for found in told)


async def test_scripts_hear_of_a_registration_that_is_refused_once_for_all_its_accounts_and_ever_more_seldom() -> None:
    accounts = [replace(ALICE, address=f"person{number}@example.com", subject=ALICE.subject) for number in range(6)]
    elsewhere = replace(ALICE, address="person@example.org")
    async with world() as it:
        for account in (*accounts, elsewhere):
            await it.sign_in(account)
        it.clock.advance(4000)

        async def told_in(minutes: int) -> list[str]:
            it.notices.clear()
            for _ in range(minutes):
                for account in (*accounts, elsewhere):
                    it.provider.problem = ProviderRefused("the secret has expired")
                    with pytest.raises(ProviderRefused):
                        await it.service.access_token(account)
                it.clock.advance(60)
            return [found.account for found in map(event_of, it.notices) if found is not None]

        first, other = accounts[0].address, elsewhere.address
        assert await told_in(10) == [first, other]
        assert await told_in(50) == [first, other] * 2  # after 10 and 30 minutes; the next one would come after 70
        it.providers["acme"] = it.provider = StrictProvider(it.clock)  # as by a reload that did not help
        assert await told_in(10) == [first, other]


async def test_scripts_hear_at_least_once_a_day_of_a_registration_that_stays_refused() -> None:
    async with world() as it:
        await it.sign_in()
        it.clock.advance(4000)
        for _ in range(12):
            it.provider.problem = ProviderRefused("the secret has expired")
            with pytest.raises(ProviderRefused):
                await it.service.access_token(ALICE)
            it.clock.advance(reminders.REMIND_LAST)
        assert sum(event_of(notice) is not None for notice in it.notices) == 12


async def test_a_refusal_that_comes_behind_a_success_is_another_one() -> None:
    """Only for the organization that had the success."""
    elsewhere = replace(ALICE, address="person@example.org")
    async with world() as it:

        async def refused(account: Account, why: str) -> None:
            it.provider.problem = ProviderRefused(why)
            with pytest.raises(ProviderRefused):
                await it.service.access_token(account)

        for account in (elsewhere, ALICE):
            await it.sign_in(account)
        it.clock.advance(4000)
        for _ in range(71):  # reported at once, and after 10, 30 and 70 minutes
            for account in (ALICE, elsewhere):
                await refused(account, "the secret has expired")
            it.clock.advance(60)
        it.provider.problem = None
        await it.service.access_token(ALICE)
        it.clock.advance(4000)
        it.notices.clear()
        for account in (ALICE, elsewhere):
            await refused(account, "the new secret has been deleted")
        assert [found.account for found in map(event_of, it.notices) if found is not None] == [ALICE.address]


async def test_a_refusal_of_long_ago_keeps_no_provider_that_was_replaced() -> None:
    """Otherwise a bridge that runs for a year keeps a provider for each mailbox and each reason for trouble."""
    kept_out = Diagnosis.of("microsoft.conditional_access")
    async with world() as it:
        it.providers["acme"] = it.provider = StrictProvider(it.clock)  # world() itself holds the first one
        await it.sign_in()
        it.clock.advance(4000)
        it.provider.problem = ProviderRefused(kept_out.told(), diagnosis=kept_out)
        with pytest.raises(ProviderRefused):
            await it.service.access_token(ALICE)
        old = weakref.ref(it.provider)
        it.providers["acme"] = it.provider = StrictProvider(it.clock)
        for account in (ALICE, SALES):
            await it.sign_in(account)
        it.clock.advance(reminders.REMINDER_LIFE)
        it.provider.problem = ProviderRefused(kept_out.told(), diagnosis=kept_out)
        with pytest.raises(ProviderRefused):
            await it.service.access_token(SALES)
        gc.collect()
        assert old() is None


async def test_scripts_hear_of_each_person_whom_a_policy_keeps_out() -> None:
    async with world() as it:
        kept_out = Diagnosis.of("microsoft.conditional_access")
        for account in (ALICE, SALES):
            await it.sign_in(account)
        it.clock.advance(4000)
        it.provider.problem = ProviderRefused(kept_out.told(), diagnosis=kept_out)
        for account in (ALICE, SALES):
            with pytest.raises(ProviderRefused):
                await it.service.access_token(account)
        told = [found.account for found in map(event_of, it.notices) if found is not None]
        assert told == [ALICE.address, SALES.address]


async def test_a_corrected_configuration_has_no_trouble_yet() -> None:
    async with world() as it:
        await it.sign_in()
        it.clock.advance(1900)
        it.provider.problem = ProviderRefused("the secret has expired")
        await it.service.access_token(ALICE)
        assert (await it.service.grant_status(ALICE)).detail == "the secret has expired"
        it.providers["acme"] = StrictProvider(it.clock)  # as by a reload with the new secret
        assert (await it.service.grant_status(ALICE)).detail == ""


@pytest.mark.parametrize("is_unattended", [False, True])
async def test_what_is_said_by_an_adapter_that_a_reload_has_replaced_meanwhile_is_not_the_new_ones_trouble(
    is_unattended: bool,
) -> None:
    async with world() as it:
        await it.sign_in()
        it.provider.is_unattended = is_unattended
        it.clock.advance(1900)
        it.provider.gate.clear()
        async with asyncio.TaskGroup() as group:
            group.create_task(it.service.access_token(ALICE))
            await it.provider.entered.wait()
            it.provider.problem = GrantRevoked("ask the admin") if is_unattended else ProviderRefused("an old secret")
            corrected = it.providers["acme"] = StrictProvider(it.clock)
            corrected.is_unattended = is_unattended
            corrected.issue()  # so that it accepts the stored grant
            it.provider.gate.set()
        assert (await it.service.grant_status(ALICE)).detail == ""
        await it.service.access_token(ALICE)
        assert corrected.refreshes == 1, "it is asked at once: it has not failed"


async def test_no_notice_and_no_error_holds_a_secret() -> None:
    async with world() as it:
        await it.sign_in()
        it.clock.advance(4000)
        it.provider.end()
        with pytest.raises(AuthorizationRequired) as caught:
            await it.service.access_token(ALICE)
        assert "CANARY" not in repr(it.notices) + repr(caught.value) + str(caught.value.__cause__)


# --- a provider that takes longer than a mail program waits ---------------------------------------------------------


async def test_an_answer_that_comes_after_the_login_has_given_up_is_kept() -> None:
    async with world(patience=0.02) as it:
        await it.sign_in()
        it.clock.advance(3600)
        it.provider.gate.clear()
        for _ in range(3):
            with pytest.raises(ProviderUnavailable, match=r"has not answered within 0.02 seconds"):
                await it.service.access_token(ALICE)
        it.provider.gate.set()
        it.service._patience = PATIENCE  # a busy machine may need it
        token = await it.service.access_token(ALICE)
        assert it.provider.refreshes == 1
        assert (await it.service.access_token(ALICE)).value == token.value
        assert it.heard(RefreshFailed) == 0


async def test_a_login_that_does_not_wait_any_longer_uses_the_old_token_while_it_lives() -> None:
    async with world(patience=0.02) as it:
        first = await it.sign_in()
        it.clock.advance(2000)  # less than half of its life is left
        it.provider.gate.clear()
        assert (await it.service.access_token(ALICE)).value == first.value
        it.provider.gate.set()
        it.service._patience = PATIENCE  # a busy machine may need it
        assert (await it.service.access_token(ALICE)).value != first.value
        assert it.provider.refreshes == 1


async def test_leaving_waits_for_an_answer_that_is_late() -> None:
    async with world(patience=0.02) as it:
        await it.sign_in()
        it.clock.advance(3600)
        it.provider.gate.clear()
        with pytest.raises(ProviderUnavailable):
            await it.service.access_token(ALICE)
        asyncio.get_running_loop().call_soon(it.provider.gate.set)
        stored = await it.vault.load(ALICE.address)
    assert (await it.vault.load(ALICE.address)).version > stored.version


async def test_leaving_does_not_wait_for_ever_for_a_revocation_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STOP_SECONDS", 0.0)
    async with asyncio.timeout(30), world() as it:
        await it.sign_in()
        it.provider.revoking.clear()
        it.providers["other"] = elsewhere = StrictProvider(it.clock)
        elsewhere.fingerprint = elsewhere.client = elsewhere.consent = "other"
        await it.service.keep(replace(ALICE, provider="other"), elsewhere.issue())
    assert it.provider.revoked == []


async def test_leaving_does_not_wait_for_ever_and_then_no_refresh_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STOP_SECONDS", 0.0)
    async with asyncio.timeout(30), world(patience=0.02) as it:
        await it.sign_in()
        it.clock.advance(3600)
        it.provider.gate.clear()
        with pytest.raises(ProviderUnavailable):
            await it.service.access_token(ALICE)
    with pytest.raises(StoreUnavailable, match="mail-bridge is stopping"):
        await it.service.access_token(ALICE)
