"""What every Store promises (bridge.stores.base), tested with every implementation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from bridge.errors import VersionConflict
from bridge.secret import Secret
from bridge.stores.base import LONGEST_LEASE, NEW, Record, Store
from bridge.stores.memory import MemoryStore
from bridge.stores.sealed import SealedStore
from bridge.stores.sql import SqlStore
from bridge.stores.sqlite import SqliteStore
from tests.servers import postgresql
from tests.servers.postgresql import Postgresql

KEY = Secret(b"CANARY" + bytes(26))

DURABLE = [
    pytest.param("sqlite"),
    pytest.param("copied sqlite"),
    pytest.param("sealed sqlite"),
    pytest.param("postgresql", marks=pytest.mark.servers),
]
ALL = [pytest.param("memory"), pytest.param("sealed memory"), *DURABLE]

Open = Callable[[], Store]


@pytest.fixture(scope="session")
def server() -> Iterator[Postgresql]:
    with postgresql.running() as server:
        yield server


@pytest.fixture
async def open_store(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Open]:
    """Opens the same store once more at each call, as another node does, or the same node after a restart."""
    opened: list[Store] = []
    memory = MemoryStore()
    if kind == "postgresql":
        url = request.getfixturevalue("server").new_database()

    def open_store() -> Store:
        store: Store
        if kind.endswith("memory"):
            store = memory
        elif kind.endswith("sqlite"):
            store = SqliteStore(tmp_path / "store.sqlite", copies_on_write=lambda directory: kind == "copied sqlite")
        else:
            store = SqlStore.at_url(url)
        if kind.startswith("sealed"):
            store = SealedStore(store, KEY)
        opened.append(store)
        return store

    yield open_store
    for store in opened:
        await store.close()


@pytest.fixture
def store(open_store: Open) -> Store:
    return open_store()


every_store = pytest.mark.parametrize("kind", ALL)
every_durable_store = pytest.mark.parametrize("kind", DURABLE)


@every_store
async def test_an_empty_store_has_no_record_and_no_key(store: Store) -> None:
    assert await store.get("grant/alice@example.com") is None
    assert await store.keys("") == []


@every_store
async def test_what_is_put_is_got_with_a_version_that_goes_up_by_one(store: Store) -> None:
    assert await store.put("a", b"one", expected=NEW) == 1
    assert await store.get("a") == Record(b"one", 1)
    assert await store.put("a", b"two", expected=1) == 2
    assert await store.get("a") == Record(b"two", 2)


@every_store
@pytest.mark.parametrize("value", [b"", b"\0", b"\xff" * 3, bytes(range(256)) * 4096], ids=["empty", "nul", "ff", "1M"])
async def test_any_bytes_come_back_as_they_are(store: Store, value: bytes) -> None:
    await store.put("a", value, expected=NEW)
    record = await store.get("a")
    assert record is not None
    assert record.value == value
    assert type(record.value) is bytes


@every_store
async def test_a_caller_that_goes_on_using_its_buffer_changes_nothing(store: Store) -> None:
    buffer = bytearray(b"before")
    await store.put("a", buffer, expected=NEW)  # type: ignore[arg-type]  # what a careless caller does
    buffer[:] = b"behind"
    assert await store.get("a") == Record(b"before", 1)


@every_store
async def test_a_new_record_must_not_exist_yet(store: Store) -> None:
    await store.put("a", b"first", expected=NEW)
    with pytest.raises(VersionConflict):
        await store.put("a", b"second", expected=NEW)
    assert await store.get("a") == Record(b"first", 1)


@every_store
@pytest.mark.parametrize("expected", [NEW, 1, 3, -1])
async def test_any_version_but_the_stored_one_is_refused(store: Store, expected: int) -> None:
    await store.put("a", b"1", expected=NEW)
    await store.put("a", b"2", expected=1)
    with pytest.raises(VersionConflict):
        await store.put("a", b"late", expected=expected)
    with pytest.raises(VersionConflict):
        await store.delete("a", expected=expected)
    assert await store.get("a") == Record(b"2", 2)


@every_store
async def test_a_record_that_is_not_there_has_no_version(store: Store) -> None:
    for expected in (1, 2, -1):
        with pytest.raises(VersionConflict):
            await store.put("a", b"x", expected=expected)
    for expected in (NEW, 1):
        with pytest.raises(VersionConflict):
            await store.delete("a", expected=expected)
    assert await store.get("a") is None
    assert await store.keys("") == []


@every_store
async def test_a_deleted_record_is_gone_and_its_versions_are_not_used_again(store: Store) -> None:
    version = await store.put("a", b"before", expected=NEW)
    await store.delete("a", expected=version)
    assert await store.get("a") is None
    assert await store.keys("") == []
    with pytest.raises(VersionConflict):
        await store.delete("a", expected=version)
    again = await store.put("a", b"after", expected=NEW)
    assert again > version
    with pytest.raises(VersionConflict):  # a late writer, who knows only the previous record
        await store.put("a", b"late", expected=version)
    assert await store.get("a") == Record(b"after", again)


@every_store
async def test_records_do_not_touch_each_other(store: Store) -> None:
    await store.put("a", b"a", expected=NEW)
    await store.put("b", b"b", expected=NEW)
    await store.put("a", b"a2", expected=1)
    await store.delete("b", expected=1)
    assert await store.get("a") == Record(b"a2", 2)
    assert await store.keys("") == ["a"]
    assert await store.versions("") == {"a": 2}


AWKWARD = [
    "grant/%",
    "grant/%41lice@example.com",
    "grant/'; DROP TABLE bridge_records; --",
    'grant/"a b"@example.com',
    "grant/A@example.com",
    "grant/Alice_x@example.com",
    "grant/_",
    "grant/a@example.com",
    "grant/alice%x@example.com",
    "grant/alice+tag@example.com",
    "grant/aliceyx@example.com",
    "grant/josé@exämple.fr",
    "grant/jos%C3%A9@ex%C3%A4mple.fr",
    "grant/~",
    "grant/\U0001f4ec@example.com",
    "grant0",
    "grants/alice@example.com",
    ":name/?",
    "back\\slash",
]


@every_store
async def test_keys_are_sorted_by_code_point_and_may_hold_any_character(store: Store) -> None:
    for key in reversed(AWKWARD):
        await store.put(key, key.encode(), expected=NEW)
    assert await store.keys("") == sorted(AWKWARD)
    for key in AWKWARD:
        assert await store.get(key) == Record(key.encode(), 1)


@every_store
async def test_a_prefix_means_itself_and_nothing_else(store: Store) -> None:
    for key in AWKWARD:
        await store.put(key, b"", expected=NEW)
    for prefix in (*AWKWARD, "g", "grant", "grant/", "grant/a", "grant/A", "grant/alice_", "%", "_", "'", "zzz"):
        meant = sorted(key for key in AWKWARD if key.startswith(prefix))
        assert await store.keys(prefix) == meant, prefix
        assert await store.versions(prefix) == dict.fromkeys(meant, 1), prefix


async def wins(store: Store, key: str, value: bytes, expected: int) -> bool:
    try:
        await store.put(key, value, expected=expected)
    except VersionConflict:
        return False
    return True


@every_store
async def test_of_many_writers_at_once_exactly_one_wins(open_store: Open) -> None:
    stores = [open_store() for _ in range(4)]  # nor has anybody created the tables yet
    expected = NEW
    for _ in range(3):
        attempts = [wins(store, "a", b"%d" % n, expected) for n, store in enumerate(stores * 3)]
        won = await asyncio.gather(*attempts)
        assert won.count(True) == 1
        expected += 1
        assert await stores[0].get("a") == Record(b"%d" % won.index(True), expected)


@every_store
async def test_no_update_is_lost_between_readers_who_write(open_store: Open) -> None:
    async def add(store: Store, times: int) -> None:
        while times:
            record = await store.get("sum")
            value, version = (int(record.value), record.version) if record else (0, NEW)
            times -= await wins(store, "sum", b"%d" % (value + 1), version)

    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(add(open_store(), 4))
    assert await open_store().get("sum") == Record(b"12", 12)


@every_store
async def test_a_lease_has_one_holder_who_may_extend_it(open_store: Open) -> None:
    one, other = open_store(), open_store()
    assert await one.acquire_lease("refresh/a", "node-1", 30)
    assert not await other.acquire_lease("refresh/a", "node-2", 30)
    assert await one.acquire_lease("refresh/a", "node-1", 60)
    assert not await other.acquire_lease("refresh/a", "node-2", 30)
    assert await other.acquire_lease("refresh/b", "node-2", 30)


@every_store
async def test_of_many_at_once_one_gets_the_lease(open_store: Open) -> None:
    stores = [open_store() for _ in range(4)]
    got = await asyncio.gather(*(store.acquire_lease("a", f"node-{n}", 30) for n, store in enumerate(stores)))
    assert got.count(True) == 1


@every_store
async def test_a_released_lease_is_free_and_a_stranger_cannot_release_it(store: Store) -> None:
    assert await store.acquire_lease("a", "node-1", 30)
    await store.release_lease("a", "node-2")
    await store.release_lease("never taken", "node-2")
    assert not await store.acquire_lease("a", "node-2", 30)
    await store.release_lease("a", "node-1")
    assert await store.acquire_lease("a", "node-2", 30)
    await store.release_lease("a", "node-1")  # too late: another node holds it now
    assert not await store.acquire_lease("a", "node-3", 30)


@every_store
async def test_a_lease_ends_with_its_time(store: Store) -> None:
    assert await store.acquire_lease("a", "node-1", 0.02)
    while not await store.acquire_lease("a", "node-2", 30):
        pass
    assert not await store.acquire_lease("a", "node-1", 30)


@every_store
async def test_a_holder_may_shorten_its_lease_to_nothing(store: Store) -> None:
    assert await store.acquire_lease("a", "node-1", 30)
    assert await store.acquire_lease("a", "node-1", 0)
    assert await store.acquire_lease("a", "node-2", 30)


@every_store
async def test_a_lease_from_before_the_clock_was_set_back_stands_in_nobodys_way(store: Store) -> None:
    """An hour ago a process died that held it, while the clock was an hour ahead."""
    assert await store.acquire_lease("a", "node-1", 3600)
    assert await store.acquire_lease("a", "node-2", LONGEST_LEASE)
    assert not await store.acquire_lease("a", "node-1", 3600)


@every_store
async def test_leases_are_no_records(store: Store) -> None:
    await store.acquire_lease("a", "node-1", 30)
    assert await store.keys("") == []
    assert await store.get("a") is None


@every_store
async def test_a_put_that_is_cancelled_half_way_leaves_a_usable_store(store: Store) -> None:
    version, last = NEW, b"before"
    for limit in (0, 0, 0.0003, 0.001, 0.003, 0.01):  # the first ones interrupt the opening, too
        value = b"%f" % limit
        with suppress(TimeoutError, VersionConflict):
            async with asyncio.timeout(limit):
                await store.put("a", value, expected=version)
        record = await store.get("a")
        if record is not None and record.version != version:
            assert record == Record(value, version + 1)  # all of it was written
            version, last = record.version, value
        elif record is not None:
            assert record.value == last  # or nothing was
    assert await store.put("a", b"after", expected=version) == version + 1
    assert await store.get("a") == Record(b"after", version + 1)


@every_durable_store
async def test_records_versions_and_leases_outlive_the_process(open_store: Open) -> None:
    before = open_store()
    await before.put("kept", b"1", expected=NEW)
    await before.put("kept", b"2", expected=1)
    await before.put("gone", b"1", expected=NEW)
    await before.delete("gone", expected=1)
    await before.acquire_lease("a", "node-1", 30)
    await before.close()
    await before.close()  # closing twice does no harm

    after = open_store()
    assert await after.get("kept") == Record(b"2", 2)
    assert await after.keys("") == ["kept"]
    with pytest.raises(VersionConflict):
        await after.put("gone", b"late", expected=1)
    assert not await after.acquire_lease("a", "node-2", 30)
