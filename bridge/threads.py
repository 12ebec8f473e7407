"""Blocking calls outside the event loop: daemon threads, few at a time, each awaited only for a limited time."""

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
    """There was no thread, or the call did not return in time; the text says which."""

    def __init__(self, text: str | Said) -> None:
        super().__init__(str(text))
        self.said = as_said(text)
        """The same, to be told in any language."""


class NotBegun(NotDone):
    """The function was not even called."""


class NoThread(NotBegun):
    """The system has no more threads for us, which says nothing about the function."""


async def in_thread(work: Callable[[], T]) -> T:
    """Call `work` in a thread of the loop's own pool: for calls that are sure to end, and whose outcome is awaited.

    Raises: NoThread, where asyncio.to_thread() would raise a plain RuntimeError; what `work` raises.
    """
    context, is_given_up = contextvars.copy_context(), threading.Event()

    def call() -> T:
        if is_given_up.is_set():
            raise NotBegun("given up")  # nobody waits for it
        return context.run(work)

    try:
        done = asyncio.get_running_loop().run_in_executor(None, call)
    except RuntimeError as problem:
        is_given_up.set()  # the pool has queued the call all the same, and would make it once it gets a thread
        raise no_thread(problem) from problem
    return await done


def no_thread(problem: RuntimeError) -> NoThread:
    """Our error for the RuntimeError that Python raises if it cannot start a thread."""
    return NoThread(
        said("the system has no more threads for mail-bridge just now: {problem}", problem=quoted(str(problem)))
    )


BEGIN_SECONDS = 5.0
"""After this time a thread that has not begun is taken for one that the system could not give the memory to begin."""


class _Unawaited(threading.Event):
    """Nobody waits for it."""

    def wait(self, timeout: float | None = None) -> bool:
        """Return at once. Returns: whether it has happened."""
        return self.is_set()


class LooseThread(threading.Thread):
    """A daemon thread whose start nobody waits for.

    Python's own start() waits until the new thread has begun, without a limit. A thread for whose first steps there is
    no memory ends without a word, and the event loop, with all sessions, would stand still for ever (gh-140746).
    """

    def __init__(self, target: Callable[..., object], args: tuple[object, ...], name: str) -> None:
        super().__init__(target=target, args=args, name=name, daemon=True)
        self._started = _Unawaited()  # what start() waits for


class Threads:
    """Runs blocking functions outside the event loop.

    A thread for each call, not a pool: concurrent.futures joins its threads when the interpreter exits, so a thread
    that hangs in a connect or in DNS would keep the process from ending. Daemon threads do not. Starting one costs far
    less than the TLS handshake that follows. The loop's default executor is not used, because it resolves names for
    everybody.
    """

    def __init__(self, name: str, *, at_once: int, limit: float | None = None, wait: float | None = None) -> None:
        """`limit`: seconds for a call; `wait`: seconds to wait for a free thread, by default the same; None for no
        limit."""
        self._name = name
        self._limit = limit
        self._wait = limit if wait is None else wait
        self._free = asyncio.Semaphore(at_once)

    async def run(self, work: Callable[[], T]) -> T:
        """Call `work` in a thread and return what it returns, or raise what it raises.

        A call that is given up (time limit, cancellation) goes on in its thread until its own time limits end it, and
        its outcome is lost. So callers that must not lose a rotated token shield this call.
        The two waits have separate limits, so that a call that had to wait for a thread is not cut short.
        Raises: NotDone after either limit; NotBegun if `work` was not called; NoThread if the system has no threads.
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
        # After our timeout the answer may still be there: a loop that was held up sees both at the same moment.
        if answer.cancelled() or isinstance(answer.exception(), TimeoutError):
            raise NotDone(
                said("{name}: no answer within {seconds} seconds", name=self._name, seconds=f"{self._limit:g}")
            )
        return answer.result()

    def _start(self, work: Callable[[], T], answer: asyncio.Future[T]) -> None:
        context = contextvars.copy_context()  # with the connection id for log lines
        turn = threading.Lock()  # taken by whoever is first: the thread, or the end of the wait for it
        timer = answer.get_loop().call_later(BEGIN_SECONDS, self._give_up, answer, turn)
        try:
            LooseThread(context.run, (self._work, work, answer, turn, timer), self._name).start()
        except RuntimeError as problem:  # out of threads, or the interpreter is going down
            timer.cancel()
            self._free.release()
            raise no_thread(problem) from problem

    def _give_up(self, answer: asyncio.Future[T], turn: threading.Lock) -> None:
        """Wait no longer for a thread, unless it has begun."""
        if turn.acquire(blocking=False):
            self._free.release()
            if not answer.done():
                answer.set_exception(no_thread(RuntimeError("can't start new thread")))  # as Python calls it

    def _work(
        self, work: Callable[[], T], answer: asyncio.Future[T], turn: threading.Lock, timer: asyncio.TimerHandle
    ) -> None:
        if not turn.acquire(blocking=False):
            return  # too late: nobody waits for it any more
        try:
            settle = functools.partial(answer.set_result, work())
        except BaseException as problem:  # noqa: BLE001  not swallowed: raised again where the call is awaited
            settle = functools.partial(answer.set_exception, problem)
        try:
            answer.get_loop().call_soon_threadsafe(self._finish, answer, settle, timer)
        except RuntimeError:
            return  # the loop has been closed: nobody waits for the answer

    def _finish(self, answer: asyncio.Future[T], settle: Callable[[], None], timer: asyncio.TimerHandle) -> None:
        timer.cancel()  # which would keep the answer in memory
        self._free.release()  # only now, because an abandoned thread still counts
        if not answer.done():
            settle()
