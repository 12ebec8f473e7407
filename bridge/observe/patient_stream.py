"""Where log lines go, as long as somebody reads there: what nobody reads is lost, and holds up nobody."""

from __future__ import annotations

import io
import os
import re
import select
import threading
from contextlib import suppress
from typing import TextIO


class PatientStream:
    """A stream that may be gone, a closed terminal or pipe, a full disk, pythonw without any, or that nobody reads: a
    terminal held with Ctrl-S, a pager, a journal that hangs. That costs lines, and no session.
    """

    PATIENCE_SECONDS = 0.1
    """Once for each time that nobody reads: the loop stands still as long."""
    SLICES = re.compile(r"(?s).{1,1000}")
    """Characters, up to four octets each: what is ready takes PIPE_BUF (4,096 on Linux) without blocking, pipe(7)."""
    TERMINAL_SLICES = re.compile(r"[^\n\r\t\b]{1,60}|[\n\r\t\b]")
    """The same for a terminal, which is ready as soon as it takes 256 octets (Linux, drivers/tty/tty_buffer.c). All of
    them may go to what comes first: the end of a line, which it writes by itself (drivers/tty/n_tty.c), would wait."""

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream
        self.lock = threading.RLock()
        """Held for a whole text: libraries write from threads of their own, and slices of two texts would mix."""
        self.lost = 0
        """Texts that were not written, or not to their end: nobody read, or there was no room."""
        self._is_stalled = False
        self._is_cut = False
        self._is_full = False
        """Something is in the buffer, since it could not be written."""
        buffer = getattr(stream, "buffer", None)
        self._buffer = buffer if isinstance(buffer, io.BufferedWriter) else None
        """None for a stream that keeps nothing: a text of StringIO's, `python -u`."""
        self._descriptor: int | None = None
        if stream is not None:
            with suppress(OSError, ValueError):  # a stream of Python's own; closed
                self._descriptor = stream.fileno()
        self._slices = (self.TERMINAL_SLICES if os.name == "posix" and self.is_terminal else self.SLICES).findall

    @property
    def is_terminal(self) -> bool:
        """True where colours are shown."""
        with suppress(OSError, ValueError):
            return self.stream is not None and self.stream.isatty()
        return False

    @property
    def is_journal(self) -> bool:
        """True where systemd's journal reads it: JOURNAL_STREAM says which stream that is (systemd.exec(5))."""
        if self._descriptor is None:
            return False
        found = os.fstat(self._descriptor)
        return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"

    def write(self, text: str) -> None:
        """At once, as far as that goes."""
        if self.stream is None:
            return
        with self.lock:
            text = "\n" * self._is_cut + text
            if not self._is_taken():
                self._hold(self.stream, text)
                return
            pieces = self._slices(text)
            for number, piece in enumerate(pieces, 1):
                if not self.is_read():
                    self._lose(is_cut=number > 1)
                    return
                try:
                    self.stream.write(piece)
                    self.stream.flush()
                except (OSError, ValueError):  # ValueError: it was closed
                    self._is_full = self._buffer is not None
                    if not self._is_full or number < len(pieces):
                        self._lose(is_cut=self._is_full or number > 1)
                        return
            self._is_cut = False

    def takes_more(self) -> bool:
        """False if a write would have to wait, or what could not be written before still cannot be."""
        return self.is_read() and self._is_taken()

    def _is_taken(self) -> bool:
        """What the stream has kept for itself when it could not be written: a disk may have room again."""
        if self._is_full and self.stream is not None:
            try:
                self.stream.flush()
            except (OSError, ValueError):
                return False
            self._is_full = False
        return True

    def _hold(self, stream: TextIO, text: str) -> None:
        """In the stream's buffer, while that has room: the first lines say what the trouble is. By the buffer's own
        method, which takes all or nothing; after an error of the stream's nobody can tell what it has taken."""
        assert self._buffer is not None  # noqa: S101  nothing is kept without one
        try:
            self._buffer.write(text.replace("\n", os.linesep).encode(stream.encoding, stream.errors or "strict"))
        except (OSError, ValueError):
            self._lose(is_cut=False)
        else:
            self._is_cut = False

    def _lose(self, *, is_cut: bool) -> None:
        self.lost += 1
        self._is_cut = self._is_cut or is_cut

    def flush(self) -> None:
        """As logging wants it: write() has done so."""

    def is_read(self) -> bool:
        """False if a write would have to wait. True also where the system cannot tell: Windows, for all but sockets."""
        if self._descriptor is None:
            return True
        patience = 0 if self._is_stalled else self.PATIENCE_SECONDS
        try:
            self._is_stalled = not select.select([], [self._descriptor], [], patience)[1]
        except (OSError, ValueError):
            self._descriptor = None
            return True
        return not self._is_stalled
