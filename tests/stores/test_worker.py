"""A database whose calls hang: each is given up in time, and holds up neither the next call nor the end."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Callable

import pytest

from bridge.advice.said import said
from bridge.errors import StoreUnavailable
from bridge.stores import worker as module
from bridge.stores.worker import Worker
from tests.silent import no_thread


async def test_an_answer_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_LIMIT", 0.05)
    worker, answer = Worker(said("the store")), threading.Event()
    try:
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match=r"the store has not answered for 0\.05 s"):
                await worker.run(answer.wait)
        await worker.close(lambda: None)
    finally:
        answer.set()


async def test_what_nobody_waits_for_any_more_is_not_kept_for_a_database_that_hangs() -> None:
    """A database may hang for a week while a thousand mail programs retry each minute. Who still waits gets a turn."""

    def operation() -> Callable[[], str]:
        return lambda: "done"

    worker, answer = Worker(said("the store")), threading.Event()
    given_up = list[weakref.ref[Callable[[], str]]]()
    try:
        async with asyncio.TaskGroup() as group:
            hanging = group.create_task(worker.run(answer.wait))
            await asyncio.sleep(0)
            for _ in range(50):
                asked = operation()
                given_up.append(weakref.ref(asked))
                waiting = group.create_task(worker.run(asked))
                del asked
                await asyncio.sleep(0)
                waiting.cancel()
            patient = group.create_task(worker.run(operation()))
            await asyncio.wait([waiting])
            del waiting  # its CancelledError came through a frame that holds the operation
            await asyncio.sleep(0)  # the group has yet to notice that
            gc.collect()
            assert [each() for each in given_up] == [None] * 50
            answer.set()
        assert (hanging.result(), patient.result()) == (True, "done")
    finally:
        answer.set()
        await worker.close(lambda: None)


async def test_who_is_cancelled_as_the_answer_comes_is_cancelled() -> None:
    """A stop cancels only once: a helper that missed it would run for ever, and the bridge with it."""
    worker = Worker(said("the store"))
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(worker.run(lambda: "done"))
        await asyncio.sleep(0)
        worker._thread.submit(int).result()  # runs after it in the thread: by now its answer is on the way to the loop
        asyncio.get_running_loop().call_soon(asking.cancel)
    assert asking.cancelled()
    await worker.close(lambda: None)


async def test_an_answer_that_came_while_the_loop_was_held_up_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop sees the answer and the expired limit at the same time; a write that was done must not count as lost."""
    monkeypatch.setattr(module, "ANSWER_LIMIT", 0.05)
    worker = Worker(said("the store"))
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(worker.run(lambda: "done"))
        await asyncio.sleep(0)
        worker._thread.submit(int).result()
        time.sleep(0.1)
    assert asking.result() == "done"
    await worker.close(lambda: None)


async def test_without_a_thread_it_is_unavailable_and_asks_for_one_again(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(said("the store"))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        with pytest.raises(StoreUnavailable, match="start new thread"):
            await worker.run(lambda: "done")
    assert await worker.run(lambda: "done") == "done"
    await worker.close(lambda: None)


@pytest.mark.parametrize("is_used", [False, True])
async def test_it_closes_without_one_more_thread(monkeypatch: pytest.MonkeyPatch, *, is_used: bool) -> None:
    """With no thread left (TasksMax of its service), the bridge still stops and leaves the database in order."""
    worker, released = Worker(said("the store")), list[str]()
    if is_used:
        await worker.run(lambda: "done")
    monkeypatch.setattr(threading.Thread, "start", no_thread)
    await worker.close(lambda: released.append("released"))
    assert released == ["released"]


async def test_what_goes_wrong_as_it_closes_keeps_nothing_from_its_end() -> None:
    def fail() -> None:
        raise OSError("the disk is gone")

    worker = Worker(said("the store"))
    await worker.run(lambda: "done")
    await worker.close(fail)
    with pytest.raises(StoreUnavailable, match="has been closed"):
        await worker.run(lambda: "done")
