"""A log file that does not grow for ever: for where nobody keeps standard error, such as a task of Windows."""

from __future__ import annotations

import errno
import io
import os
import stat
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TextIO
from weakref import WeakValueDictionary

from bridge.advice.said import Said, said
from bridge.advice.system import system_reason
from bridge.files.directories import make_private
from bridge.files.replacing import once_nobody_holds_it
from bridge.observe.aside import Aside, Call

LARGEST = 10 * 1024 * 1024
"""Octets; then `.1` is appended to the file's name, and a new one is begun. Some weeks of an office."""
KEPT = 4
"""Older files: `.1` is the latest. All of them together stay below 50 MiB."""
LOOK_SECONDS = 1.0
"""How long somebody else may rename or remove the file unnoticed: another process of ours, logrotate, a person."""
PATIENCE_SECONDS, LITTLE_PATIENCE = 1.0, 0.1
"""How long whoever writes waits for the thread, normally and after a write that took longer. The event loop stands
still meanwhile; but on a busy machine the thread may get its turn late."""
AT_ONCE = 4096
"""Octets of one write: fewer than the buffer in front of the file holds, so that it still has all of a write that is
late."""

_streams: WeakValueDictionary[str, TextIO] = WeakValueDictionary()
"""By path, as long as somebody holds the stream."""


def log_file(path: Path, *, renames: bool = True) -> TextIO:
    """The stream that appends to this file, which is created readable for its owner alone; the same stream for the same
    path while somebody holds it.

    Only one of several processes `renames` the file once it is large enough; the others notice. Raises: OSError.
    """
    stream = _streams.get(str(path))
    if stream is None or stream.closed:
        raw = io.BufferedWriter(_Appended(path, renames=renames))
        stream = _streams[str(path)] = _Dropped(raw, "utf-8", "backslashreplace", line_buffering=True)
    return stream


def path_of(stream: TextIO | None) -> str:
    """The path of a stream that log_file() has made; empty for any other."""
    return next((path for path, known in _streams.items() if known is stream), "")


def opened(path: Path) -> int:
    """A descriptor that appends to the file, which is created if needed. Raises: OSError, at once for a pipe that
    nobody reads, because waiting for a reader would hold up everybody's mail; and for a link of another user."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o600)
    except OSError:
        if not path.is_symlink():
            raise
        if is_strangers_link(path):  # told as Linux tells it
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path)) from None
        descriptor = os.open(path, flags, 0o600)
    if sys.platform != "win32":
        os.set_blocking(descriptor, True)  # otherwise a line that finds the pipe full would be lost
    return descriptor


def is_strangers_link(path: Path) -> bool:
    """True for a link that a user other than root and us has put there, as anybody may in /tmp. Our lines have user
    names that anybody may choose, and would be appended to a file of ours that runs or admits whatever is in it. Linux
    refuses such a link by itself if it is told to (fs.protected_symlinks), and then only in directories like /tmp."""
    if sys.platform == "win32":
        return False
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISLNK(found.st_mode) and found.st_uid not in {0, os.geteuid()}


def reason_of(problem: OSError, path: Path) -> Said:
    """Why this file cannot be opened, for the end of a sentence."""
    return said("it is a link that another user has made") if is_strangers_link(path) else system_reason(problem)


class _Dropped(io.TextIOWrapper):
    """A stream that whoever has it last just drops. If its disk is full then, nobody is left to be told, and Python
    since 3.13 would write a traceback to standard error."""

    def __del__(self) -> None:
        with suppress(OSError):
            self.close()


class _Appended(io.RawIOBase):
    """The end of the file that has this name now.

    All that is done to the file may hang: a network drive's server is away, or a pipe's reader has stopped. So a thread
    does it. Whoever writes waits until it is done, so that lines keep their order and none is lost in a crash, but not
    for long, and then not again before the thread has gone on.
    """

    def __init__(self, path: Path, *, renames: bool) -> None:
        self._path = path
        self._renames = renames
        self._descriptor = -1
        self._look_at = time.monotonic() + LOOK_SECONDS
        self._thread = Aside()
        self._patience = PATIENCE_SECONDS
        self._late: tuple[bytes, Call] | None = None
        """The octets that were not written in time, and the call that writes them."""
        once_nobody_holds_it(self._open)

    def writable(self) -> bool:
        """See io."""
        return True

    def write(self, data: object, /) -> int:
        """See io. Raises: OSError; the next write tries again, by name.

        After an error the buffer before this keeps what it has, and writes the same octets the next time. If they were
        merely late, and are in the file by then, they are not written again.
        """
        octets = bytes(memoryview(data)[:AT_ONCE])  # type: ignore[arg-type]  # any buffer, a type that Python 3.11 cannot name
        if self._late is not None:
            late, begun = self._late
            if not self._thread.is_over(begun, 0):
                raise _hangs()
            self._late = None
            if octets.startswith(late):
                return begun.result()
        call = self._thread.begin(partial(self._append, octets))
        self._late = octets, call  # before the wait, which Ctrl-C may end
        if not self._thread.is_over(call, self._patience):
            self._patience = LITTLE_PATIENCE
            raise _hangs()
        self._late, self._patience = None, PATIENCE_SECONDS
        return call.result()

    def close(self) -> None:
        """See io."""
        if not self.closed:
            super().close()
            if sys.is_finalizing():  # no thread goes on, and the system closes the file
                return
            if self._descriptor >= 0 or self._late is not None:
                self._thread.is_over(self._thread.begin(self._leave), self._patience)
            self._thread.end()

    # --- in the thread ------------------------------------------------------------------------------------------

    def _append(self, octets: bytes) -> int:
        """Raises: OSError."""
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            self._look()
        if self._descriptor < 0:
            self._open()
        return os.write(self._descriptor, octets)

    def _open(self) -> None:
        try:
            self._descriptor = opened(self._path)
        except FileNotFoundError:
            make_private(self._path.parent)
            self._descriptor = opened(self._path)

    def _leave(self) -> int:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with suppress(OSError):
                os.close(descriptor)
        return 0

    def _look(self) -> None:
        """Notice whether the path still names our file, and rename it if it has become too large."""
        try:
            found = os.stat(self._path)
            is_ours = found.st_ino == os.fstat(self._descriptor).st_ino
        except OSError:
            is_ours = False
        if not is_ours:
            self._leave()
        elif self._renames and found.st_size >= LARGEST:
            self._leave()  # Windows does not rename an open file
            self._rename()

    def _rename(self) -> None:
        """Rename the file to `.0` first. Windows does not rename a file that somebody reads: then the log grows on
        until it can be renamed, and nothing is lost. If somebody reads an older one, the newer ones wait behind it, and
        nothing overwrites them."""
        names = [self._path.with_name(f"{self._path.name}.{number}") for number in range(KEPT + 1)]
        try:
            if not names[0].is_file():
                os.replace(self._path, names[0])
            free = next((number for number, name in enumerate(names) if not name.exists()), KEPT)
            for number in range(free, 0, -1):
                os.replace(names[number - 1], names[number])
        except OSError:
            return


def _hangs() -> TimeoutError:
    return TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
