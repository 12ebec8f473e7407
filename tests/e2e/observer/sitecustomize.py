"""Looks into a running bridge, from outside the product: Python imports this first if its directory is on the path.

A thread answers on a Unix socket: which tasks the event loop has, and how many objects of our own classes there are.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import socket
import sys
import threading
from collections import Counter
from types import FrameType

DIRECTORY = os.environ.get("PYTHON_MAIL_BRIDGE_OBSERVER", "")
"""Each process has its socket here, by its number. The name begins like those that a worker inherits."""
MODULES = ("bridge.relay.", "aiosmtpd.", "ssl")


def _look() -> dict[str, dict[str, int]]:
    """In the loop's own thread."""
    gc.unfreeze()  # what the program has put out of the collector's sight is not in get_objects()
    gc.collect()
    tasks = Counter(getattr(task.get_coro(), "__qualname__", "?") for task in asyncio.all_tasks())
    objects = Counter(
        str(kind.__qualname__) for kind in map(type, gc.get_objects()) if str(kind.__module__).startswith(MODULES)
    )
    return {"tasks": dict(tasks), "objects": dict(objects)}


def _running_loop() -> asyncio.AbstractEventLoop | None:
    """By the stacks of all threads. Not among all objects: their list is a megabyte, which could stay in this thread's
    arena, and be taken for the program's."""
    for frame in sys._current_frames().values():
        outer: FrameType | None = frame
        while outer is not None:
            if outer.f_code.co_name == "run_forever":
                loop = outer.f_locals["self"]
                assert isinstance(loop, asyncio.AbstractEventLoop)
                return loop
            outer = outer.f_back
    return None


def _answer(connection: socket.socket) -> None:
    loop = _running_loop()
    if loop is None:
        return connection.sendall(b"null")
    found: list[dict[str, dict[str, int]]] = []
    looked = threading.Event()

    def look() -> None:
        found.append(_look())
        looked.set()

    loop.call_soon_threadsafe(look)
    looked.wait(30)
    return connection.sendall(json.dumps(found[0] if found else None).encode())


def _serve() -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.join(DIRECTORY, str(os.getpid())))
        listener.listen()
        while True:
            connection, _ = listener.accept()
            with connection:
                _answer(connection)


if DIRECTORY and {"run", "worker"} & set(sys.orig_argv):  # not the commands that ask the one that runs
    threading.Thread(target=_serve, daemon=True, name="observer").start()
