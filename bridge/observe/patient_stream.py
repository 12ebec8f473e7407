"""Where log lines go, as long as somebody reads them there: unread lines are lost, but hold up nobody."""

from __future__ import annotations

import io
import os
import re
import select
import threading
from contextlib import suppress
from typing import TextIO


class PatientStream:
    """A stream that may be gone (a closed terminal or pipe, a full disk, pythonw, which has none) or that nobody reads
    (a terminal held with Ctrl-S, a pager, a journal that hangs). That costs log lines, but no session.
    """

    PATIENCE_SECONDS = 0.1
    """Waited once each time that reading stops, because the event loop stands still meanwhile."""
    SLICES = re.compile(r"(?s).{1,1000}")
    """Characters, up to four octets each: a pipe that is ready takes PIPE_BUF octets (4,096 on Linux) without blocking,
    pipe(7)."""
    TERMINAL_SLICES = re.compile(r"[^\n\r\t\b]{1,60}|[\n\r\t\b]")
    """The same for a terminal, which is ready as soon as it takes 256 octets (Linux, drivers/tty/tty_buffer.c). A slice
    may use up all of them, and then the end of a line, which the terminal writes separately (drivers/tty/n_tty.c),
    would block: so it is a slice of its own."""

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream
        self.lock = threading.RLock()
        """Held for a whole text: libraries write from threads of their own, and slices of two texts would mix."""
        self.lost = 0
        """Texts that were not, or not completely, written: nobody read, or there was no room."""
        self._is_stalled = False
        self._is_cut = False
        self._is_full = False
        """There is text in the buffer that could not be written."""
        self._is_busy = False
        """A text is being written. Where that is seen, a finaliser has a text of its own, in the middle of it."""
        buffer = getattr(stream, "buffer", None)
        self._buffer = buffer if isinstance(buffer, io.BufferedWriter) else None
        """None for a stream without a buffer: a StringIO, `python -u`."""
        self._descriptor: int | None = None
        if stream is not None:
            with suppress(OSError, ValueError):  # a stream in memory; a closed one
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
        """Write at once as much as can be written."""
        if self.stream is None:
            return
        with self.lock:
            if self._is_busy:
                self.lost += 1
                return
            self._is_busy = True
            try:
                self._write(self.stream, "\n" * self._is_cut + text)
            finally:
                self._is_busy = False

    def _write(self, stream: TextIO, text: str) -> None:
        if not self._is_taken():
            self._hold(stream, text)
            return
        pieces = self._slices(text)
        for number, piece in enumerate(pieces, 1):
            if not self.is_read():
                self._lose(is_cut=number > 1)
                return
            try:
                stream.write(piece)
                stream.flush()
            except (OSError, ValueError):  # ValueError: it was closed
                self._is_full = self._buffer is not None
                if not self._is_full or number < len(pieces):
                    self._lose(is_cut=self._is_full or number > 1)
                    return
        self._is_cut = False

    def takes_more(self) -> bool:
        """False if a write would have to wait, or if text that could not be written before still cannot be."""
        return not self._is_busy and self.is_read() and self._is_taken()

    def _is_taken(self) -> bool:
        """Try again to write what the stream has kept in its buffer: a disk may have room again. False if it fails."""
        if self._is_full and self.stream is not None:
            try:
                self.stream.flush()
            except (OSError, ValueError):
                return False
            self._is_full = False
        return True

    def _hold(self, stream: TextIO, text: str) -> None:
        """Keep the text in the stream's buffer while that has room: the first lines say what the trouble is. The buffer
        is written to directly, since it takes all or nothing; after an error of the text stream nobody can tell how
        much it has taken."""
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
        """For logging, which calls it; write() has flushed already."""

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
