"""A sign-out removes the record in any case, and revokes each grant at the provider that issued it and nowhere else."""

from __future__ import annotations

import asyncio
import io
from dataclasses import replace

import pytest

from bridge.advice.diagnosis import Diagnosis
from bridge.advice.said import said
from bridge.errors import (
    AuthorizationRequired,
    BridgeError,
    GrantRevoked,
    ProviderUnavailable,
    StoreCorrupt,
    StoreUnavailable,
)
from bridge.notices import AuthorizationNeeded, Authorized, Forgotten
from bridge.secret import Secret
from bridge.stores.base import Record
from bridge.tokens import service as module
from tests.tokens.fakes import ALICE, FailingStore, HandClock, StrictProvider
from tests.tokens.world import World, world


async def test_forget_revokes_removes_and_tells() -> None:
    async with world() as it:
        await it.sign_in()
        await it.service.forget(ALICE)
        assert it.provider.revoked == ["CANARY-grant-1"]
        assert it.heard(Forgotten) == 1
        with pytest.raises(AuthorizationRequired):
            await it.service.access_token(ALICE)


async def test_whoever_has_signed_out_is_called_again_at_once_by_a_mail_program() -> None:
    async with world() as it:
        for times in (1, 2):
            with pytest.raises(AuthorizationRequired):
                await it.service.access_token(ALICE)
            assert it.heard(AuthorizationNeeded) == times
            await it.sign_in()
            await it.service.forget(ALICE)


async def test_of_a_grant_that_has_ended_nothing_is_left_to_revoke() -> None:
    async with world() as it:
        await it.sign_in()
        it.clock.advance(4000)
        it.provider.end()
        with pytest.raises(AuthorizationRequired):
            await it.service.access_token(ALICE)
        assert await it.service.forget(ALICE) == ()
        assert it.provider.revoked == []


async def test_a_grant_is_revoked_where_it_was_given_and_shown_to_nobody_else() -> None:
    async with world() as it:
        other = it.providers["other"] = StrictProvider(it.clock)
        await it.sign_in()
        await it.service.forget(replace(ALICE, provider="other"))
        assert (it.provider.revoked, other.revoked) == (["CANARY-grant-1"], [])


async def test_the_grant_that_is_revoked_is_the_one_that_another_process_has_stored_last() -> None:
    async with world() as it, world(it.store, it.clock) as other:
        other.providers["acme"] = it.provider
        await it.sign_in()
        it.clock.advance(4000)
        await other.service.access_token(ALICE)
        await it.service.forget(ALICE)
        assert it.provider.revoked == ["CANARY-grant-2"]


@pytest.mark.parametrize("is_elsewhere", [False, True])
async def test_who_signs_out_during_a_refresh_has_its_fruit_revoked_too(is_elsewhere: bool) -> None:
    clock, store = HandClock(), FailingStore()
    async with world(store, clock) as one, world(store, clock) as two:
        await one.sign_in()
        clock.advance(4000)
        one.provider.gate.clear()

        async def wants_a_token() -> None:
            with pytest.raises(AuthorizationRequired):
                await one.service.access_token(ALICE)

        async with asyncio.TaskGroup() as group:
            group.create_task(wants_a_token())
            await one.provider.entered.wait()
            await (two if is_elsewhere else one).service.forget(ALICE)
            one.provider.gate.set()
        assert one.provider.revoked[-1] == "CANARY-grant-2"
        assert (await one.vault.load(ALICE.address)).entry is None


@pytest.mark.parametrize("problem", [GrantRevoked("it has ended"), ProviderUnavailable("away")])
async def test_who_signs_out_during_a_refresh_that_fails_is_signed_out(problem: BridgeError) -> None:
    async with world() as it:
        await it.sign_in()
        it.clock.advance(4000)
        it.provider.gate.clear()

        async def wants_a_token() -> None:
            with pytest.raises((AuthorizationRequired, ProviderUnavailable)):
                await it.service.access_token(ALICE)

        async with asyncio.TaskGroup() as group:
            group.create_task(wants_a_token())
            await it.provider.entered.wait()
            await it.service.forget(ALICE)
            it.provider.problem = problem
            it.provider.gate.set()
        with pytest.raises(AuthorizationRequired):
            await it.service.access_token(ALICE)
        assert (await it.vault.load(ALICE.address)).entry is None


class Keeps(StrictProvider):
    """A provider that cannot be reached when a grant is to be revoked."""

    async def revoke(self, grant: Secret[str]) -> bool:
        raise ProviderUnavailable("away")


async def test_whose_fruit_cannot_be_revoked_is_signed_out_all_the_same(log: io.StringIO) -> None:
    async with world() as it:
        it.provider = it.providers["acme"] = Keeps(it.clock)
        await it.sign_in()
        it.clock.advance(4000)
        it.provider.gate.clear()

        async def wants_a_token() -> None:
            with pytest.raises(AuthorizationRequired):
                await it.service.access_token(ALICE)

        async with asyncio.TaskGroup() as group:
            group.create_task(wants_a_token())
            await it.provider.entered.wait()
            await it.service.forget(ALICE)
            it.provider.gate.set()
        assert log.getvalue().count("revocation.failed") == 2, "the grant, and its successor"


async def test_who_signs_out_and_in_again_elsewhere_during_a_refresh_stays_signed_in() -> None:
    """At Google, revoking one token would end all grants of that person."""
    clock, store = HandClock(), FailingStore()
    async with world(store, clock) as one, world(store, clock) as two:
        await one.sign_in()
        clock.advance(4000)
        one.provider.gate.clear()
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(one.service.access_token(ALICE))
            await one.provider.entered.wait()
            await one.service.forget(ALICE)
            token = await two.sign_in()
            one.provider.gate.set()
        assert waiting.result() == token
        assert one.provider.revoked == ["CANARY-grant-1"]


async def test_who_signs_out_while_the_disk_is_full_has_the_grant_revoked_that_it_did_not_take() -> None:
    async with world() as it:
        await it.sign_in()
        it.clock.advance(4000)
        it.store.is_full = True
        with pytest.raises(StoreUnavailable):
            await it.service.access_token(ALICE)
        await it.service.forget(ALICE)
        assert it.provider.revoked == ["CANARY-grant-1", "CANARY-grant-2"]


@pytest.mark.parametrize("is_signed_in_again", [False, True])
async def test_who_signs_out_elsewhere_while_the_disk_is_full_has_revoked_what_it_did_not_take(
    is_signed_in_again: bool,
) -> None:
    clock, store = HandClock(), FailingStore()
    async with world(store, clock) as one, world(store, clock) as two:
        await one.refresh_onto_a_full_disk()
        await two.service.forget(ALICE)
        await one.service.notice_removals()
        store.is_full = False
        if is_signed_in_again:  # at Google, revoking one token would end all grants of that person
            await two.sign_in()
        await one.service.save_unsaved()
        assert one.provider.revoked == ([] if is_signed_in_again else ["CANARY-grant-2"])
        assert two.provider.revoked == ["CANARY-grant-1"]


@pytest.mark.parametrize("is_unattended", [False, True])
async def test_what_the_disk_did_not_take_and_nobody_can_revoke_is_given_up(is_unattended: bool) -> None:
    """Either the provider has left the configuration, or there is no grant to revoke."""
    clock, store = HandClock(), FailingStore()
    async with world(store, clock) as one, world(store, clock) as two:
        one.provider.is_unattended = is_unattended
        await one.refresh_onto_a_full_disk()
        await two.service.forget(ALICE)
        store.is_full = False
        if not is_unattended:
            one.providers.clear()
        await one.service.save_unsaved()
        assert one.provider.revoked == []
        assert (await one.vault.load(ALICE.address)).entry is None


async def test_another_provider_of_the_same_name_is_shown_no_grant() -> None:
    async with world() as it:
        await it.sign_in()
        it.provider.fingerprint, it.provider.client = "two", "another"
        await it.service.forget(ALICE)
        assert it.provider.revoked == []
        assert (await it.vault.load(ALICE.address)).entry is None


async def test_a_grant_that_other_scopes_have_made_useless_is_revoked_too() -> None:
    async with world() as it:
        await it.sign_in()
        it.provider.fingerprint = "two"
        with pytest.raises(AuthorizationRequired, match="settings have changed"):
            await it.service.access_token(ALICE)
        await it.service.forget(ALICE)
        assert it.provider.revoked == ["CANARY-grant-1"]


@pytest.mark.parametrize("is_noted", [True, False])
async def test_a_grant_is_revoked_whatever_its_provider_is_called_by_now(is_noted: bool) -> None:
    async with world() as it:
        it.provider.client = "mine" if is_noted else ""  # a record from before clients were noted
        await it.sign_in()
        it.provider.client = "mine"
        stranger = it.providers["acme"] = StrictProvider(it.clock)
        stranger.fingerprint, stranger.client = "two", "another"
        it.providers["renamed"] = it.provider
        await it.service.forget(replace(ALICE, provider="renamed"))
        assert (it.provider.revoked, stranger.revoked) == (["CANARY-grant-1"], [])


async def test_forget_works_while_the_provider_is_away() -> None:
    async with world() as it:
        await it.sign_in()
        it.provider.problem = ProviderUnavailable("away")
        await it.service.forget(ALICE)
        assert (await it.vault.load(ALICE.address)).entry is None


async def test_who_signs_out_hears_what_may_still_be_good_at_the_provider() -> None:
    async with world() as it:
        assert await it.service.forget(ALICE) == ()
        await it.sign_in()
        assert await it.service.forget(ALICE) == ()
        await it.sign_in()
        it.provider.has_revocation = False
        assert _reasons(await it.service.forget(ALICE)) == ["the provider acme does not let programs end a sign-in"]
        await it.sign_in()
        it.provider.problem = ProviderUnavailable(said("{host} refuses the connection.", host="acme.example"))
        assert _reasons(await it.service.forget(ALICE)) == ["acme.example refuses the connection."]
        await it.sign_in()
        it.providers.clear()
        assert _reasons(await it.service.forget_address(ALICE.address)) == ["the provider acme is no longer configured"]
    store = Damaged()
    async with world(store) as it:
        await it.sign_in()
    async with world(store) as it:
        store.is_damaged = True
        assert _reasons(await it.service.forget(ALICE)) == ["the stored sign-in could not be read"]


async def test_what_waits_to_be_saved_over_a_damaged_record_is_revoked_all_the_same() -> None:
    """Afterwards nobody holds that token any more."""
    store = Damaged()
    async with world(store) as it:
        await it.sign_in()
    async with world(store) as it:
        store.is_damaged = True
        await it.sign_in_onto_a_full_disk()
        store.is_full = False
        assert _reasons(await it.service.forget(ALICE)) == ["the stored sign-in could not be read"]
        assert len(it.provider.revoked) == 1


def _reasons(unrevoked: tuple[Diagnosis, ...]) -> list[str]:
    assert {one.key for one in unrevoked} == {"sign_out.unrevoked"}
    return [str(one.words) for one in unrevoked]


class Overtaken(FailingStore):
    """Another process changes the record just before our write, as many times as the test says."""

    times = 0

    async def put(self, key: str, value: bytes, *, expected: int) -> int:
        await self._changed_before(key, value, expected)
        return await super().put(key, value, expected=expected)

    async def delete(self, key: str, *, expected: int) -> None:
        if (record := await self.get(key)) is not None:
            await self._changed_before(key, record.value, expected)
        await super().delete(key, expected=expected)

    async def _changed_before(self, key: str, value: bytes, expected: int) -> None:
        if self.times:
            self.times -= 1
            await super().put(key, value, expected=expected)


async def test_what_others_change_in_between_stops_neither_a_sign_in_nor_a_sign_out() -> None:
    store = Overtaken()
    async with world(store) as it:
        store.times = 2
        token = await it.sign_in()
        assert await it.service.access_token(ALICE) == token
        store.times = 2
        await it.service.forget(ALICE)
        assert (await it.vault.load(ALICE.address)).entry is None
        store.times = module.ROUNDS
        with pytest.raises(StoreUnavailable, match="is being changed by somebody else"):
            await it.sign_in()
        store.times = module.ROUNDS
        with pytest.raises(StoreUnavailable, match="is being changed by somebody else"):
            await it.service.forget(ALICE)
        assert it.heard(Authorized) == it.heard(Forgotten) == 1


def elsewhere(it: World, *, client: str = "new", consent: str = "new") -> StrictProvider:
    """Add another provider to the configuration, for the account to move to."""
    other = it.providers["other"] = StrictProvider(it.clock)
    other.client, other.consent, other.fingerprint = client, consent, f"of {client}"
    return other


async def test_who_signs_in_at_another_provider_has_the_grant_of_before_revoked_and_does_not_wait_for_it() -> None:
    async with world() as it:
        await it.sign_in()
        other = elsewhere(it)
        moved, tokens = replace(ALICE, provider="other"), other.issue()
        it.provider.revoking.clear()
        assert await it.service.keep(moved, tokens) == ALICE.address
        assert await it.service.access_token(moved) == tokens.access
        assert it.provider.revoked == []
        it.provider.revoking.set()
    assert it.provider.revoked == ["CANARY-grant-1"], "leaving has waited for it"
    assert other.revoked == []


async def test_a_provider_that_is_away_or_gone_stops_nobody_who_signs_in_at_another_one() -> None:
    for problem in (ProviderUnavailable("away"), RuntimeError("a bug")):
        async with world() as it:
            await it.sign_in()
            it.provider.problem = problem
            await it.service.keep(replace(ALICE, provider="other"), elsewhere(it).issue())
    async with world() as it:
        await it.sign_in()
        other = elsewhere(it)
        del it.providers["acme"]
        await it.service.keep(replace(ALICE, provider="other"), other.issue())
    assert (it.provider.revoked, other.revoked) == ([], [])


async def test_a_grant_that_a_full_disk_did_not_take_is_revoked_as_well_by_a_sign_in_elsewhere() -> None:
    async with world() as it:
        await it.refresh_onto_a_full_disk()
        it.store.is_full = False
        await it.service.keep(replace(ALICE, provider="other"), elsewhere(it).issue())
    assert sorted(it.provider.revoked) == ["CANARY-grant-1", "CANARY-grant-2"]


@pytest.mark.parametrize(("client", "consent"), [("mine", "mine"), ("another of the project", "mine")])
async def test_what_shares_its_consent_with_a_new_sign_in_is_not_revoked(client: str, consent: str) -> None:
    """At Google, revoking one token ends all grants of that person for the whole project."""
    async with world() as it:
        await it.sign_in()
        await it.sign_in()
        other = elsewhere(it, client=client, consent=consent)
        await it.service.keep(replace(ALICE, provider="other"), other.issue())
    assert (it.provider.revoked, other.revoked) == ([], [])


async def test_where_nobody_has_signed_in_there_is_nothing_to_forget() -> None:
    async with world() as it:
        await it.service.forget(ALICE)
        assert it.provider.revoked == []


class Silent(FailingStore):
    """The database removes the record, but its answer is lost."""

    is_silent = True

    async def delete(self, key: str, *, expected: int) -> None:
        await super().delete(key, expected=expected)
        if self.is_silent:
            self.is_silent = False
            raise StoreUnavailable("the connection is lost")


async def test_whoever_signs_out_again_because_the_store_did_not_answer_has_the_grant_revoked() -> None:
    async with world(Silent()) as it:
        await it.sign_in()
        with pytest.raises(StoreUnavailable):
            await it.service.forget(ALICE)
        await it.service.forget(ALICE)
        assert it.provider.revoked == ["CANARY-grant-1"]


class Damaged(FailingStore):
    """A store whose records cannot be opened once the test says so."""

    is_damaged = is_newer = False

    async def get(self, key: str) -> Record | None:
        record = await super().get(key)
        if record is not None and self.is_damaged:
            raise StoreCorrupt("damaged", version=None if self.is_newer else record.version)
        return record


async def test_a_damaged_record_can_be_forgotten_but_not_one_that_a_newer_mail_bridge_can_read() -> None:
    store = Damaged()
    async with world(store) as it:
        await it.sign_in()
        store.is_damaged = store.is_newer = True
        with pytest.raises(StoreCorrupt):
            await it.service.forget(ALICE)
        assert await it.vault.addresses() == [ALICE.address]
        store.is_newer = False
        await it.service.forget(ALICE)
        assert await it.vault.addresses() == []
        assert it.heard(Forgotten) == 1
