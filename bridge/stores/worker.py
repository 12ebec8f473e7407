"""The one thread for a database's blocking calls, so that the event loop never waits for a disk or a server."""

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
"""Seconds until a store counts as gone (hung network drive, silent server); longer than every limit of the database's
own."""

R = TypeVar("R")


class Worker:
    """Carries out operations, one after the other."""

    def __init__(self, place: Said) -> None:
        """`place` names the database in sentences."""
        self._place = place
        self._is_closed = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._lock = threading.Lock()
        self._waiting: dict[Future[Any], Callable[[], Any]] = {}
        """Operations in their order. Not the executor's own queue: there, abandoned operations would stay for as long
        as the database hangs, 3 KiB for each login."""
        self._is_busy = False
        """True while the thread is at work, and will look for the next operation by itself."""

    async def run(self, operation: Callable[[], R]) -> R:
        """Carry out the operation and return its result. Raises: StoreUnavailable once closed, or if there is no answer
        or no thread; what the operation raises."""
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
                except RuntimeError as problem:  # no thread could be started; the next operation tries again
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
        """In the thread: carry out operations until none waits."""
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
        except RuntimeError:  # the system has no thread for us, so nothing was opened either
            release()
        else:
            # Not shutdown(wait=True), which would have to wait in a thread of its own: a database that hangs must not
            # keep the loop from closing.
            behind_it = self._thread.submit(int)
            with contextlib.suppress(TimeoutError):
                await _in_time(asyncio.wrap_future(behind_it))
        self._thread.shutdown(wait=False)


async def _in_time(answer: asyncio.Future[R]) -> R:
    """Raises: TimeoutError; what the operation raises."""
    try:
        # Not wait_for(): in Python 3.11 it loses a cancellation that comes together with the answer.
        async with asyncio.timeout(ANSWER_LIMIT):
            return await answer
    except TimeoutError:
        if answer.done() and not answer.cancelled():  # a loop that was held up sees timeout and answer together
            return answer.result()
        raise
