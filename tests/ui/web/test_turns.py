"""However many come at once, each turn of the loop is one visitor's: between two of them mail has its turn."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest
from aiohttp import web

from bridge.host.sockets import bind
from bridge.relay.limits import console_cap
from bridge.ui.web import guards
from bridge.ui.web.doors import Doors
from bridge.ui.web.site import Site
from bridge.ui.web.turns import Turns

VISITORS = 40
SECONDS = 30.0
FORM = "Content-Type: application/x-www-form-urlencoded\r\n"

Visitor = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Counted:
    """The turns of the loop, and those in which something was done."""

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
    """A site with this page for POST /, and those who have seen another one: each has a connection by now.

    Gives: headers to the head of a request, and the visitors.
    """
    (sock,) = bind("127.0.0.1", 0, what="console")
    address = sock.getsockname()
    host = f"127.0.0.1:{address[1]}"
    site = Site(frozenset({host}), lambda: "en", console_cap())
    async with site.answering([web.post("/", handler)], Doors([sock]), lambda: None):
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
        for _, writer in come:  # in one turn
            writer.write(head("Content-Length: 0\r\n"))
        for reader, _ in come:
            await answered(reader)
    assert len(turns.taken) == VISITORS
    assert len(set(turns.taken)) == VISITORS


async def test_each_turn_of_the_loop_reads_one_form(turns: Counted) -> None:
    """The last octet of all of them comes at once."""
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
