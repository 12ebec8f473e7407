"""Blocking library calls: daemon threads, few at a time, each waited for only so long."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from bridge.errors import ProviderUnavailable

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds that we wait for a provider; msal and google-auth would wait for ever and for two minutes."""

    connect: float = 5.0
    """For each address of the host: a SYN that is not answered by then has met a firewall."""
    read: float = 10.0
    """Between two pieces of the answer to a GET."""
    overall: float = 25.0
    """For a GET, and for the wait for a free thread."""
    answer: float = 60.0
    """Between two pieces of the answer to a POST, and by how much longer one may take in all. Token endpoints answer in
    well under a second; but who hangs up on a refresh loses the refresh token that comes a moment later. Mail programs
    need not wait so long: see tokens.service."""

    @property
    def call(self) -> float:
        """For one call of ours once it has a thread: a GET and a POST at most."""
        return 2 * self.overall + self.answer


AT_ONCE = 8
"""Calls to one provider at the same time: a morning's worth of refreshes goes through quickly, and a provider that
hangs holds no more threads than this. Each provider has its own, so that one cannot starve another; the loop's
default executor is not used, since it resolves names for everybody."""


class Threads:
    """Runs blocking functions beside the event loop.

    A thread for each call, not a pool: concurrent.futures joins its threads when the interpreter exits, and one that
    hangs in a connect or in DNS would hold the process. Daemon threads do not. Starting one costs far less than the
    TLS handshake that follows.
    """

    def __init__(self, name: str, *, limit: float, wait: float | None = None, at_once: int = AT_ONCE) -> None:
        """`limit`: seconds for a call; `wait`: seconds for a free place, by default as many."""
        self._name = name
        self._limit = limit
        self._wait = limit if wait is None else wait
        self._free = asyncio.Semaphore(at_once)

    async def run(self, work: Callable[[], T]) -> T:
        """Call `work` in a thread and return what it returns, or raise what it raises.

        A call that is given up (time limit, cancellation) goes on in its thread until its own time limits end it;
        nobody sees its outcome. So whoever must not lose a rotated token shields this call.
        The two waits have a limit each: a call that had to wait for its turn is not cut short for it.
        Raises: ProviderUnavailable after either.
        """
        try:
            async with asyncio.timeout(self._wait):
                await self._free.acquire()
        except TimeoutError:
            raise ProviderUnavailable(f"{self._name}: too many requests are waiting for an answer") from None
        try:
            async with asyncio.timeout(self._limit):
                answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
                self._start(work, answer)
                return await answer
        except TimeoutError:
            raise ProviderUnavailable(f"{self._name}: no answer within {self._limit:g} seconds") from None

    def _start(self, work: Callable[[], T], answer: asyncio.Future[T]) -> None:
        context = contextvars.copy_context()  # the connection id of the log lines goes along
        thread = threading.Thread(
            target=context.run, args=(self._work, work, answer), name=f"oauth-{self._name}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as problem:  # out of threads, or the interpreter is going down
            self._free.release()
            raise ProviderUnavailable(f"{self._name}: {problem}") from problem

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
