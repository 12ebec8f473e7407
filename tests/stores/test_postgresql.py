"""PostgreSQL that is away, restarts, refuses us or speaks another encoding."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from bridge.errors import StoreUnavailable
from bridge.secret import Secret
from bridge.stores import worker
from bridge.stores.base import NEW, Record, Store
from bridge.stores.sql import SqlStore
from tests.servers import postgresql
from tests.servers.postgresql import Postgresql

pytestmark = pytest.mark.servers

Open = Callable[[Secret[str]], Store]


@pytest.fixture(scope="module")
def server() -> Iterator[Postgresql]:
    with postgresql.running() as server:
        yield server


@pytest.fixture
async def open_store() -> AsyncIterator[Open]:
    opened = []

    def open_store(url: Secret[str]) -> Store:
        opened.append(SqlStore.at_url(url))
        return opened[-1]

    yield open_store
    for store in opened:
        await store.close()


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
async def test_a_database_of_another_encoding_works_for_the_keys_we_have(
    server: Postgresql, open_store: Open, encoding: str
) -> None:
    store = open_store(server.new_database("-E", encoding, "-T", "template0"))
    await store.put("grant/alice@example.com", b"\xff\0", expected=NEW)
    assert await store.get("grant/alice@example.com") == Record(b"\xff\0", 1)
    assert await store.keys("") == await store.keys("grant/") == ["grant/alice@example.com"]
    assert await store.acquire_lease("a", "node-1", 30)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["shut down", "crashed"])
async def test_a_server_that_restarts_is_found_again_with_its_records(
    server: Postgresql, open_store: Open, how: signal.Signals
) -> None:
    store = open_store(server.new_database())
    await store.put("a", b"value", expected=NEW)
    server.stop(how)
    try:
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match=r"^the database bridge_[0-9a-f]+ at this machine does not"):
                await store.put("a", b"other", expected=1)
    finally:
        server.start()
    assert await store.get("a") == Record(b"value", 1)
    assert await store.put("a", b"other", expected=1) == 2


async def test_a_store_may_be_opened_before_its_server(server: Postgresql, open_store: Open) -> None:
    url = server.new_database()
    server.stop()
    try:
        store = open_store(url)
        with pytest.raises(StoreUnavailable):
            await store.get("a")
    finally:
        server.start()
    assert await store.get("a") is None


async def test_what_the_server_refuses_is_said_without_the_password(server: Postgresql, open_store: Open) -> None:
    with pytest.raises(StoreUnavailable) as caught:
        await open_store(server.url("no_such_database")).get("a")
    assert "the database no_such_database at this machine" in str(caught.value)
    assert "CANARY" not in str(caught.value)
    with pytest.raises(StoreUnavailable) as caught:
        await open_store(server.url("postgres", "CANARY-wrong")).get("a")
    assert "CANARY" not in str(caught.value)


async def test_a_server_that_accepts_and_says_nothing_is_given_up_in_time(open_store: Open) -> None:
    pytest.importorskip("psycopg")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        store = open_store(Secret(f"postgresql://user:CANARY@127.0.0.1:{port}/bridge?connect_timeout=2"))
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match=r"the database bridge at 127\.0\.0\.1 does not answer"):
            await store.get("a")
        assert time.monotonic() - began < worker.ANSWER_LIMIT
    await asyncio.wait_for(store.close(), 5)
