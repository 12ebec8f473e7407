"""The one thread in which a database's blocking calls are made: the loop never waits for a disk or a server."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from bridge.advice.said import Said, said
from bridge.errors import StoreUnavailable
from bridge.threads import no_thread

ANSWER_LIMIT = 15.0
"""Seconds until a store counts as gone (hung network drive, silent server); above every limit within the database."""

R = TypeVar("R")


class Worker:
    """Carries out one operation after the other."""

    def __init__(self, place: Said) -> None:
        """`place` stands for the database in sentences."""
        self._place = place
        self._is_closed = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._lock = threading.Lock()
        self._waiting: dict[Future[Any], Callable[[], Any]] = {}
        """In their order; not in the executor's own queue, in which what is given up stays for as long as the database
        hangs: 3 KiB for each login."""
        self._is_busy = False
        """The thread will look for the next one by itself."""

    async def run(self, operation: Callable[[], R]) -> R:
        """What the operation gives. Raises: StoreUnavailable once closed, without an answer, or without a thread; what
        it raises."""
        if self._is_closed:
            raise StoreUnavailable(said("{store} has been closed", store=self._place))
        done: Future[R] = Future()
        try:
            self._add(done, operation)
            return await _in_time(asyncio.wrap_future(done))
        except TimeoutError as error:
            raise StoreUnavailable(
                said("{store} has not answered for {seconds} s", store=self._place, seconds=f"{ANSWER_LIMIT:g}")
            ) from error
        finally:
            with self._lock:
                self._waiting.pop(done, None)

    def _add(self, done: Future[R], operation: Callable[[], R]) -> None:
        with self._lock:
            self._waiting[done] = operation
            if not self._is_busy:
                try:
                    self._thread.submit(self._work)
                except RuntimeError as problem:  # it has none yet; a later one is asked for with the next operation
                    raise StoreUnavailable(no_thread(problem).said) from problem
                self._is_busy = True

    def _next(self) -> tuple[Future[Any], Callable[[], Any]] | None:
        with self._lock:
            done = next(iter(self._waiting), None)
            if done is None:
                self._is_busy = False
                return None
            return done, self._waiting.pop(done)

    def _work(self) -> None:
        """In the thread, until nobody waits."""
        while (found := self._next()) is not None:
            done, operation = found
            if done.set_running_or_notify_cancel():
                try:
                    done.set_result(operation())
                except BaseException as problem:  # noqa: BLE001  not swallowed: raised again where it is awaited
                    done.set_exception(problem)

    async def close(self, release: Callable[[], object]) -> None:
        """Finish what is under way, then call `release` and end the thread. Idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            self._thread.submit(release)
        except RuntimeError:  # the system has no thread for us, and nothing was opened without one
            release()
        else:
            # Not shutdown()'s own way of waiting, which wants a thread of its own, too: a database that hangs must not
            # keep the loop from closing.
            behind_it = self._thread.submit(int)
            with contextlib.suppress(TimeoutError):
                await _in_time(asyncio.wrap_future(behind_it))
        self._thread.shutdown(wait=False)


async def _in_time(answer: asyncio.Future[R]) -> R:
    """Raises: TimeoutError; what the operation raises."""
    try:
        # Not wait_for(): that of Python 3.11 loses a cancellation that comes as the answer does.
        async with asyncio.timeout(ANSWER_LIMIT):
            return await answer
    except TimeoutError:
        if answer.done() and not answer.cancelled():  # a loop that was held up learns of both in the same moment
            return answer.result()
        raise
