"""SIGTERM, SIGHUP, Ctrl-C to stop and reload."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def reload_on_signal(reload: Callable[[], None]) -> Iterator[None]:
    """Call `reload` on the running loop for SIGHUP, where the system has it."""
    if sys.platform == "win32":
        yield
        return
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, reload)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


@contextlib.contextmanager
def stop_on_signal(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` on the running loop for SIGTERM, Ctrl-C and (Windows) Ctrl-Break; a second one ends at once."""
    loop = asyncio.get_running_loop()
    names = ["SIGINT", "SIGTERM", *(["SIGBREAK"] if sys.platform == "win32" else [])]
    numbers = [getattr(signal, name) for name in names]
    if sys.platform == "win32":
        # The Proactor loop has no add_signal_handler; the loop may be asleep in a system call, so it is woken too.
        before = {n: signal.signal(n, lambda *_: loop.call_soon_threadsafe(stop)) for n in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    else:
        for number in numbers:
            loop.add_signal_handler(number, stop)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)
