"""Work for a mail program goes on while the program is connected, and ends when it leaves."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from bridge.errors import PeerGone
from bridge.relay import wanted
from bridge.relay.channel import Channel
from bridge.relay.wanted import while_wanted
from tests.relay.sockets import KINDS, close_with_reset, tcp_pair

pytestmark = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(autouse=True)
def looked_at_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wanted, "LOOK_SECONDS", 0.01)


class Watched:
    """Counts the checks whether the mail program is still connected."""

    looks = 0


@contextmanager
def connected(kind: type[Channel]) -> Iterator[tuple[socket.socket, Channel, Watched]]:
    """A mail program, our channel to it, and the count of checks."""
    watched = Watched()

    class Counting(kind):  # type: ignore[misc, valid-type]
        @property
        def has_left(self) -> bool:
            watched.looks += 1
            return bool(super().has_left)

    program, ours = tcp_pair()
    channel = Counting(ours, asyncio.get_running_loop())
    with program:
        yield program, channel, watched
    channel.close()


async def seen_again(watched: Watched, times: int) -> None:
    until = watched.looks + times
    async with asyncio.timeout(20):
        while watched.looks < until:
            await asyncio.sleep(0.001)


async def test_who_waits_for_long_is_not_taken_for_one_who_has_left(kind: type[Channel]) -> None:
    with connected(kind) as (_, channel, watched):
        async with while_wanted(channel):
            await seen_again(watched, 3)


@pytest.mark.parametrize("leave", [socket.socket.close, close_with_reset])
async def test_who_leaves_ends_the_work(kind: type[Channel], leave: Callable[[socket.socket], None]) -> None:
    with connected(kind) as (program, channel, watched), pytest.raises(PeerGone, match="while it waited"):
        async with asyncio.timeout(20), while_wanted(channel):
            await seen_again(watched, 2)
            leave(program)
            await asyncio.Event().wait()


async def test_for_who_has_left_before_nothing_begins(kind: type[Channel]) -> None:
    with connected(kind) as (program, channel, _):
        program.close()
        async with asyncio.timeout(20):
            while not channel.has_left:
                await asyncio.sleep(0)
        with pytest.raises(PeerGone):
            async with while_wanted(channel):
                pytest.fail("it has begun")


async def test_work_that_runs_out_of_its_own_time_says_so(kind: type[Channel]) -> None:
    with connected(kind) as (_, channel, _), pytest.raises(TimeoutError):
        async with while_wanted(channel), asyncio.timeout(0):
            await asyncio.Event().wait()


async def test_behind_the_work_nobody_looks_any_more(kind: type[Channel]) -> None:
    with connected(kind) as (_, channel, watched):
        async with while_wanted(channel):
            await seen_again(watched, 1)
        looks = watched.looks
        await asyncio.sleep(3 * wanted.LOOK_SECONDS)
        assert watched.looks == looks
