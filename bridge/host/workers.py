"""Starts workers, and prepares a worker's process for the operating system."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from array import array
from asyncio.subprocess import DEVNULL
from asyncio.subprocess import Process as Child
from collections.abc import Sequence
from contextlib import suppress

from bridge.errors import BridgeError
from bridge.host.descriptors import descriptor_limit, raise_descriptor_limit
from bridge.host.environment import environment_of_programs
from bridge.workers.link import HANDED_AT_ONCE, Passage
from bridge.workers.process import Process, StartWorker

READ_SIZE = 64 * 1024

UNLIMITED = 1 << 20
"""Descriptors, where the system has no limit."""

KEPT_BEGINNINGS = (
    "PYTHON",
    "COVERAGE",
    "COV_",
    "SSL_",
    "OPENSSL_",
    "LC_",
    "LD_",
    "DYLD_",
    "MALLOC_",
    "RES_",
    "JOURNAL_STREAM",
)
"""Variables that the interpreter, OpenSSL, the resolver and the log read. The rest stays with the bridge: client
secrets come in environment variables, and a worker has no use for them."""


class WorkerNotStarted(BridgeError):
    """The operating system has no more processes or descriptors for us."""

    temporary = True


class UnixPassage:
    """See link.Passage. Windows has no way to hand a socket over a socket."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._buffer = memoryview(bytearray(READ_SIZE))
        """Reused, because recv() allocates one for each call and gives back the unused part, which fragments memory."""

    def fileno(self) -> int:
        """See Passage."""
        return self._socket.fileno()

    def send(self, data: bytes, handed: Sequence[socket.socket]) -> int:
        """See Passage."""
        if not handed or sys.platform == "win32":
            return self._socket.send(data)
        return socket.send_fds(self._socket, [data], [sock.fileno() for sock in handed])

    def receive(self) -> tuple[bytes, list[socket.socket | None], bool]:
        """See Passage."""
        if sys.platform == "win32":
            return self._socket.recv(READ_SIZE), [], False
        handed = array("i")
        room = socket.CMSG_LEN(HANDED_AT_ONCE * handed.itemsize)
        count, ancillary, flags, _ = self._socket.recvmsg_into([self._buffer], room)
        for level, kind, octets in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                handed.frombytes(octets[: len(octets) - len(octets) % handed.itemsize])  # one may be cut off
        return bytes(self._buffer[:count]), [*map(_socket, handed)], bool(flags & socket.MSG_CTRUNC)

    def close(self) -> None:
        """See Passage."""
        self._socket.close()


def _socket(descriptor: int) -> socket.socket | None:
    """None where the system does not tell what kind of socket it is, for example: that costs this client, but not all
    others of the worker."""
    try:
        return socket.socket(fileno=descriptor)
    except OSError:
        os.close(descriptor)
        return None


class _Process:
    """See process.Process."""

    def __init__(self, child: Child, sock: socket.socket) -> None:
        self._child = child
        self.passage: Passage = UnixPassage(sock)
        self.pid = child.pid

    async def wait(self) -> str:
        code = await self._child.wait()
        return f"exit code {code}" if code >= 0 else f"signal {-code}"

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self._child.kill()


async def _start() -> Process:
    """See process.StartWorker. The worker inherits one end of a socket pair and nothing else."""
    try:
        ours, theirs = socket.socketpair()
    except OSError as problem:
        raise WorkerNotStarted(str(problem)) from problem
    with theirs:
        try:
            child = await asyncio.create_subprocess_exec(
                *_command(theirs.fileno()),
                stdin=DEVNULL,
                pass_fds=[theirs.fileno()],
                env=_environment(),
                # Otherwise Ctrl-C would reach it too, maybe before it ignores that. No session of its own, because
                # Linux schedules sessions separately (autogroup), and a login then costs a quarter more.
                process_group=0,
            )
        except (OSError, ValueError, RuntimeError) as problem:  # RuntimeError: no thread to wait for its end
            ours.close()
            raise WorkerNotStarted(str(problem)) from problem
        except BaseException:
            ours.close()
            raise
    return _Process(child, ours)


start_worker: StartWorker | None = None if sys.platform == "win32" else _start
"""None on Windows: its Proactor loop cannot watch a socket that it was handed, and asyncio's other loop is limited to
500."""


def _command(descriptor: int) -> list[str]:
    arguments = ["worker", str(descriptor)]
    if getattr(sys, "frozen", False):  # an installer's: it is the program
        return [sys.executable, *arguments]
    # -P: nothing is imported from the directory that the bridge was started in, unless the bridge does so itself.
    return [sys.executable, "-P", "-m", "bridge", *arguments]


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name.startswith(KEPT_BEGINNINGS)}
    same_files = {"PYTHONPATH": os.pathsep.join(sys.path)}
    return environment_of_programs() | kept | same_files


def prepare_worker(descriptor: int) -> tuple[Passage, int]:
    """In the worker's process. Returns: its end of the socket pair, and how many descriptors it may have."""
    # A service manager's SIGTERM goes to all processes, but the bridge decides when a worker ends.
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if (number := getattr(signal, name, None)) is not None:
            signal.signal(number, signal.SIG_IGN)
    raise_descriptor_limit()
    return UnixPassage(socket.socket(fileno=descriptor)), descriptor_limit() or UNLIMITED
