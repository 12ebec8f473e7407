"""The OS keyring within a time limit: one call at a time, and a call that hangs is abandoned."""

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
"""Seconds for a keyring. It answers in 30 ms, or shows a prompt and waits for a person for ever; the abandoned call
goes on in its thread, and a later call finds the keyring unlocked."""

DESCRIPTORS = 8
"""File descriptors that must be free before the keyring is asked; D-Bus needs two. The library looks for keyrings only
once: one that it could not reach then counts as missing until the process ends."""

R = TypeVar("R")


def ask_keyring(work: Callable[[OsKeyring], R], *, limit: float, remedy: Said | None = None) -> R:
    """Open the keyring and carry out `work` with it. Blocks up to `limit` seconds.

    Raises: StoreUnavailable (or its subclass KeyringMissing), with `remedy` added to the text; what `work` raises.
    """
    try:
        return _keyring.call(lambda: work(_opened()), limit)
    except TimeoutError as error:
        raise StoreUnavailable(_with(no_answer(), remedy)) from error
    except StoreUnavailable as error:
        raise type(error)(_with(as_said(error.words), remedy)) from error


def no_answer() -> Said:
    """The sentence for a keyring that takes too long."""
    return said("the OS keyring does not answer; unlock it")


class _OneAtATime:
    """Calls into the keyring, each in a daemon thread, so that a call that hangs holds up nobody, not even the
    process's exit."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: Future[Any] | None = None

    def call(self, work: Callable[[], R], limit: float) -> R:
        """Carry out `work`. Raises: TimeoutError beyond the limit, or at once if an earlier call still hangs;
        StoreUnavailable if there is no thread; what `work` raises."""
        if not self._lock.acquire(timeout=limit):
            raise TimeoutError
        try:
            # Look at the last call's answer, not at its thread, which lives on for a moment after the answer.
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


_keyring = _OneAtATime()  # one for the process, because there is one keyring


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
    """The keyring. Raises: StoreUnavailable, see oskeyring; also if too few descriptors are free."""
    opened: list[int] = []
    try:
        for _ in range(DESCRIPTORS):
            opened.append(os.open(os.devnull, os.O_RDONLY))
    except OSError as problem:
        raise StoreUnavailable(too_little(problem)) from problem
    finally:
        for number in opened:
            os.close(number)
    from bridge.stores import oskeyring  # late: a second of imports, which users of a key file do not need

    return oskeyring.open_keyring()
