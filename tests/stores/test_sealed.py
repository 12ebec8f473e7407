"""Sealing and opening records, and all that must not open."""

from __future__ import annotations

import asyncio
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import StoreCorrupt, StoreUnavailable
from bridge.secret import Secret
from bridge.stores.base import NEW, Record
from bridge.stores.memory import MemoryStore
from bridge.stores.sealed import CHECK, KEY_BYTES, SET_UP_PATIENCE, SET_UP_POLL, Seal, SealedStore
from tests.clocks import ManualClock
from tests.tokens.fakes import HandClock


def key(number: int) -> Secret[bytes]:
    return Secret(b"CANARY".ljust(KEY_BYTES - 1, b".") + bytes([number]))


async def contents(store: MemoryStore) -> dict[str, Record | None]:
    return {name: await store.get(name) for name in await store.keys("")}


class Keys:
    """Answers with keys or errors in turn, and records what it was asked."""

    def __init__(self, *answers: Secret[bytes] | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[bool] = []

    async def __call__(self, has_records: bool) -> Secret[bytes]:
        self.asked.append(has_records)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@given(st.text(st.characters(exclude_categories=["Cs"])), st.binary(max_size=300))
def test_what_is_sealed_opens_as_it_was(name: str, value: bytes) -> None:
    seal = Seal(key(1))
    sealed = seal.seal(name, value)
    assert seal.open(name, sealed) == value
    assert seal.seal(name, value) != sealed  # each has a nonce of its own
    assert len(value) < 8 or value not in sealed


@settings(deadline=None)
@given(st.binary(max_size=40), st.integers(1, 255))
def test_no_byte_can_be_changed_cut_or_added(value: bytes, flip: int) -> None:
    seal = Seal(key(1))
    sealed = seal.seal("a", value)
    for place in range(len(sealed)):
        damaged = bytearray(sealed)
        damaged[place] ^= flip
        with pytest.raises(StoreCorrupt):
            seal.open("a", bytes(damaged))
        with pytest.raises(StoreCorrupt):
            seal.open("a", sealed[:place])
    with pytest.raises(StoreCorrupt):
        seal.open("a", sealed + b"\0")


@given(st.binary(max_size=100))
def test_random_bytes_do_not_open(noise: bytes) -> None:
    with pytest.raises(StoreCorrupt):
        Seal(key(1)).open("a", noise)


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_a_key_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"32 bytes, not {size}"):
        Seal(Secret(bytes(size)))


async def test_the_store_within_sees_no_plain_value() -> None:
    inner = MemoryStore()
    await SealedStore(inner, key(1)).put("a", b"CANARY-token", expected=NEW)
    records = await contents(inner)
    assert "a" in records
    for record in records.values():
        assert record is not None
        assert b"CANARY" not in record.value


async def test_a_record_copied_to_another_key_does_not_open() -> None:
    inner = MemoryStore()
    store = SealedStore(inner, key(1))
    await store.put("grant/alice", b"alice's", expected=NEW)
    stolen = await inner.get("grant/alice")
    assert stolen is not None
    await inner.put("grant/mallory", stolen.value, expected=NEW)
    with pytest.raises(StoreCorrupt, match="the record grant/mallory is damaged, or was moved here"):
        await store.get("grant/mallory")
    assert await store.get("grant/alice") == Record(b"alice's", 1)


async def test_a_damaged_record_is_reported_and_leaves_the_others_alone() -> None:
    inner = MemoryStore()
    store = SealedStore(inner, key(1))
    await store.put("a", b"a", expected=NEW)
    await store.put("b", b"b", expected=NEW)
    await inner.put("a", b"\x02 of the future", expected=1)
    with pytest.raises(StoreCorrupt, match="the record a is damaged, or was written by a newer mail-bridge"):
        await store.get("a")
    assert await store.get("b") == Record(b"b", 1)


async def test_a_wrong_key_opens_nothing_and_writes_nothing() -> None:
    inner = MemoryStore()
    await SealedStore(inner, key(1)).put("a", b"value", expected=NEW)
    before = await contents(inner)
    wrong = SealedStore(inner, key(2))
    for operation in (
        wrong.check(),
        wrong.get("a"),
        wrong.put("a", b"other", expected=1),
        wrong.put("new", b"other", expected=NEW),
        wrong.delete("a", expected=1),
    ):
        with pytest.raises(StoreCorrupt, match="this key does not belong to this store") as caught:
            await operation
        assert "CANARY" not in str(caught.value)
    assert await contents(inner) == before


async def test_a_database_that_has_got_another_key_under_us_is_not_written_to(log: io.StringIO) -> None:
    """Somebody has emptied the database or restored a copy, and another bridge has started to use it."""
    inner = MemoryStore()
    ours = SealedStore(inner, key(1))
    await ours.put("a", b"value", expected=NEW)
    await inner.delete("a", expected=1)
    await inner.delete(CHECK, expected=1)
    await SealedStore(inner, key(2)).put("a", b"theirs", expected=NEW)
    before = await contents(inner)
    stored = before["a"]
    assert stored is not None
    for operation in (
        ours.put("new", b"other", expected=NEW),
        ours.put("a", b"other", expected=stored.version),  # as after a new sign-in over a damaged record
        ours.delete("a", expected=stored.version),
    ):
        with pytest.raises(StoreCorrupt, match="this key does not belong to this store"):
            await operation
    assert await contents(inner) == before
    assert await SealedStore(inner, key(2)).get("a") == Record(b"theirs", stored.version)
    assert "store.check_mended" not in log.getvalue()


async def test_what_replaces_a_record_of_ours_gets_to_the_disk_without_a_look_at_the_database() -> None:
    """It may be the only copy of a refresh token."""

    class Asked(MemoryStore):
        async def get(self, key: str) -> Record | None:
            asked.append(key)
            return await super().get(key)

    asked: list[str] = []
    store = SealedStore(Asked(), key(1))
    version = await store.put("a", b"value", expected=NEW)
    asked.clear()
    version = await store.put("a", b"next", expected=version)
    await store.delete("a", expected=version)
    assert asked == []


async def test_a_database_that_is_emptied_under_us_is_ours_from_the_next_record_on() -> None:
    inner = MemoryStore()
    ours = SealedStore(inner, key(1))
    await ours.put("a", b"value", expected=NEW)
    await inner.delete("a", expected=1)
    await inner.delete(CHECK, expected=1)
    await ours.put("b", b"value", expected=NEW)
    assert await inner.keys("") == ["b", CHECK]


async def test_a_wrong_key_is_found_out_without_a_check_record_too() -> None:
    inner = MemoryStore()
    await SealedStore(inner, key(1)).put("a", b"value", expected=NEW)
    await inner.delete(CHECK, expected=1)
    before = await contents(inner)
    with pytest.raises(StoreCorrupt, match="this key does not belong to this store"):
        await SealedStore(inner, key(2)).put("b", b"other", expected=NEW)
    assert await contents(inner) == before
    await SealedStore(inner, key(1)).check()  # the right key writes the check record again
    assert await inner.get(CHECK) is not None


async def test_without_a_check_record_one_record_that_opens_proves_the_key() -> None:
    inner = MemoryStore()
    store = SealedStore(inner, key(1))
    await store.put("b", b"good", expected=NEW)
    await inner.put("a", b"damaged", expected=NEW)
    await inner.delete(CHECK, expected=1)
    assert await SealedStore(inner, key(1)).get("b") == Record(b"good", 1)


async def test_a_damaged_check_record_is_written_anew_where_another_record_proves_the_key(log: io.StringIO) -> None:
    inner = MemoryStore()
    store = SealedStore(inner, key(1))
    await store.put("a", b"good", expected=NEW)
    await store.put("b", b"good", expected=NEW)
    await inner.put("a", b"damaged", expected=1)
    good = await inner.get(CHECK)
    assert good is not None
    for number, damaged in enumerate((good.value[:-1] + bytes([good.value[-1] ^ 1]), b"\1" + bytes(80), b"")):
        await inner.put(CHECK, damaged, expected=2 * number + 1)
        assert await SealedStore(inner, key(1)).get("b") == Record(b"good", 1)
        mended = await inner.get(CHECK)
        assert mended is not None
        assert Seal(key(1)).open(CHECK, mended.value) == Seal(key(1)).open(CHECK, good.value)
        assert log.getvalue().count("store.check_mended") == number + 1
    await SealedStore(inner, key(1)).check()
    assert log.getvalue().count("store.check_mended") == 3


async def test_a_damaged_check_record_that_another_process_has_just_mended_is_in_order(log: io.StringIO) -> None:
    class MendedMeanwhile(MemoryStore):
        async def put(self, key: str, value: bytes, *, expected: int) -> int:
            if is_damaged and key == CHECK:
                await super().put(key, value, expected=expected)
            return await super().put(key, value, expected=expected)

    inner, is_damaged = MendedMeanwhile(), False
    await SealedStore(inner, key(1)).put("a", b"good", expected=NEW)
    await inner.put(CHECK, b"\1" + bytes(80), expected=1)
    is_damaged = True
    assert await SealedStore(inner, key(1)).get("a") == Record(b"good", 1)
    assert "store.check_mended" not in log.getvalue(), "the other one tells it"


@pytest.mark.parametrize("others", ["none", "damaged", "another key's"])
async def test_a_damaged_check_record_stays_where_nothing_proves_the_key(log: io.StringIO, others: str) -> None:
    inner = MemoryStore()
    store = SealedStore(inner, key(1))
    await store.check()
    if others != "none":
        await store.put("a", b"good", expected=NEW)
    if others == "damaged":
        await inner.put("a", b"damaged", expected=1)
    await inner.put(CHECK, b"\1" + bytes(80), expected=1)
    before = await contents(inner)
    with pytest.raises(StoreCorrupt, match="this key does not belong to this store"):
        await SealedStore(inner, key(2 if others == "another key's" else 1)).check()
    assert await contents(inner) == before
    assert "store.check_mended" not in log.getvalue()


async def test_a_check_record_of_a_newer_mail_bridge_is_left_alone() -> None:
    inner = MemoryStore()
    await SealedStore(inner, key(1)).put("a", b"good", expected=NEW)
    await inner.put(CHECK, b"\2 of the future", expected=1)
    before = await contents(inner)
    with pytest.raises(StoreCorrupt, match="the record seal/check is damaged, or was written by a newer mail-bridge"):
        await SealedStore(inner, key(1)).check()
    assert await contents(inner) == before


async def test_the_check_record_is_hidden() -> None:
    store = SealedStore(MemoryStore(), key(1))
    await store.check()
    assert await store.keys("") == []
    assert await store.keys("seal/") == []


async def test_the_key_is_opened_by_the_first_operation_that_needs_it_and_once() -> None:
    keys = Keys(key(1))
    store = SealedStore(MemoryStore(), keys)
    assert await store.keys("") == []
    assert await store.acquire_lease("a", "me", 30)
    assert keys.asked == []
    await asyncio.gather(*(store.get(name) for name in "abc"))
    assert keys.asked == [False]


async def test_a_key_that_is_not_available_yet_is_asked_for_again() -> None:
    inner = MemoryStore()
    keys = Keys(StoreUnavailable("locked"), StoreUnavailable("locked"), key(1))
    store = SealedStore(inner, keys)
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="locked"):
            await store.put("a", b"value", expected=NEW)
        assert await contents(inner) == {}
    assert await store.put("a", b"value", expected=NEW) == 1
    assert await store.get("a") == Record(b"value", 1)


async def test_a_check_asks_for_the_key_anew_as_the_next_start_will() -> None:
    """Somebody has put another key in its place; the open store goes on with the one that fits."""
    keys = Keys(key(1), key(2), StoreUnavailable("the OS keyring is locked"), key(1))
    store = SealedStore(MemoryStore(), keys)
    version = await store.put("a", b"x", expected=NEW)
    with pytest.raises(StoreCorrupt, match="this key does not belong to this store"):
        await store.check()
    with pytest.raises(StoreUnavailable, match="is locked"):
        await store.check()
    assert await store.get("a") == Record(b"x", version)
    await store.check()
    assert keys.asked == [False, True, True, True]


async def test_a_store_with_records_says_so_when_it_asks_for_the_key() -> None:
    inner = MemoryStore()
    await SealedStore(inner, key(1)).put("a", b"value", expected=NEW)
    keys = Keys(StoreCorrupt("gone"), key(1))
    store = SealedStore(inner, keys)
    with pytest.raises(StoreCorrupt, match="gone"):
        await store.check()
    assert await store.get("a") == Record(b"value", 1)
    assert keys.asked == [True, True]


async def test_only_one_process_at_a_time_makes_the_key_of_an_empty_store() -> None:
    inner = MemoryStore()
    asked, go = asyncio.Event(), asyncio.Event()

    async def slow(has_records: bool) -> Secret[bytes]:
        asked.set()
        await go.wait()
        return key(1)

    keys, clock = Keys(key(1)), ManualClock()
    second = SealedStore(inner, keys, clock=clock)
    async with asyncio.TaskGroup() as group:
        group.create_task(SealedStore(inner, slow).check())
        await asked.wait()
        patient = group.create_task(second.check())
        await clock.until_asleep()
        assert keys.asked == []
        go.set()
        while not patient.done():
            clock.advance(SET_UP_POLL)
            await asyncio.sleep(0)
    assert keys.asked == [True]


async def test_a_set_up_that_takes_another_process_too_long_is_told() -> None:
    inner, clock = MemoryStore(), HandClock()
    assert await inner.acquire_lease(CHECK, "another", 60)
    before = clock.monotonic()
    with pytest.raises(StoreUnavailable, match="another mail-bridge is setting up this store"):
        await SealedStore(inner, Keys(key(1)), clock=clock).check()
    assert clock.monotonic() - before >= SET_UP_PATIENCE


async def test_a_set_up_that_fails_or_is_cancelled_is_in_nobodys_way() -> None:
    inner = MemoryStore()
    asked = asyncio.Event()

    async def never(has_records: bool) -> Secret[bytes]:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(StoreUnavailable):
        await SealedStore(inner, Keys(StoreUnavailable("locked"))).check()
    store = SealedStore(inner, never)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(store.check())
        await asked.wait()
        task.cancel()
    await SealedStore(inner, Keys(key(1))).check()
