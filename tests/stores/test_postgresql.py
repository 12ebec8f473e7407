"""A PostgreSQL server that is down, restarts, refuses us, uses another encoding or is behind PgBouncer."""

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
from tests.doctor.servers import serving
from tests.servers import pgbouncer, postgresql
from tests.servers.daemons import short_directory
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


@pytest.mark.parametrize("how", ["SIGINT", "SIGQUIT"], ids=["shut down", "crashed"])
async def test_a_server_that_restarts_is_found_again_with_its_records(
    server: Postgresql, open_store: Open, how: str
) -> None:
    store = open_store(server.new_database())
    await store.put("a", b"value", expected=NEW)
    server.stop(signal.Signals[how])
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


@pytest.mark.parametrize(
    ("database", "password", "words"),
    [
        ("no_such_database", postgresql.PASSWORD, 'database "no_such_database" does not exist'),
        ("postgres", "CANARY-wrong", 'password authentication failed for user "postgres"'),
    ],
)
async def test_what_the_server_refuses_is_said_in_its_words_without_the_password(
    server: Postgresql, open_store: Open, database: str, password: str, words: str
) -> None:
    with pytest.raises(StoreUnavailable) as caught:
        await open_store(server.url(database, password)).get("a")
    assert str(caught.value) == f"the database {database} at this machine refuses the connection; it says: {words}"
    assert "CANARY" not in str(caught.value)


def _decline_tls(connection: socket.socket) -> None:
    """Answers an SSLRequest as a server without TLS."""
    connection.recv(8)
    connection.sendall(b"N")


async def test_a_server_without_tls_is_told_from_one_that_is_away(open_store: Open) -> None:
    pytest.importorskip("psycopg")
    with serving(_decline_tls) as port:
        url = f"postgresql://user:CANARY@127.0.0.1:{port}/bridge?sslmode=require"
        with pytest.raises(StoreUnavailable, match="cannot be reached with the TLS that `sslmode` requires"):
            await open_store(Secret(url)).get("a")


@pytest.mark.parametrize(
    ("rest", "told"),
    [
        (
            "no-such.invalid/bridge",
            "the database bridge at no-such.invalid cannot be found (DNS): there is no network, or the name is wrong",
        ),
        *(
            (
                f"127.0.0.1:1/bridge?{option}",
                "the database bridge at 127.0.0.1 cannot be used: its URL has an option, or the value of one, that "
                "PostgreSQL does not know",
            )
            for option in ("CANARY=1", "sslmode=CANARY", "keepalives=CANARY", "connect_timeout=CANARY")
        ),
        ("127.0.0.1:1/bridge?sslmode=prefer", "the database bridge at 127.0.0.1 does not answer"),
        (
            "/bridge?host=127.0.0.1:1&host=127.0.0.2:1&target_session_attrs=read-write",
            "the database bridge at 127.0.0.1:1, 127.0.0.2:1 does not answer",
        ),
    ],
)
async def test_what_keeps_from_asking_a_server_at_all_is_told(open_store: Open, rest: str, told: str) -> None:
    """All of them used to be reported as "does not answer", which sends the administrator to the server."""
    pytest.importorskip("psycopg")
    with pytest.raises(StoreUnavailable) as caught:
        await open_store(Secret(f"postgresql://user:CANARY@{rest}")).get("a")
    assert str(caught.value) == told


async def test_a_session_that_may_not_write_ends_with_the_trouble(server: Postgresql, open_store: Open) -> None:
    """A hosted server is made read-only while its disk is full; a session begun then would stay read-only for ever."""
    url = server.new_database()
    server.execute(url, "ALTER DATABASE {database} SET default_transaction_read_only = on")
    store = open_store(url)
    with pytest.raises(StoreUnavailable, match="is read-only"):
        await store.put("a", b"value", expected=NEW)
    writable = "SET default_transaction_read_only = off"
    server.execute(url, writable, "ALTER DATABASE {database} RESET default_transaction_read_only")
    assert await store.put("a", b"value", expected=NEW) == 1


async def test_where_none_of_the_servers_may_be_written_to_it_is_told(server: Postgresql, open_store: Open) -> None:
    url = server.new_database()
    server.execute(url, "ALTER DATABASE {database} SET default_transaction_read_only = on")
    store = open_store(Secret(f"{url.reveal()}&target_session_attrs=read-write"))
    with pytest.raises(StoreUnavailable, match="is read-only"):
        await store.get("a")
    server.execute(
        url, "SET default_transaction_read_only = off", "ALTER DATABASE {database} RESET default_transaction_read_only"
    )
    assert await store.get("a") is None


async def test_tables_that_have_gone_are_told_of_and_work_once_they_are_back(
    server: Postgresql, open_store: Open
) -> None:
    url = server.new_database()
    store = open_store(url)
    await store.put("a", b"value", expected=NEW)
    server.execute(url, "ALTER TABLE bridge_records RENAME TO elsewhere")
    with pytest.raises(
        StoreUnavailable, match="has lost its tables; restore a copy, or restart mail-bridge to begin anew"
    ):
        await store.get("a")
    server.execute(url, "ALTER TABLE elsewhere RENAME TO bridge_records")
    assert await store.get("a") == Record(b"value", 1)


async def _refused(server: Postgresql, open_store: Open, statement: str) -> str:
    """The error of a write to which the server responds with this statement of PL/pgSQL."""
    url = server.new_database()
    store = open_store(url)
    await store.put("a", b"CANARY", expected=NEW)
    body = "$$ BEGIN " + statement + "; RETURN NEW; END $$"
    server.execute(
        url,
        f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS {body}",
        "CREATE TRIGGER refuse BEFORE UPDATE ON bridge_records FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    with pytest.raises(StoreUnavailable) as caught:
        await store.put("a", b"CANARY-2", expected=1)
    assert await store.get("a") == Record(b"CANARY", 1), "asked again, the server answers"
    assert "CANARY" not in str(caught.value)
    return str(caught.value).partition(" at this machine ")[2]


async def test_a_session_that_an_administrator_ends_is_told_in_words(server: Postgresql, open_store: Open) -> None:
    told = await _refused(server, open_store, "PERFORM pg_terminate_backend(pg_backend_pid())")
    assert told == "does not answer: its server is restarting, or an administrator has ended the connection"


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ("57P02", "does not answer: its server is restarting, or an administrator has ended the connection"),
        ("57P03", "does not answer yet: its server is starting or stopping"),
        ("53200", "does not work; its server says: 100% of something (SQLSTATE 53200)"),
        ("58030", "does not work; its server says: 100% of something (SQLSTATE 58030)"),
    ],
)
async def test_what_the_server_is_in_trouble_with_is_told(
    server: Postgresql, open_store: Open, state: str, told: str
) -> None:
    raised = f"RAISE EXCEPTION USING ERRCODE = '{state}', MESSAGE = '100% of something', DETAIL = 'CANARY'"
    assert await _refused(server, open_store, raised) == told


async def test_several_nodes_share_one_session_behind_pgbouncer(server: Postgresql, open_store: Open) -> None:
    """psycopg prepares a statement that it has sent five times, in whichever server session it has at that moment."""
    with short_directory("pgbouncer-") as directory, pgbouncer.before(server, directory) as pooler:
        url = pgbouncer.through(pooler, server.new_database())
        nodes = [open_store(url), open_store(url)]
        for turn in range(8):
            for node in nodes:
                assert await node.acquire_lease("a", "the same", 30), turn
                assert await node.get("a") is None


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
