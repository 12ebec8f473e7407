"""Calls that may hang, in a thread of their own, one after the other; nobody waits long for one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue

from bridge.threads import LooseThread


class Call:
    """A call that is carried out in the thread."""

    def __init__(self, work: Callable[[], int]) -> None:
        self._work = work
        self._result = 0
        self._problem: OSError | MemoryError | None = None
        self._turn = threading.Lock()
        """Taken by whoever carries it out."""
        self._is_under_way = threading.Lock()
        self._is_under_way.acquire()

    def carry_out(self) -> bool:
        """In the thread, or where there is none. Returns: False, at once, if it has begun elsewhere."""
        if not self._turn.acquire(blocking=False):
            return False
        try:
            self._result = self._work()
        except (OSError, MemoryError) as problem:
            self._problem = problem
        finally:
            self._is_under_way.release()
        return True

    def is_over(self, seconds: float) -> bool:
        """Wait for its end, for so long at most. Returns: whether it has come."""
        is_over = self._is_under_way.acquire(timeout=seconds)
        if is_over:
            self._is_under_way.release()
        return is_over

    def result(self) -> int:
        """Its result, once it is over; to be asked for once. Raises: OSError or MemoryError, as the work did."""
        problem, self._problem = self._problem, None
        if problem is None:
            return self._result
        try:
            raise problem
        finally:
            del problem  # with its traceback, it and the frames that it names would keep each other in memory


class Aside:
    """The thread; it begins with the first call."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[Call | None] | None = None
        self._thread: LooseThread | None = None

    def begin(self, work: Callable[[], int]) -> Call:
        """Have this done after what was begun before. Where the system has no thread, it is done now."""
        call = Call(work)
        if self._calls is None:
            calls: SimpleQueue[Call | None] = SimpleQueue()
            thread = LooseThread(_carry_out, (calls,), "aside")
            try:
                thread.start()
            except RuntimeError:
                call.carry_out()
                return call
            self._calls, self._thread = calls, thread
        self._calls.put(call)
        return call

    def is_over(self, call: Call, seconds: float) -> bool:
        """Wait for the end of a call, for so long at most. If its thread has died, or had no memory to begin with
        (gh-140746), it is done now, and the next one has another thread. A thread that is merely late, as on a busy
        machine, keeps it: it may hang. Returns: whether it is over."""
        if call.is_over(seconds):
            return True
        if self._thread is not None and self._thread.is_alive():
            return False
        is_done = call.carry_out()
        if is_done:
            self.end()
        return is_done

    def end(self) -> None:
        """Let the thread end after its last call."""
        if self._calls is not None:
            self._calls.put(None)
            self._calls = None


def _carry_out(calls: SimpleQueue[Call | None]) -> None:
    while (call := calls.get()) is not None:
        call.carry_out()
        del call  # it would be kept in memory until the next one comes
