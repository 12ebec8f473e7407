"""A log file that does not grow for ever: where nobody keeps standard error, as for a task of Windows."""

from __future__ import annotations

import io
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TextIO
from weakref import WeakValueDictionary

from bridge.making import make_private

LARGEST = 10 * 1024 * 1024
"""Octets; then the file gets `.1` behind its name, and a new one is begun. Some weeks of an office."""
KEPT = 4
"""Older files: `.1` is the latest. All of them together stay below 50 MiB."""
LOOK_SECONDS = 1.0
"""How long what somebody else does to the file may go unnoticed: another process of ours, logrotate, a person."""

_streams: WeakValueDictionary[str, TextIO] = WeakValueDictionary()
"""By path, as long as somebody writes to them."""


def log_file(path: Path, *, renames: bool = True) -> TextIO:
    """The stream that writes to the end of this file, readable for its owner alone where it has to be made; the same
    one for the same path while somebody has it.

    Of several processes only one `renames` the file when it is large enough; the others notice. Raises: OSError.
    """
    stream = _streams.get(str(path))
    if stream is None or stream.closed:
        raw = io.BufferedWriter(_Appended(path, renames=renames))
        stream = _streams[str(path)] = io.TextIOWrapper(raw, "utf-8", "backslashreplace", line_buffering=True)
    return stream


def path_of(stream: TextIO | None) -> str:
    """Of a stream that log_file() has made; empty for any other."""
    return next((path for path, known in _streams.items() if known is stream), "")


def opened(path: Path) -> int:
    """A descriptor of the end of the file, which is made. Raises: OSError, at once for a pipe that nobody reads: who
    waits for a reader holds up everybody's mail."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    descriptor = os.open(path, flags, 0o600)
    if sys.platform != "win32":
        os.set_blocking(descriptor, True)  # else a line that finds the pipe full would be lost
    return descriptor


class _Appended(io.RawIOBase):
    """The end of the file that has this name now."""

    def __init__(self, path: Path, *, renames: bool) -> None:
        self._path = path
        self._renames = renames
        self._descriptor = -1
        self._look_at = time.monotonic() + LOOK_SECONDS
        self._open()

    def writable(self) -> bool:
        """See io."""
        return True

    def write(self, data: object, /) -> int:
        """See io. Raises: OSError; the next write tries again, by name."""
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            self._look()
        if self._descriptor < 0:
            self._open()
        return os.write(self._descriptor, data)  # type: ignore[arg-type]  # what it takes, and no other class can name

    def close(self) -> None:
        """See io."""
        if not self.closed:
            super().close()
            self._leave()

    def _open(self) -> None:
        try:
            self._descriptor = opened(self._path)
        except FileNotFoundError:
            make_private(self._path.parent)
            self._descriptor = opened(self._path)

    def _leave(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with suppress(OSError):
                os.close(descriptor)

    def _look(self) -> None:
        """Whether the file is still ours, and small enough."""
        try:
            found = os.stat(self._path)
            is_ours = found.st_ino == os.fstat(self._descriptor).st_ino
        except OSError:
            is_ours = False
        if not is_ours:
            self._leave()
        elif self._renames and found.st_size >= LARGEST:
            self._leave()  # Windows renames no file that is open
            self._rename()

    def _rename(self) -> None:
        """Aside first: Windows renames no file that somebody reads; it grows on until it can be, and none is lost.
        Where an older one is read, the next ones wait behind it, and nothing takes their places."""
        names = [self._path.with_name(f"{self._path.name}.{number}") for number in range(KEPT + 1)]
        try:
            if not names[0].is_file():
                os.replace(self._path, names[0])
            free = next((number for number, name in enumerate(names) if not name.exists()), KEPT)
            for number in range(free, 0, -1):
                os.replace(names[number - 1], names[number])
        except OSError:
            return
