"""A person has signed in but the store cannot save it: once it can, nobody has to sign in again."""

from __future__ import annotations

import asyncio
import io

import pytest

from bridge.errors import AuthorizationRequired, SignInUnsaved, StoreUnavailable
from bridge.notices import Authorized, Forgotten
from bridge.stores.memory import MemoryStore
from tests.tokens.fakes import ALICE, FailingStore
from tests.tokens.world import world


@pytest.mark.parametrize("by", ["the helper", "a login"])
async def test_it_is_saved_once_the_disk_is_free_and_told_then(by: str, log: io.StringIO) -> None:
    async with world() as it:
        token = await it.sign_in_onto_a_full_disk()
        await it.service.save_unsaved()
        with pytest.raises(StoreUnavailable, match="the disk is full"):
            await it.service.access_token(ALICE)
        assert it.heard(Authorized) == 0
        assert "sign_in.stored" not in log.getvalue()
        it.store.is_full = False
        if by == "the helper":
            await it.service.save_unsaved()
        assert await it.service.access_token(ALICE) == token
        await it.service.save_unsaved()
        assert it.heard(Authorized) == 1
        assert log.getvalue().count("sign_in.stored") == 1
        assert it.provider.refreshes == 0
        stored = await it.vault.load(ALICE.address)
        assert stored.entry is not None
        assert stored.entry.tokens.access == token


async def test_meanwhile_it_is_the_stores_trouble_and_nobody_is_called() -> None:
    async with world() as it:
        await it.sign_in_onto_a_full_disk()
        grant = await it.service.grant_status(ALICE)
        assert (grant.is_signed_in, grant.is_readable) == (False, False)
        assert "the disk is full" in grant.detail
        it.store.is_full = False
        await it.service.save_unsaved()
        grant = await it.service.grant_status(ALICE)
        assert (grant.is_signed_in, grant.detail) == (True, "")


async def test_the_last_thing_before_the_end_is_to_save_it() -> None:
    async with world() as it:
        token = await it.sign_in_onto_a_full_disk()
        it.store.is_full = False
    async with world(it.store, it.clock) as again:
        assert await again.service.access_token(ALICE) == token


async def test_one_that_was_saved_though_the_answer_to_that_was_lost_is_told_too() -> None:
    """A database server may vanish right after its commit."""
    async with world() as it:
        await it.sign_in_onto_a_full_disk()
        unsaved = it.service._known(ALICE.address).unsaved
        assert unsaved is not None
        it.store.is_full = False
        await it.vault.save(ALICE.address, unsaved.entry, expected=unsaved.version)
        await it.service.save_unsaved()
        assert it.heard(Authorized) == 1
        assert (await it.service.access_token(ALICE)).value.reveal() == "CANARY-access-1"


async def test_it_takes_the_place_of_the_sign_in_before() -> None:
    async with world() as it:
        await it.sign_in()
        it.clock.advance(10)
        token = await it.sign_in_onto_a_full_disk()
        it.store.is_full = False
        assert await it.service.access_token(ALICE) == token


async def test_of_two_that_wait_the_later_counts() -> None:
    async with world() as it:
        await it.sign_in_onto_a_full_disk()
        token = await it.sign_in_onto_a_full_disk()
        it.store.is_full = False
        await it.service.save_unsaved()
        assert await it.service.access_token(ALICE) == token


async def test_whoever_signs_out_meanwhile_is_signed_out() -> None:
    async with world() as it:
        await it.sign_in_onto_a_full_disk()
        await it.service.forget(ALICE)
        assert it.heard(Forgotten) == 1
        assert it.provider.revoked == ["CANARY-grant-1"]
        it.store.is_full = False
        await it.service.save_unsaved()
        with pytest.raises(AuthorizationRequired):
            await it.service.access_token(ALICE)
        assert (await it.vault.load(ALICE.address)).entry is None


async def test_a_later_sign_in_at_another_node_counts_more_and_so_does_a_sign_out() -> None:
    async with world() as it, world(it.store, it.clock) as other:
        other.providers["acme"] = it.provider
        await it.sign_in()
        it.clock.advance(10)
        await it.sign_in_onto_a_full_disk()
        it.clock.advance(10)
        it.store.is_full = False
        newest = await other.sign_in()
        await it.service.save_unsaved()
        assert await it.service.access_token(ALICE) == newest
        await it.sign_in_onto_a_full_disk()
        it.store.is_full = False
        await other.service.forget(ALICE)
        await it.service.save_unsaved()
        with pytest.raises(AuthorizationRequired):
            await it.service.access_token(ALICE)
        assert it.heard(Authorized) == 1
        assert it.provider.revoked[-1] == "CANARY-grant-3", "nobody knows of it any more"


async def test_a_store_that_could_not_even_be_read_gets_it_in_place_of_what_it_turns_out_to_hold() -> None:
    async with world() as it:
        await it.sign_in()
        it.clock.advance(10)
        async with world(it.store, it.clock) as other:
            other.providers["acme"] = it.provider
            other.store.is_away = True
            tokens = it.provider.issue()
            with pytest.raises(SignInUnsaved, match="the disk is away"):
                await other.service.keep(ALICE, tokens)
            other.store.is_away = False
            await other.service.save_unsaved()
            assert await other.service.access_token(ALICE) == tokens.access


@pytest.mark.parametrize("is_free_again", [False, True])
async def test_the_answer_to_a_refresh_that_was_under_way_does_not_take_its_place(is_free_again: bool) -> None:
    async with world() as it:
        await it.sign_in()
        it.clock.advance(4000)
        it.provider.gate.clear()
        async with asyncio.TaskGroup() as group:
            login = group.create_task(outcome(it.service.access_token(ALICE)))
            await it.provider.entered.wait()
            token = await it.sign_in_onto_a_full_disk()
            it.store.is_full = not is_free_again
            it.provider.gate.set()
        it.store.is_full = False
        assert await it.service.access_token(ALICE) == token
        assert isinstance(login.result(), StoreUnavailable) is not is_free_again


class SlowDisk(FailingStore):
    """One write takes until the test lets it go on, while later ones fail."""

    def __init__(self) -> None:
        super().__init__()
        self.is_slow = False
        self.is_writing = asyncio.Event()
        self.goes_on = asyncio.Event()

    async def put(self, key: str, value: bytes, *, expected: int) -> int:
        if self.is_slow:
            self.is_slow = False
            self.is_writing.set()
            await self.goes_on.wait()
            return await MemoryStore.put(self, key, value, expected=expected)
        return await super().put(key, value, expected=expected)


async def test_one_that_comes_to_wait_while_a_refresh_of_before_is_saved_is_saved_next() -> None:
    store = SlowDisk()
    async with world(store) as it:
        await it.refresh_onto_a_full_disk()
        store.is_slow = True
        async with asyncio.TaskGroup() as group:
            group.create_task(it.service.save_unsaved())
            await store.is_writing.wait()
            it.clock.advance(1)
            token = await it.sign_in_onto_a_full_disk()
            store.goes_on.set()
        store.is_full = False
        assert it.heard(Authorized) == 1, "the first sign-in of all"
        assert await it.service.access_token(ALICE) == token
        assert it.heard(Authorized) == 2


async def outcome(login: object) -> object:
    try:
        return await login  # type: ignore[misc]  # whatever is awaited
    except StoreUnavailable as problem:
        return problem
