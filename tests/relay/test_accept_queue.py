"""The order in which clients get their turns when many connect at once."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from bridge.relay import accept_queue, accepting
from bridge.relay.accept_queue import AcceptQueue
from bridge.relay.accepting import clients_of
from tests.relay.sockets import close_with_reset

WAYS = ["watches", "does not watch"]


@pytest.fixture(params=WAYS if sys.platform != "win32" else WAYS[-1:])
def loop_that(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows' loop cannot watch a socket; each loop can do without."""
    monkeypatch.setattr(accepting, "has_add_reader", lambda _: request.param == "watches")


@contextmanager
def connected(number: int) -> Iterator[tuple[list[socket.socket], list[socket.socket]]]:
    """The clients' sockets as they are accepted, and their other ends."""
    with ExitStack() as stack:
        pairs = [socket.socketpair() for _ in range(number)]
        for pair in pairs:
            pair[0].setblocking(False)
            for end in pair:
                stack.enter_context(end)
        yield [taken for taken, _ in pairs], [other for _, other in pairs]


def test_callers_take_turns_and_each_ones_clients_keep_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accept_queue, "FEW", 1)
    begun: list[Any] = []
    owners = {name: "alice" if name in "fh" else "mallory" for name in "abcdefgh"}
    asked: list[str] = []
    with connected(8) as (clients, _):
        names = dict(zip(clients, owners, strict=True))

        def whose(client: socket.socket) -> str:
            asked.append(names[client])
            return owners[names[client]]

        queue = AcceptQueue(lambda _, address: begun.append(address), whose)
        for client in clients:
            queue.add(client, names[client])
        while len(queue):
            queue.let_in(1)
    assert asked == list("bcdefgh"), "whoever is alone is not asked about"
    assert begun == list("abfchdeg")


def test_while_few_wait_nobody_asks_whose_they_are() -> None:
    """Because sixteen mail programs that log in side by side would have to wait for each other's look-ups."""
    begun: list[Any] = []
    asked: list[socket.socket] = []
    with connected(10) as (clients, _):

        def whose(client: socket.socket) -> str:
            asked.append(client)
            return "mallory"

        queue = AcceptQueue(lambda _, address: begun.append(address), whose)
        for number, client in enumerate(clients):
            queue.add(client, number)
        while len(queue):
            queue.let_in(1)
    assert asked == clients[8:]
    assert begun == [0, 8, 1, 9, 2, 3, 4, 5, 6, 7]


def test_of_a_crowd_those_who_have_hung_up_are_dropped_and_no_more_than_is_wanted_at_once() -> None:
    begun: list[Any] = []
    with connected(6) as (clients, theirs):
        queue = AcceptQueue(lambda _, address: begun.append(address), lambda _: "")
        for number, client in enumerate(clients):
            queue.add(client, number)
        theirs[0].send(b"a1 NOOP\r\n")
        for gone in (theirs[0], theirs[1], theirs[2], theirs[4]):
            gone.close()
        for expected in ([0], [0], [0, 3], [0, 3, 5]):
            queue.let_in(2)
            assert begun == expected, "who has said something may have said all of it"
        assert [client.fileno() < 0 for client in clients] == [False, True, True, False, True, False]


def test_who_has_said_something_and_reset_the_connection_is_dropped() -> None:
    begun: list[Any] = []
    with socket.create_server(("127.0.0.1", 0)) as server, ExitStack() as stack:
        queue = AcceptQueue(lambda _, address: begun.append(address), lambda _: "")
        for is_there in (False, False, True):
            client = stack.enter_context(socket.create_connection(server.getsockname()))
            taken = stack.enter_context(server.accept()[0])
            taken.setblocking(False)
            client.send(b"a1 NOOP\r\n")
            queue.add(taken, is_there)
            if not is_there:
                close_with_reset(client)
        queue.let_in(3)
    assert begun == [True]


def test_where_no_room_is_left_all_who_have_hung_up_make_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accept_queue, "FEW", 1)
    begun: list[Any] = []
    with connected(6) as (clients, theirs):
        lines = dict(zip(clients, ["", "a", "a", "b", "b", "a"], strict=True))
        queue = AcceptQueue(lambda _, address: begun.append(address), lambda client: lines[client])
        for number, client in enumerate(clients):
            queue.add(client, number)
        for number in (0, 1, 3, 4):
            theirs[number].close()
        queue.drop_gone()
        assert len(queue) == 2
        for _ in range(2):
            queue.let_in(1)
    assert begun == [2, 5]


def test_who_comes_alone_and_hangs_up_is_let_in() -> None:
    """As with a balancer's health check, which the log is to mention."""
    begun: list[Any] = []
    with connected(1) as (clients, theirs):
        queue = AcceptQueue(
            lambda _, address: begun.append(address), lambda _: str(pytest.fail("it is asked whose it is"))
        )
        theirs[0].close()
        queue.add(clients[0], 0)
        queue.let_in(1)
    assert begun == [0]


@pytest.mark.usefixtures("loop_that")
async def test_a_crowd_is_begun_one_in_each_turn_of_the_loop_and_the_rest_when_the_port_is_closed() -> None:
    begun: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as sock, ExitStack() as stack:
        sock.setblocking(False)
        ours = [stack.enter_context(socket.create_connection(sock.getsockname())) for _ in range(40)]
        mine = ours[-1].getsockname()

        def take(client: socket.socket, address: Any) -> None:
            begun.append(stack.enter_context(client))

        def whose(client: socket.socket) -> str:
            return "mine" if client.getpeername() == mine else "a flood"

        async with clients_of(sock, take, lambda _: None, whose=whose):
            turns = 0
            while not any(client.getpeername() == mine for client in begun):
                turns += 1
                assert turns < 12, "it waits behind all the others"
                await asyncio.sleep(0)
            assert len(begun) <= turns + 1
        assert len(begun) == len(ours)


@pytest.mark.usefixtures("loop_that")
async def test_those_whom_nobody_has_begun_are_left_to_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accepting, "WAITING", 3)
    with socket.create_server(("127.0.0.1", 0)) as sock, ExitStack() as stack:
        sock.setblocking(False)
        for _ in range(10):
            stack.enter_context(socket.create_connection(sock.getsockname()))
        begun = asyncio.Queue[socket.socket]()
        most = 0

        def take(client: socket.socket, address: Any) -> None:
            begun.put_nowait(stack.enter_context(client))

        class Counted(AcceptQueue):
            def add(self, client: socket.socket, address: Any) -> None:
                nonlocal most
                super().add(client, address)
                most = max(most, len(self))

        monkeypatch.setattr(accepting, "AcceptQueue", Counted)
        async with clients_of(sock, take, lambda _: None), asyncio.timeout(10):
            for _ in range(10):
                await begun.get()
        assert most == 3


@pytest.mark.usefixtures("loop_that")
async def test_a_full_crowd_is_not_looked_through_for_each_who_comes_and_hangs_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Behind 64 who wait for a busy worker, the looks cost more than a login does."""
    monkeypatch.setattr(accepting, "WAITING", 16)
    has_gone, looked = accept_queue._has_gone, 0

    def counted(client: socket.socket) -> bool:
        nonlocal looked
        looked += 1
        return has_gone(client)

    monkeypatch.setattr(accept_queue, "_has_gone", counted)
    with socket.create_server(("127.0.0.1", 0), backlog=64) as sock, ExitStack() as stack:
        sock.setblocking(False)
        for number in range(60):
            client = stack.enter_context(socket.create_connection(sock.getsockname()))
            if number >= 15:
                client.close()

        def take(client: socket.socket, address: Any) -> None:
            stack.enter_context(client)

        async with clients_of(sock, take, lambda _: None, pace=lambda _: None):
            for _ in range(500):  # turns of the loop
                await asyncio.sleep(0)
            assert 16 <= looked <= 60 * 9


@pytest.mark.usefixtures("loop_that")
async def test_behind_each_eighth_client_that_comes_alone_we_look_who_else_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An accept() that finds nobody costs a twentieth of a login; where it finds somebody, the crowd is gathered."""
    begun = asyncio.Queue[socket.socket]()
    looked = 0

    class Counted(AcceptQueue):
        def add(self, client: socket.socket, address: Any) -> None:
            nonlocal looked
            looked += 1
            super().add(client, address)

    monkeypatch.setattr(accepting, "AcceptQueue", Counted)
    with socket.create_server(("127.0.0.1", 0)) as sock, ExitStack() as stack:
        sock.setblocking(False)

        def come(number: int) -> None:
            for _ in range(number):
                stack.enter_context(socket.create_connection(sock.getsockname()))

        def take(client: socket.socket, address: Any) -> None:
            begun.put_nowait(stack.enter_context(client))

        async with clients_of(sock, take, lambda _: None), asyncio.timeout(10):
            for _ in range(17):
                come(1)
                await begun.get()
            assert looked == 3
            come(20)
            for _ in range(20):
                await begun.get()
            assert looked == 3 + 13


@pytest.mark.usefixtures("loop_that")
async def test_a_flood_of_those_who_have_gone_is_a_crowd_even_if_nobody_of_it_is_left() -> None:
    """As many as one look takes: all of them are dropped, and behind them come more of the kind."""
    begun = asyncio.Queue[Any]()
    with socket.create_server(("127.0.0.1", 0), backlog=256) as sock, ExitStack() as stack:
        sock.setblocking(False)
        for _ in range(200):
            socket.create_connection(sock.getsockname()).close()
        mine = stack.enter_context(socket.create_connection(sock.getsockname()))

        def take(client: socket.socket, address: Any) -> None:
            stack.enter_context(client)
            begun.put_nowait(address)

        async with clients_of(sock, take, lambda _: None), asyncio.timeout(10):
            assert await begun.get() == mine.getsockname()
