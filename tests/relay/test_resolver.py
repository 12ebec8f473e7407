"""Lookups in threads of their own."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Sequence

import pytest

from bridge.dialing import AddressInfo, look_up
from bridge.relay.resolver import AT_ONCE, Resolver


async def test_an_address_is_found_and_a_failure_is_raised_where_it_is_awaited() -> None:
    assert await Resolver().addresses("127.0.0.1", 993) == look_up("127.0.0.1", 993)
    with pytest.raises(socket.gaierror):
        await Resolver().addresses("no-such-name.invalid", 993)


async def test_lookups_that_hang_leave_room_for_others_until_there_are_too_many() -> None:
    gate = threading.Event()
    started: list[str] = []

    def lookup(host: str, port: int) -> Sequence[AddressInfo]:
        started.append(host)
        if host == "hangs":
            gate.wait(30)
        return look_up("127.0.0.1", port)

    resolver = Resolver(lookup)
    async with asyncio.TaskGroup() as group:
        hanging = [group.create_task(resolver.addresses("hangs", 1)) for _ in range(AT_ONCE - 1)]
        assert await resolver.addresses("quick", 1)
        hanging += [group.create_task(resolver.addresses("hangs", 1)) for _ in range(2)]
        late = group.create_task(resolver.addresses("late", 1))
        while started.count("hangs") < AT_ONCE:
            await asyncio.sleep(0)
        for task in hanging:  # given up: the threads still count
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
