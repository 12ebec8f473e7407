"""The one thread in which a database's blocking calls are made: the loop never waits for a disk or a server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from bridge.advice.said import Said, said
from bridge.errors import StoreUnavailable

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

    async def run(self, operation: Callable[[], R]) -> R:
        """What the operation gives. Raises: StoreUnavailable once closed, or without an answer; what it raises."""
        if self._is_closed:
            raise StoreUnavailable(said("{store} has been closed", store=self._place))
        done = asyncio.get_running_loop().run_in_executor(self._thread, operation)
        try:
            return await asyncio.wait_for(done, ANSWER_LIMIT)
        except TimeoutError as error:
            raise StoreUnavailable(
                said("{store} has not answered for {seconds} s", store=self._place, seconds=f"{ANSWER_LIMIT:g}")
            ) from error

    async def close(self, release: Callable[[], object]) -> None:
        """Finish what is under way, then call `release` and end the thread. Idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        self._thread.submit(release)
        # Not this loop's executor: a database that hangs must not keep the loop from closing.
        waiter = threading.Thread(target=self._thread.shutdown, daemon=True)
        waiter.start()
        await asyncio.to_thread(waiter.join, ANSWER_LIMIT)
