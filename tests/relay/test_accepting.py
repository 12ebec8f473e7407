"""Mail clients of a listening socket, by loops that watch descriptors and by loops that do not."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any

import pytest

from bridge.relay import accepting
from bridge.relay.accepting import clients_of


@pytest.fixture(params=["watches", "does not watch"] if sys.platform != "win32" else ["does not watch"])
def loop_that(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accepting, "has_add_reader", lambda _: request.param == "watches")


@asynccontextmanager
async def accepted() -> AsyncIterator[tuple[tuple[str, int], asyncio.Queue[socket.socket], asyncio.Queue[OSError]]]:
    clients: asyncio.Queue[socket.socket] = asyncio.Queue()
    troubles: asyncio.Queue[OSError] = asyncio.Queue()

    def take(client: socket.socket, address: Any) -> None:
        assert client.getpeername() == address
        clients.put_nowait(client)

    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        async with clients_of(sock, take, troubles.put_nowait):
            yield sock.getsockname(), clients, troubles


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    import resource

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("loop_that")
async def test_each_client_is_taken_once_and_does_not_block() -> None:
    async with accepted() as (where, clients, _):
        with ExitStack() as stack:
            ours = [stack.enter_context(socket.create_connection(where)) for _ in range(20)]
            theirs = [stack.enter_context(await clients.get()) for _ in ours]
            assert {client.getpeername() for client in theirs} == {client.getsockname() for client in ours}
            assert not any(client.getblocking() for client in theirs)
        assert clients.empty()


@pytest.mark.usefixtures("loop_that")
@pytest.mark.skipif(sys.platform == "win32", reason="no limit on descriptors")
async def test_where_no_descriptor_is_left_it_says_so_and_takes_the_client_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(accepting, "PAUSE_SECONDS", 0.01)
    async with accepted() as (where, clients, troubles):
        with socket.create_connection(where) as ours:
            with no_descriptor_left():
                assert "open files" in str(await troubles.get())
                assert clients.empty()
            with await clients.get() as theirs:
                assert theirs.getpeername() == ours.getsockname()


class NetworkNameDeleted(OSError):
    """As Windows has it: errno is EINVAL, and only `winerror` tells."""

    winerror = 64


@pytest.mark.parametrize(
    "problem",
    [NetworkNameDeleted(errno.EINVAL, "gone"), OSError(errno.ENOTCONN, "gone"), OSError(errno.ECONNRESET, "gone")],
)
async def test_one_who_has_left_before_being_taken_delays_nobody_on_windows(
    problem: OSError, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What AcceptEx says of him there is not that we are out of descriptors."""
    loop = asyncio.get_running_loop()
    problems, sock_accept = [problem], loop.sock_accept

    async def accept(sock: socket.socket) -> tuple[socket.socket, Any]:
        if problems:
            raise problems.pop()
        return await sock_accept(sock)

    monkeypatch.setattr(accepting, "has_add_reader", lambda _: False)
    monkeypatch.setattr(accepting, "PAUSE_SECONDS", 3600)
    monkeypatch.setattr(loop, "sock_accept", accept)
    async with accepted() as (where, clients, troubles):
        with socket.create_connection(where) as ours:
            async with asyncio.timeout(10):
                with await clients.get() as theirs:
                    assert theirs.getpeername() == ours.getsockname()
        assert troubles.empty()


@pytest.mark.usefixtures("loop_that")
async def test_nobody_is_taken_after_the_end() -> None:
    async with accepted() as (where, clients, _):
        with socket.create_connection(where):
            (await clients.get()).close()
    assert clients.empty()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(where)


async def test_who_connects_in_the_moment_of_the_end_is_left_to_whoever_listens_next() -> None:
    taken: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        async with clients_of(sock, lambda client, _: taken.append(client), lambda _: None):
            waiting = socket.create_connection(sock.getsockname())
        for _ in range(5):  # turns of the loop
            await asyncio.sleep(0)
        assert taken == []
        with waiting, sock.accept()[0] as client:
            assert client.getpeername() == waiting.getsockname()
