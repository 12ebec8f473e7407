"""However many visitors come at once, each turn of the loop serves one of them, and mail has its turn in between."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web

from bridge.control import wire
from bridge.control.contract import AccountStatus
from bridge.control.remote import RemoteControl
from bridge.host.sockets import bind
from bridge.relay.limits import console_cap
from bridge.secret import Secret
from bridge.ui.web import guards
from bridge.ui.web.api import PIECES
from bridge.ui.web.connection import PIECE, ROOM, Connection
from bridge.ui.web.console_sockets import ConsoleSockets
from bridge.ui.web.site import Site
from bridge.ui.web.turns import Turns
from tests.consoles import nobody_knows
from tests.fakes_control import FakeControl
from tests.ui.web.conftest import TOKEN, serving

VISITORS = 40
SECONDS = 30.0
FORM = "Content-Type: application/x-www-form-urlencoded\r\n"

Visitor = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Counted:
    """Counts the turns of the loop, and notes those in which something was done."""

    def __init__(self) -> None:
        self.number = 0
        self.taken: list[int] = []

    def take(self) -> None:
        self.taken.append(self.number)

    @contextlib.asynccontextmanager
    async def counting(self) -> AsyncIterator[None]:
        handle = asyncio.get_running_loop().call_soon(lambda: None)

        def tick() -> None:
            nonlocal handle
            self.number += 1
            handle = asyncio.get_running_loop().call_soon(tick)

        tick()
        try:
            yield
        finally:
            handle.cancel()


@pytest.fixture
async def turns() -> AsyncIterator[Counted]:
    turns = Counted()
    async with turns.counting(), asyncio.timeout(SECONDS):
        yield turns


@contextlib.asynccontextmanager
async def visitors(handler: guards.Handler) -> AsyncIterator[tuple[Callable[[str], bytes], list[Visitor]]]:
    """A site with this handler for POST /, and visitors who have already fetched a page: each has an open connection.

    Yields: a function from headers to the head of a request, and the visitors.
    """
    (sock,) = bind("127.0.0.1", 0, what="console")
    address = sock.getsockname()
    host = f"127.0.0.1:{address[1]}"
    site = Site(frozenset({host}), lambda: "en", console_cap(), nobody_knows)
    async with site.answering([web.post("/", handler)], ConsoleSockets([sock]), lambda: None):
        come = [await asyncio.open_connection(*address) for _ in range(VISITORS)]
        for reader, writer in come:
            writer.write(f"HEAD /style.css HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            await answered(reader)
        yield lambda headers: f"POST / HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n".encode(), come
        for _, writer in come:
            writer.close()


async def answered(reader: asyncio.StreamReader) -> None:
    assert b" 200 " in await reader.readuntil(b"\r\n\r\n")


async def test_each_turn_of_the_loop_answers_one_request(turns: Counted) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        turns.take()
        return web.Response()

    async with visitors(handler) as (head, come):
        for _, writer in come:  # all in one turn
            writer.write(head("Content-Length: 0\r\n"))
        for reader, _ in come:
            await answered(reader)
    assert len(turns.taken) == VISITORS
    assert len(set(turns.taken)) == VISITORS


async def test_each_turn_of_the_loop_reads_one_form(turns: Counted) -> None:
    """The last octets of all forms arrive at once."""
    waiting = asyncio.Semaphore(0)

    async def handler(request: web.Request) -> web.StreamResponse:
        waiting.release()
        assert await guards.form_fields(request) == [("a", "b")]
        turns.take()
        return web.Response()

    async with visitors(handler) as (head, come):
        for _, writer in come:
            writer.write(head(f"{FORM}Content-Length: 3\r\n") + b"a=")
        for _ in come:
            await waiting.acquire()
        for _, writer in come:
            writer.write(b"b")
        for reader, _ in come:
            await answered(reader)
    assert len(turns.taken) == VISITORS
    assert len(set(turns.taken)) == VISITORS


async def test_each_turn_of_the_loop_takes_a_small_piece_of_one_visitor_apart(
    turns: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """256 KiB of chunks of one octet each take longer to parse than a login, and asyncio reads that much at once."""
    sizes, real = list[int](), web.RequestHandler.data_received

    def data_received(connection: web.RequestHandler, data: bytes) -> None:
        if data:
            turns.take()
            sizes.append(len(data))
        real(connection, data)

    async def handler(request: web.Request) -> web.StreamResponse:
        assert await request.read() == b"x" * 9000
        return web.Response()

    async with visitors(handler) as (head, come):
        monkeypatch.setattr(web.RequestHandler, "data_received", data_received)
        for _, writer in come:
            writer.write(head("Transfer-Encoding: chunked\r\n") + b"1\r\nx\r\n" * 9000 + b"0\r\n\r\n")
        for reader, _ in come:
            await answered(reader)
    assert max(sizes) <= PIECE
    assert len(set(turns.taken)) == len(turns.taken)


async def test_a_head_that_ends_later_takes_no_body_along(turns: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last octet of a head, and after it as many chunks as are read at once: no piece contains the whole end of the
    head."""
    sizes, take_apart, begun = list[int](), Connection._take_apart, asyncio.Event()

    def taken_apart(connection: Connection, data: bytes) -> None:
        sizes.append(len(data))
        take_apart(connection, data)
        begun.set()

    async def handler(request: web.Request) -> web.StreamResponse:
        assert await request.read() == b"x" * 9000
        return web.Response()

    async with visitors(handler) as (head, come):
        monkeypatch.setattr(Connection, "_take_apart", taken_apart)
        reader, writer = come[0]
        all_of_it = head("Transfer-Encoding: chunked\r\n")
        writer.write(all_of_it[:-1])
        await begun.wait()
        writer.write(all_of_it[-1:] + b"1\r\nx\r\n" * 9000 + b"0\r\n\r\n")
        await answered(reader)
    assert max(sizes) <= PIECE


async def test_of_who_waits_for_his_turn_nothing_more_is_read(turns: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise each of hundreds of visitors could fill our memory with as much as he likes to send."""
    waiting, most = Counter[Connection](), Counter[Connection]()
    read, take_apart = Connection.buffer_updated, Connection._take_apart

    def buffer_updated(connection: Connection, nbytes: int) -> None:
        waiting[connection] += nbytes
        most[connection] = max(most[connection], waiting[connection])
        read(connection, nbytes)

    def taken_apart(connection: Connection, data: bytes) -> None:
        waiting[connection] -= len(data)
        take_apart(connection, data)

    async def handler(request: web.Request) -> web.StreamResponse:
        while await request.content.readany():
            pass
        return web.Response()

    async with visitors(handler) as (head, come):
        monkeypatch.setattr(Connection, "buffer_updated", buffer_updated)
        monkeypatch.setattr(Connection, "_take_apart", taken_apart)
        for _, writer in come:
            writer.write(head(f"Content-Length: {64 * PIECE}\r\n") + bytes(64 * PIECE))
        for reader, _ in come:
            await answered(reader)
    assert max(most.values()) <= ROOM
    assert not any(waiting.values())


async def test_of_who_does_not_wait_for_answers_a_few_requests_are_kept_and_all_are_answered(
    turns: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    most, take_apart = 0, Connection._take_apart

    def taken_apart(connection: Connection, data: bytes) -> None:
        nonlocal most
        take_apart(connection, data)
        most = max(most, len(connection._messages))

    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(headers={"X-Number": request.headers["X-Number"]})

    async with visitors(handler) as (head, come):
        monkeypatch.setattr(Connection, "_take_apart", taken_apart)
        for _, writer in come[:3]:
            fill = "X: " + "x" * 400
            writer.write(
                b"".join(head(f"Content-Length: 0\r\nX-Number: {number}\r\n{fill}\r\n") for number in range(200))
            )
        for reader, _ in come[:3]:
            for number in range(200):
                assert f"X-Number: {number}\r\n".encode() in await reader.readuntil(b"\r\n\r\n")
    assert 0 < most <= PIECE // 400


async def test_each_turn_of_the_loop_writes_a_few_accounts(turns: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of accounts in one turn would take a tenth of a second, and a tray asks again and again."""
    control, encode = FakeControl(*(f"user{number}@example.com" for number in range(400))), wire.encode

    def encoded(value: Any) -> Any:
        if isinstance(value, AccountStatus):
            turns.take()
        return encode(value)

    async with serving(control) as browser, RemoteControl.opened(browser.base, Secret(TOKEN)) as remote:
        monkeypatch.setattr(wire, "encode", encoded)
        assert await remote.status() == await control.status()
    assert len(turns.taken) == 400
    assert max(Counter(turns.taken).values()) <= PIECES


async def test_a_body_whose_length_is_told_is_no_more_than_two_pieces(
    turns: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parsing it costs next to nothing; in small pieces its visitor would hold his place for sixteen turns."""
    sizes, take_apart = list[int](), Connection._take_apart

    def taken_apart(connection: Connection, data: bytes) -> None:
        sizes.append(len(data))
        take_apart(connection, data)

    async def handler(request: web.Request) -> web.StreamResponse:
        assert await request.read() == bytes(4 * PIECE)
        return web.Response()

    async with visitors(handler) as (head, come):
        monkeypatch.setattr(Connection, "_take_apart", taken_apart)
        reader, writer = come[0]
        writer.write((head(f"Content-Length: {4 * PIECE}\r\n") + bytes(4 * PIECE)) * 2)
        for _ in range(2):
            await answered(reader)
    assert max(sizes) == 4 * PIECE
    assert sum(size > 0 for size in sizes) == 4  # two heads, two bodies


async def test_what_a_visitor_said_who_was_sent_away_is_not_kept_until_his_turn(
    turns: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a thousand who come at once, half are sent away; the turns of those who stay may take seconds."""
    in_line, gone = list[Connection](), asyncio.Event()
    lose = Connection.connection_lost

    def take(_: Turns, use: Callable[[], bool]) -> bool:
        in_line.append(use.__self__)  # type: ignore[attr-defined]  # a method of the connection
        return False

    def connection_lost(connection: Connection, exc: BaseException | None) -> None:
        lose(connection, exc)
        gone.set()

    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response()

    async with visitors(handler) as (head, come):
        monkeypatch.setattr(Turns, "take", take)
        monkeypatch.setattr(Connection, "connection_lost", connection_lost)
        come[0][1].write(head("Transfer-Encoding: chunked\r\n") + b"1\r\nx\r\n" * 9000)
        while not in_line:
            await asyncio.sleep(0)
        (connection,) = in_line
        assert connection._waiting
        connection.force_close()
        await gone.wait()
        assert not connection._waiting
        assert not connection._in_turn()


async def test_what_goes_wrong_in_his_turn_ends_his_connection_alone(
    turns: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, problems = web.RequestHandler.data_received, list[object]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context.get("exception")))
    bug = RuntimeError("a bug")

    def data_received(connection: web.RequestHandler, data: bytes) -> None:
        if b"bug" in data:
            raise bug
        real(connection, data)

    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response()

    async with visitors(handler) as (head, come):
        monkeypatch.setattr(web.RequestHandler, "data_received", data_received)
        for number, (_, writer) in enumerate(come):
            writer.write(head("X: bug\r\n" if number in {0, 7} else ""))
        for number, (reader, _) in enumerate(come):
            if number in {0, 7}:  # number 0 is served in the turn in which it arrives, number 7 in a later one
                assert await reader.read() == b""
            else:
                await answered(reader)
    assert problems == [bug, bug]


async def test_who_wants_one_turn_after_the_other_gets_each_of_them_for_itself(turns: Counted) -> None:
    theirs = Turns()
    for _ in range(5):
        await theirs.mine()
        turns.take()
    assert len(set(turns.taken)) == 5


async def test_who_gives_up_costs_nobody_his_turn() -> None:
    turns, done = Turns(), list[int]()

    async def wait(number: int) -> None:
        await turns.mine()
        done.append(number)

    async with asyncio.timeout(SECONDS):
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(wait(number)) for number in range(6)]
            await asyncio.sleep(0)
            for number in (1, 2, 5):
                tasks[number].cancel()
        assert done == [0, 3, 4]
        await turns.mine()
