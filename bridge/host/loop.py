"""The event loop that the program runs on: asyncio's own, or one that costs a relay less, or outlives more."""

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
    loop.set_exception_handler(_tell)
    # As many as asyncio would take, but without asking which processors are ours: since Python 3.13 it does, and has
    # no pool where a sandbox refuses that.
    loop.set_default_executor(ThreadPoolExecutor(min(32, (os.cpu_count() or 1) + 4), "asyncio"))
    return loop


def _tell(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """As asyncio does, but for a server of its that cannot take a visitor just now, and tries again: no bug of ours, of
    which a traceback each second would tell."""
    problem = context.get("exception")
    if "socket" in context and isinstance(problem, OSError) and is_short(problem):
        logging.getLogger("asyncio").warning("%s: %s", context["message"], problem)
    else:
        loop.default_exception_handler(context)


def _of_this_system() -> asyncio.AbstractEventLoop:
    if sys.platform == "linux":
        from bridge.host.loop_linux import DirectLoop

        return DirectLoop()
    if sys.platform == "win32":
        from bridge.host.loop_windows import ServingLoop

        return ServingLoop()
    return asyncio.new_event_loop()
