"""The OS keyring within a time limit: one call at a time, and one that hangs is left behind."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from bridge.advice.said import Said, as_said, said
from bridge.advice.system import too_little
from bridge.errors import StoreUnavailable
from bridge.threads import no_thread

if TYPE_CHECKING:
    from bridge.stores.oskeyring import OsKeyring

ANSWER_LIMIT = 10.0
"""Seconds for a keyring. It answers in 30 ms, or shows a prompt that waits for a person for ever; the call goes on
behind our back, and a later one finds the keyring unlocked."""

DESCRIPTORS = 8
"""That must be free before the keyring is asked; D-Bus needs two. The library looks for keyrings once, and takes one
that it could not reach just then for missing until the process ends."""

R = TypeVar("R")


def ask_keyring(work: Callable[[OsKeyring], R], *, limit: float, remedy: Said | None = None) -> R:
    """Open the keyring and carry out `work` with it. Blocks up to `limit` seconds.

    Raises: StoreUnavailable with the remedy that fits what was asked for, KeyringMissing among its kinds; what `work`
    raises.
    """
    try:
        return _keyring.call(lambda: work(_opened()), limit)
    except TimeoutError as error:
        raise StoreUnavailable(_with(no_answer(), remedy)) from error
    except StoreUnavailable as error:
        raise type(error)(_with(error.said or as_said(str(error)), remedy)) from error


def no_answer() -> Said:
    """What is said of one that takes too long."""
    return said("the OS keyring does not answer; unlock it")


class _OneAtATime:
    """Calls into the keyring, each in a daemon thread: one that hangs is left behind, also by the process's exit."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: Future[Any] | None = None

    def call(self, work: Callable[[], R], limit: float) -> R:
        """Carry out `work`. Raises: TimeoutError beyond the limit, at once while an earlier call still hangs;
        StoreUnavailable without a thread; what `work` raises."""
        if not self._lock.acquire(timeout=limit):
            raise TimeoutError
        try:
            # Its answer, not its thread: that one lives on for a moment after it has answered.
            if self._last is not None and not self._last.done():
                raise TimeoutError
            answer: Future[R] = Future()
            try:
                threading.Thread(target=_answer, args=(work, answer), name="keyring", daemon=True).start()
            except RuntimeError as problem:
                raise StoreUnavailable(no_thread(problem).said) from problem
            self._last = answer
            return answer.result(limit)
        finally:
            self._lock.release()


_keyring = _OneAtATime()  # of the process, as the keyring is


def _answer(work: Callable[[], R], answer: Future[R]) -> None:
    try:
        answer.set_result(work())
    except BaseException as error:  # noqa: BLE001  handed to the thread that waits
        answer.set_exception(error)


def _with(problem: Said, remedy: Said | None) -> Said:
    if remedy is None:
        return problem
    return Said("{problem}. {remedy}", (("problem", problem), ("remedy", remedy)))


def _opened() -> OsKeyring:
    """Raises: StoreUnavailable, see oskeyring; also without descriptors for it."""
    opened: list[int] = []
    try:
        for _ in range(DESCRIPTORS):
            opened.append(os.open(os.devnull, os.O_RDONLY))
    except OSError as problem:
        raise StoreUnavailable(too_little(problem)) from problem
    finally:
        for number in opened:
            os.close(number)
    from bridge.stores import oskeyring  # a second of imports, of no use to whoever has a key file

    return oskeyring.open_keyring()
