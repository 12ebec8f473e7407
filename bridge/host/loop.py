"""The event loop of the program: asyncio's own, one with less overhead (Linux), or one that survives more (Windows)."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bridge.shortage import is_short


def new_event_loop() -> asyncio.AbstractEventLoop:
    """For asyncio.Runner's `loop_factory`."""
    loop = _of_this_system()
    loop.set_exception_handler(_Teller())
    # As many threads as asyncio would use, but without asking which processors are ours: since Python 3.13 asyncio does
    # that, and gets no pool where a sandbox refuses the question.
    loop.set_default_executor(ThreadPoolExecutor(min(32, (os.cpu_count() or 1) + 4), "asyncio"))
    return loop


class _Teller:
    """Reports exceptions as asyncio does, except when one of its servers cannot accept a connection just now and tries
    again: that is no bug of ours, and would log a traceback each second."""

    def __init__(self) -> None:
        self._has_told = False
        """Whether it was reported in this turn of the loop: Python 3.14's asyncio tries several times in each
        (gh-151615)."""

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        problem = context.get("exception")
        if "socket" not in context or not isinstance(problem, OSError) or not is_short(problem):
            loop.default_exception_handler(context)
        elif not self._has_told:
            self._has_told = True
            loop.call_soon(self._begin_anew)
            logging.getLogger("asyncio").warning("%s: %s", context["message"], problem)

    def _begin_anew(self) -> None:
        self._has_told = False


def _of_this_system() -> asyncio.AbstractEventLoop:
    if sys.platform == "linux":
        from bridge.host.loop_linux import DirectLoop

        return DirectLoop()
    if sys.platform == "win32":
        from bridge.host.loop_windows import ServingLoop

        return ServingLoop()
    return asyncio.new_event_loop()
