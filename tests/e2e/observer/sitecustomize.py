"""Looks into a running bridge from outside the product: Python imports this at its start if it is on the path.

A thread answers on a Unix socket: which tasks the event loop has, how many objects of our own classes there are, how
many blocks of memory Python's objects take, and how much the C library has given to larger objects and to libraries.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
import threading
import traceback
import warnings
from collections import Counter
from types import FrameType

DIRECTORY = os.environ.get("PYTHON_MAIL_BRIDGE_OBSERVER", "")
"""Each process has its socket here, named by its process id. The variable's name begins like those that a worker
inherits."""
MODULES = ("bridge.relay.", "aiosmtpd.", "ssl")
TRIES, COPY_SECONDS = 3, 5.0
"""Time for the forked copy to look; usually it takes milliseconds."""


def _look(loop: asyncio.AbstractEventLoop) -> bytes:
    """The figures; runs in the loop's own thread, in a forked copy of the process."""
    gc.unfreeze()  # get_objects() does not list the objects that the program has frozen
    gc.collect()
    blocks, heap = sys.getallocatedblocks(), _heap()  # first, because the look itself takes memory
    tasks = Counter(getattr(task.get_coro(), "__qualname__", "?") for task in asyncio.all_tasks(loop))
    objects = Counter(
        str(kind.__qualname__) for kind in map(type, gc.get_objects()) if str(kind.__module__).startswith(MODULES)
    )
    return json.dumps({"tasks": tasks, "objects": objects, "blocks": blocks, "heap": heap}).encode()


def _heap() -> int:
    """Octets that malloc() has given out; objects of up to 512 octets are not included, because Python allocates those
    itself. 0 if the C library does not tell; glibc does since 2.33."""
    from ctypes import CDLL, Structure, c_size_t  # late, so that the observed process does not load more modules

    class Mallinfo(Structure):  # mallinfo(3): ten numbers for all arenas together
        _fields_ = [("told", c_size_t * 10)]

    tell = getattr(CDLL(None), "mallinfo2", None)
    if tell is None:
        return 0
    tell.restype = Mallinfo
    _, _, _, _, hblkhd, _, _, uordblks, _, _ = tell().told
    return int(hblkhd + uordblks)


def _copy(loop: asyncio.AbstractEventLoop, pipe: int) -> int:
    """Fork a copy of the process, which looks and ends, so that the look itself changes nothing: a list of all objects
    is a megabyte, and garbage would be collected sooner than the program does. Returns: the copy's process id."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python 3.12 warns about a fork with threads: see _told_by_a_copy()
        pid = os.fork()
    if pid:
        return pid
    try:
        os.write(pipe, _look(loop))
    except BaseException:  # noqa: BLE001 - printed into the bridge's log, where tests allow no traceback
        traceback.print_exc()
    finally:
        os._exit(0)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop, found in the stacks of all threads."""
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
        connection.sendall(b"null")
        return
    found = b""
    for _ in range(TRIES):
        found = found or _told_by_a_copy(loop)
    connection.sendall(found or b"null")


def _told_by_a_copy(loop: asyncio.AbstractEventLoop) -> bytes:
    """The copy's figures; empty if it hangs, since it inherits the locks of the other threads, such as libfaketime's,
    but not the threads that would release them."""
    reads, writes = os.pipe()
    copies: list[int] = []

    def copy() -> None:
        copies.append(_copy(loop, writes))
        os.close(writes)

    loop.call_soon_threadsafe(copy)
    with open(reads, "rb") as pipe:
        if not select.select([pipe], [], [], COPY_SECONDS)[0] and copies:
            os.kill(copies[0], signal.SIGKILL)
        found = pipe.read()
    os.waitpid(copies[0], 0)
    return found


def _serve() -> None:
    place = os.path.join(DIRECTORY, str(os.getpid()))
    with contextlib.suppress(FileNotFoundError):  # left by a killed process that had the same id
        os.unlink(place)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(place)
        listener.listen()
        while True:
            connection, _ = listener.accept()
            with connection:
                _answer(connection)


if DIRECTORY and {"run", "worker"} & set(sys.orig_argv):  # not in commands that ask a running bridge
    threading.Thread(target=_serve, daemon=True, name="observer").start()
