"""A single worker as the bridge sees it: how many sessions it can serve, and how it ends."""

from __future__ import annotations

import asyncio
import socket
import sys

import pytest

from bridge.host.workers import UnixPassage
from bridge.workers import running
from bridge.workers.clients import Client
from bridge.workers.link import Link, Passage
from bridge.workers.running import LOOK_SECONDS, SILENCES, RunningWorker
from tests.clocks import ManualClock
from tests.turns import until

linked = pytest.mark.skipif(sys.platform == "win32", reason="a link needs add_reader(), which Windows' loop lacks")


class Stubborn:
    """A process.Process that ends only when it is killed."""

    pid = 1

    def __init__(self) -> None:
        ours, self.theirs = socket.socketpair()
        self.passage: Passage = UnixPassage(ours)
        self._killed = asyncio.Event()

    async def wait(self) -> str:
        await self._killed.wait()
        return "killed"

    def kill(self) -> None:
        self._killed.set()

    @property
    def is_killed(self) -> bool:
        return self._killed.is_set()

    def close(self) -> None:
        self.passage.close()
        self.theirs.close()


async def test_a_worker_that_does_not_end_by_itself_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a bridge that stops would wait for ever."""
    monkeypatch.setattr(running, "END_SECONDS", 0.0)
    process = Stubborn()
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        assert await RunningWorker(1, process, group).ended() == "killed"
    process.close()


@linked
async def test_an_idle_worker_that_hangs_is_killed_once_clients_wait_for_its_answer() -> None:
    """Those of a crowd wait in the bridge, so that the worker may have none of its own; see Pool.pace()."""
    process, clock = Stubborn(), ManualClock()
    async with asyncio.TaskGroup() as group:
        worker = RunningWorker(1, process, group)
        worker.link = Link(process.passage, lambda message, handed: None, worker.lose)
        worker.ready(1024)
        watching = group.create_task(worker.watch(clock))
        for _ in range(2 * SILENCES):
            await clock.until_asleep()
            clock.advance(LOOK_SECONDS)
        await clock.until_asleep()
        assert not process.is_killed, "nobody wants anything of it"
        worker.ask()
        for _ in range(SILENCES):
            await clock.until_asleep()
            clock.advance(LOOK_SECONDS)
        await until(lambda: watching.done() or clock.sleepers > 0)
        assert process.is_killed
    worker.link.close()
    process.close()


@linked
async def test_a_worker_that_has_clients_and_answers_when_asked_is_left_in_peace() -> None:
    process, clock = Stubborn(), ManualClock()
    process.theirs.setblocking(False)
    async with asyncio.TaskGroup() as group:
        worker = RunningWorker(1, process, group)
        worker.link = Link(process.passage, lambda message, handed: worker.answered(), worker.lose)
        worker.ready(1024)
        worker.clients["imap-1"] = Client("imap-1", 1, "127.0.0.1:40001", process.theirs, b"")
        watching = group.create_task(worker.watch(clock))
        for _ in range(2 * SILENCES):
            await clock.until_asleep()
            clock.advance(LOOK_SECONDS)
            assert await asyncio.get_running_loop().sock_recv(process.theirs, 100) == b'["here?"]\n'
            process.theirs.sendall(b'["here"]\n')
            await until(lambda: not worker.silences)
        assert not process.is_killed
        watching.cancel()
    worker.link.close()
    process.close()


@pytest.mark.parametrize(("descriptors", "room"), [(1024, 504), (20, 2), (16, 1), (3, 1)])
async def test_a_worker_serves_as_many_as_its_descriptors_are_enough_for(descriptors: int, room: int) -> None:
    process = Stubborn()
    async with asyncio.TaskGroup() as group:
        worker = RunningWorker(1, process, group)
        assert worker.is_full, "it is not ready"
        worker.ready(descriptors)
        assert (worker.room, worker.is_full) == (room, False)
        worker.lose()
        assert worker.is_full
    process.close()
