"""Explains errors of SQLite: which sentence, and whether it may pass; looks at the file where SQLite does not tell."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from bridge.advice.said import Said, as_said, said
from bridge.advice.system import system_reason
from bridge.errors import BridgeError, StoreCorrupt, StoreFileUnusable, StoreUnavailable
from bridge.shortage import may_pass
from bridge.stores.disk import is_never_mapped, takes_no_file, takes_no_lock, why_unwritten

BESIDE = ("-wal", "-shm")
"""Endings of SQLite's own two files, the write-ahead log and its index. They get the mode that the file has when they
are made."""

_WRITING = frozenset(
    {
        sqlite3.SQLITE_IOERR_WRITE,
        sqlite3.SQLITE_IOERR_FSYNC,
        sqlite3.SQLITE_IOERR_DIR_FSYNC,
        sqlite3.SQLITE_IOERR_TRUNCATE,
        sqlite3.SQLITE_IOERR_SHMSIZE,
    }
)
"""Errors of the disk that a full one, or one that is read-only by now, may be behind: only a plain write to a full one
is told as SQLITE_FULL by SQLite itself."""


class SqliteErrors:
    """Makes our errors of SQLite's and the system's, for one database."""

    def __init__(self, file: Path, place: Said, disconnect: Callable[[], None]) -> None:
        """`disconnect` is called before a look into the database's files: closing any descriptor of a file releases
        all of a process's POSIX locks on it, SQLite's among them."""
        self._file = file
        self._place = place
        self._disconnect = disconnect

    def not_opened(self, error: OSError, file: Said | None = None) -> StoreUnavailable:
        """Our error where the system does not open the store, or this file of it."""
        kind = StoreUnavailable if may_pass(error) else StoreFileUnusable
        return kind(said("{store} cannot be opened: {reason}", store=file or self._place, reason=system_reason(error)))

    def explained(self, error: sqlite3.Error, beside: Path) -> BridgeError:
        """Our error, by SQLite's primary result code (https://sqlite.org/rescode.html).

        `beside` is the path that SQLite's own two files are named after.
        """
        extended = code_of(error)
        number = self._why_unwritten(extended, beside)
        code = sqlite3.SQLITE_FULL if number else extended & 0xFF
        store = self._place
        match code:
            case sqlite3.SQLITE_FULL if number == errno.EDQUOT:
                return StoreUnavailable(
                    said("{store} cannot be written: the quota of its disk is used up", store=store)
                )
            case sqlite3.SQLITE_FULL if number == errno.EROFS:
                return StoreUnavailable(
                    said(
                        "{store} cannot be written: the system has made its disk read-only, as it does with a disk "
                        "that reports errors",
                        store=store,
                    )
                )
            case sqlite3.SQLITE_NOTADB:
                return StoreCorrupt(
                    said("{store} is not a database; move it away or choose another `store.path`", store=store)
                )
            case sqlite3.SQLITE_CORRUPT if self._can_be_read():
                return StoreCorrupt(
                    said("{store} is damaged; restore a copy, or move it away to begin anew", store=store)
                )
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_IOERR | sqlite3.SQLITE_PERM if self._takes_no_lock():
                return StoreUnavailable(self._not_locked())  # the drive's lock service may not be up yet
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                return StoreUnavailable(said("{store} is locked by another program", store=store))
            case sqlite3.SQLITE_IOERR if extended == sqlite3.SQLITE_IOERR_SHMMAP and self._maps_nothing(beside):
                reason = said(
                    "{store} is on a drive that cannot map files into memory, such as some shared folders; keep it on "
                    "a local disk",
                    store=store,
                )
            case sqlite3.SQLITE_IOERR | sqlite3.SQLITE_CORRUPT:
                return StoreUnavailable(
                    said("{store} cannot be read or written: the disk reports an error", store=store)
                )
            case sqlite3.SQLITE_FULL:
                return StoreUnavailable(said("{store} cannot be written: the disk is full", store=store))
            case sqlite3.SQLITE_READONLY:
                refused = self._refused(beside)
                reason = said("{store} cannot be written: it is read-only", store=refused[0] if refused else store)
            case sqlite3.SQLITE_CANTOPEN if (refused := self._refused(beside)) is not None:
                return self.not_opened(refused[1], refused[0])
            case sqlite3.SQLITE_CANTOPEN:
                reason = said("{store} cannot be opened: a directory is missing, or permission is denied", store=store)
            case sqlite3.SQLITE_PROTOCOL:
                reason = self._not_locked()
            case _:
                reason = said("{store} does not work (SQLite error {code})", store=store, code=code)
        return StoreFileUnusable(reason)

    def _not_locked(self) -> Said:
        return said("{store} cannot be locked; keep it on a local disk, not on a network drive", store=self._place)

    def _takes_no_lock(self) -> bool:
        """True if the disk refuses every lock, whoever else has the file."""
        self._disconnect()
        with suppress(OSError):
            return takes_no_lock(self._file)
        return False

    def _can_be_read(self) -> bool:
        """False if the disk fails to return the whole file, which SQLite also reports as damage."""
        self._disconnect()
        try:
            with self._file.open("rb") as file:
                while file.read(1024 * 1024):
                    pass
        except OSError:
            return False
        return True

    def _refused(self, beside: Path) -> tuple[Said, OSError] | None:
        """Which of SQLite's files cannot be opened now, and why, since SQLite does not tell.

        All are opened at once, as SQLite does: there may be a descriptor for one of them, but not for the next.
        """
        self._disconnect()
        with ExitStack() as opened:
            for name in (str(self._file), *(f"{beside}{ending}" for ending in BESIDE)):
                try:
                    opened.callback(os.close, _opened(name))
                except OSError as error:
                    # For a reason that may pass, such as no free descriptor, name the store and not this file.
                    return (self._place if may_pass(error) else as_said(name)), error
        return None

    def _maps_nothing(self, beside: Path) -> bool:
        """True if the disk does not allow the log's index to be mapped into memory; False if only memory is short."""
        self._disconnect()
        with suppress(OSError):
            return is_never_mapped(Path(f"{beside}-shm"))
        return False

    def _why_unwritten(self, extended: int, beside: Path) -> int:
        """The system's number for it, if want of room, or a disk that is read-only by now, is what SQLite calls an
        error of the disk, or a file that cannot be opened; else 0."""
        try:
            if extended & 0xFF == sqlite3.SQLITE_CANTOPEN and takes_no_file(beside.parent):
                return errno.ENOSPC
            if extended in _WRITING or extended & 0xFF == sqlite3.SQLITE_CANTOPEN:
                return why_unwritten(self._file)
        except OSError:
            pass
        return 0


def code_of(error: sqlite3.Error) -> int:
    """SQLite's extended result code; 0 for errors that Python's module raises by itself."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code


def _opened(name: str) -> int:
    """A descriptor of the file; of /dev/null if the file does not exist yet."""
    try:
        return os.open(name, os.O_RDWR)
    except FileNotFoundError:
        return os.open(os.devnull, os.O_RDWR)
