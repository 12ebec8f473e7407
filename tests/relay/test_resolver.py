"""Name lookups, each in a thread of its own."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Sequence

import pytest

from bridge.dialing import AddressInfo, look_up
from bridge.relay import resolver as resolver_module
from bridge.relay.resolver import AT_ONCE, Resolver
from tests.turns import until


async def test_an_address_is_found_and_a_failure_is_raised_where_it_is_awaited() -> None:
    assert await Resolver().addresses("127.0.0.1", 993) == look_up("127.0.0.1", 993)
    with pytest.raises(socket.gaierror):
        await Resolver().addresses("no-such-name.invalid", 993)


async def test_lookups_that_hang_leave_room_for_others_until_there_are_too_many() -> None:
    gate = threading.Event()
    started: list[str] = []

    def lookup(host: str, port: int) -> Sequence[AddressInfo]:
        started.append(host)
        if host.startswith("hangs"):
            gate.wait(30)
        return look_up("127.0.0.1", port)

    resolver = Resolver(lookup)
    async with asyncio.TaskGroup() as group:
        hanging = [group.create_task(resolver.addresses(f"hangs{number}", 1)) for number in range(AT_ONCE - 1)]
        assert await resolver.addresses("quick", 1)
        hanging += [group.create_task(resolver.addresses(f"hangs{AT_ONCE + number}", 1)) for number in range(2)]
        late = group.create_task(resolver.addresses("late", 1))
        while len(started) < AT_ONCE + 1:
            await asyncio.sleep(0)
        for task in hanging:  # nobody waits for them any more, but their threads still count
            task.cancel()
        await asyncio.sleep(0)
        assert "late" not in started
        gate.set()
        assert await late


async def test_an_answer_is_good_for_a_while_and_a_failure_is_not() -> None:
    asked: list[str] = []

    def lookup(host: str, port: int) -> Sequence[AddressInfo]:
        asked.append(host)
        return look_up(host, port)

    resolver = Resolver(lookup)
    for _ in range(3):
        assert await resolver.addresses("127.0.0.1", 993)
        with pytest.raises(socket.gaierror):
            await resolver.addresses("no-such-name.invalid", 993)
    assert asked.count("127.0.0.1") == 1
    assert asked.count("no-such-name.invalid") == 3
    await resolver.addresses("127.0.0.1", 995)
    resolver.forget("127.0.0.1", 993)
    await resolver.addresses("127.0.0.1", 993)
    assert asked.count("127.0.0.1") == 3


class Slow:
    """A name server that answers once `gate` is set; by default it finds 127.0.0.1."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.asked: list[str] = []
        self.problem: Exception | None = None

    def __call__(self, host: str, port: int) -> Sequence[AddressInfo]:
        self.asked.append(host)
        self.gate.wait(30)
        if self.problem is not None:
            raise self.problem
        return look_up("127.0.0.1", port)


async def test_a_storm_of_logins_asks_once_and_has_one_of_the_places() -> None:
    """As when the first name server is down and each lookup takes five seconds."""
    server = Slow()
    resolver = Resolver(server)
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(resolver.addresses("mail", 993)) for _ in range(3 * AT_ONCE)]
        await until(lambda: bool(server.asked))
        server.gate.set()
    assert all(one.result() == look_up("127.0.0.1", 993) for one in waiting)
    assert server.asked == ["mail"]


async def test_a_failure_is_told_to_all_who_wait_and_is_not_kept() -> None:
    server = Slow()
    server.problem = socket.gaierror(socket.EAI_AGAIN, "later")
    resolver = Resolver(server)
    waiting = [asyncio.gather(resolver.addresses("mail", 993), return_exceptions=True) for _ in range(5)]
    await until(lambda: bool(server.asked))
    server.gate.set()
    assert [type(one) for (one,) in await asyncio.gather(*waiting)] == [socket.gaierror] * 5
    server.problem = None
    assert await resolver.addresses("mail", 993)
    assert server.asked == ["mail"] * 2


async def test_who_gives_up_takes_the_answer_from_nobody() -> None:
    server = Slow()
    resolver = Resolver(server)
    async with asyncio.TaskGroup() as group:
        first, second = (group.create_task(resolver.addresses("mail", 993)) for _ in range(2))
        await until(lambda: bool(server.asked))
        first.cancel()
        await until(first.done)
        third = group.create_task(resolver.addresses("mail", 993))
        await asyncio.sleep(0)
        server.gate.set()
    assert second.result() == third.result() == look_up("127.0.0.1", 993)
    assert server.asked == ["mail"]


async def test_who_gives_up_before_there_was_a_thread_leaves_the_question_to_the_next() -> None:
    server = Slow()
    resolver = Resolver(server)
    async with asyncio.TaskGroup() as group:
        for number in range(AT_ONCE):
            group.create_task(resolver.addresses(f"other{number}", 993))
        await until(lambda: len(server.asked) == AT_ONCE)
        first, second = (group.create_task(resolver.addresses("mail", 993)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        await until(first.done)
        server.gate.set()
    assert second.result() == look_up("127.0.0.1", 993)
    assert server.asked.count("mail") == 1


async def test_a_lookup_that_takes_too_long_is_asked_anew_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first lookup may be asking the name server of a network that the machine has left."""
    monkeypatch.setattr(resolver_module, "JOINED_SECONDS", 0.0)
    server = Slow()
    resolver = Resolver(server)
    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(resolver.addresses("mail", 993))
        await until(lambda: len(server.asked) == 2)
        server.gate.set()
