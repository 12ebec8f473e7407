"""Blocking calls beside the event loop: daemon threads, few at a time, each waited for only so long."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import threading
from collections.abc import Callable
from typing import TypeVar

from bridge.advice.said import Said, as_said, quoted, said

T = TypeVar("T")


class NotDone(Exception):
    """There was no thread, or it did not come back in time; says which."""

    def __init__(self, text: str | Said) -> None:
        super().__init__(str(text))
        self.said = as_said(text)
        """The same, to be told in any language."""


class NotBegun(NotDone):
    """It was not even called."""


class NoThread(NotBegun):
    """The system has no more of them for us: that says nothing of what was to be called."""


async def in_thread(work: Callable[[], T]) -> T:
    """Call `work` in a thread of the loop's own pool: for what comes to an end by itself, and whose outcome is awaited.

    Raises: NoThread, for which asyncio.to_thread() has no word of its own; what `work` raises.
    """
    context, is_given_up = contextvars.copy_context(), threading.Event()

    def call() -> T:
        if is_given_up.is_set():
            raise NotBegun("given up")  # nobody waits for it
        return context.run(work)

    try:
        done = asyncio.get_running_loop().run_in_executor(None, call)
    except RuntimeError as problem:
        is_given_up.set()  # the pool has kept it all the same, and calls it once it gets a thread for something else
        raise no_thread(problem) from problem
    return await done


def no_thread(problem: RuntimeError) -> NoThread:
    """For what Python raises where it cannot start one."""
    return NoThread(
        said("the system has no more threads for mail-bridge just now: {problem}", problem=quoted(str(problem)))
    )


class Threads:
    """Runs blocking functions beside the event loop.

    A thread for each call, not a pool: concurrent.futures joins its threads when the interpreter exits, and one that
    hangs in a connect or in DNS would hold the process. Daemon threads do not. Starting one costs far less than the
    TLS handshake that follows. The loop's default executor is not used: it resolves names for everybody.
    """

    def __init__(self, name: str, *, at_once: int, limit: float | None = None, wait: float | None = None) -> None:
        """`limit`: seconds for a call; `wait`: seconds for a free place, by default as many; None for no limit."""
        self._name = name
        self._limit = limit
        self._wait = limit if wait is None else wait
        self._free = asyncio.Semaphore(at_once)

    async def run(self, work: Callable[[], T]) -> T:
        """Call `work` in a thread and return what it returns, or raise what it raises.

        A call that is given up (time limit, cancellation) goes on in its thread until its own time limits end it;
        nobody sees its outcome. So whoever must not lose a rotated token shields this call.
        The two waits have a limit each: a call that had to wait for its turn is not cut short for it.
        Raises: NotDone after either; NotBegun if `work` was not called; NoThread where the system has no more of them.
        """
        try:
            async with asyncio.timeout(self._wait):
                await self._free.acquire()
        except TimeoutError:
            raise NotBegun(said("{name}: too many requests are waiting for an answer", name=self._name)) from None
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._start(work, answer)
        if self._limit is None:
            return await answer
        with contextlib.suppress(TimeoutError):  # our own timeout, or one that the work raises
            async with asyncio.timeout(self._limit):
                return await answer
        # A loop that was held up learns of the answer and of its time in the same moment.
        if answer.cancelled() or isinstance(answer.exception(), TimeoutError):
            raise NotDone(
                said("{name}: no answer within {seconds} seconds", name=self._name, seconds=f"{self._limit:g}")
            )
        return answer.result()

    def _start(self, work: Callable[[], T], answer: asyncio.Future[T]) -> None:
        context = contextvars.copy_context()  # the connection id of the log lines goes along
        thread = threading.Thread(target=context.run, args=(self._work, work, answer), name=self._name, daemon=True)
        try:
            thread.start()
        except RuntimeError as problem:  # out of threads, or the interpreter is going down
            self._free.release()
            raise no_thread(problem) from problem

    def _work(self, work: Callable[[], T], answer: asyncio.Future[T]) -> None:
        try:
            settle = functools.partial(answer.set_result, work())
        except BaseException as problem:  # noqa: BLE001  not swallowed: raised again where the call is awaited
            settle = functools.partial(answer.set_exception, problem)
        try:
            answer.get_loop().call_soon_threadsafe(self._finish, answer, settle)
        except RuntimeError:
            return  # the loop has been closed: nobody is left to tell

    def _finish(self, answer: asyncio.Future[T], settle: Callable[[], None]) -> None:
        self._free.release()  # only now: a thread that nobody waits for still counts
        if not answer.done():
            settle()
