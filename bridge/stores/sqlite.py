"""The default store: one SQLite file, for any number of processes of one machine.

It uses Python's own sqlite3: SQLAlchemy, which stores.sql needs, takes a fifth of the program's memory and start time.
Every operation is one statement in its own transaction, so that compare-and-swap needs no lock and no second round
trip. The file is opened by the first operation and, if that fails, again by the next.

Leases are measured with SQLite's clock, which is the machine's. If it jumps, either way, a lease can end early; that
costs a second refresh, never a record, because compare-and-swap does not depend on the clock.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

from bridge.advice.said import as_said, said
from bridge.errors import BridgeError, StoreCorrupt, StoreFileUnusable, StoreUnavailable, VersionConflict
from bridge.files.directories import make_private
from bridge.files.existing import exists, is_directory, is_file
from bridge.files.replacing import once_nobody_holds_it
from bridge.observe.logs import detail
from bridge.stores.base import LONGEST_LEASE, NEW, SCHEMA_VERSION, Record, newer_format
from bridge.stores.sqlite_errors import BESIDE, SqliteErrors, code_of
from bridge.stores.worker import Worker

BUSY_LIMIT = 5.0
"""Seconds to wait for another writer. A write takes milliseconds; a mail client gives up after 30 to 60 s."""

WAL_PAUSE = 0.005
"""Seconds between two attempts to switch a new file to WAL; another process needs about as long to create the file."""

_OF_THE_CONNECTION = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_CANTOPEN})
"""Errors that stay with a connection, but that a new one may not have: SQLite opens a file read-only if it could not
open it for writing for lack of a descriptor, and calls the file damaged after a single failed read."""

TABLES = (
    # `value` is NULL once deleted: the version outlives it, so that a late writer that knew version 1 of the deleted
    # record cannot overwrite version 1 of the next one.
    "CREATE TABLE IF NOT EXISTS bridge_records (key TEXT NOT NULL PRIMARY KEY, value BLOB, version BIGINT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS bridge_leases "
    "(name TEXT NOT NULL PRIMARY KEY, holder TEXT NOT NULL, expires_at DOUBLE NOT NULL)",
    "CREATE TABLE IF NOT EXISTS bridge_schema (version INTEGER NOT NULL PRIMARY KEY)",
)

GET = "SELECT value, version FROM bridge_records WHERE key = ? AND value IS NOT NULL"
# The first version (NEW + 1), or the one that follows a deleted record's last.
INSERT = (
    "INSERT INTO bridge_records (key, value, version) VALUES (?, ?, 1) ON CONFLICT (key) DO UPDATE "
    "SET value = excluded.value, version = bridge_records.version + 1 WHERE bridge_records.value IS NULL "
    "RETURNING version"
)
UPDATE = (
    "UPDATE bridge_records SET value = ?, version = version + 1 WHERE key = ? AND version = ? AND value IS NOT NULL "
    "RETURNING version"
)
# Not LIKE, which ignores case and has wildcards; `>=` lets the index be used. Not ?1, which Python 3.12 before 3.12.4
# takes for a named placeholder, and warns about (gh-117995).
VERSIONS = (
    "SELECT key, version FROM bridge_records WHERE key >= ? AND substr(key, 1, length(?)) = ? AND value IS NOT NULL "
    "ORDER BY key"
)
# The julianday expression gives seconds since the epoch, now.
ACQUIRE = (
    "INSERT INTO bridge_leases (name, holder, expires_at) "
    "VALUES (?, ?, (julianday('now') - 2440587.5) * 86400.0 + ?) ON CONFLICT (name) DO UPDATE "
    "SET holder = excluded.holder, expires_at = excluded.expires_at WHERE bridge_leases.holder = excluded.holder "
    "OR bridge_leases.expires_at <= (julianday('now') - 2440587.5) * 86400.0 "
    "OR bridge_leases.expires_at > (julianday('now') - 2440587.5) * 86400.0 + ? RETURNING name"
)
RELEASE = "DELETE FROM bridge_leases WHERE name = ? AND holder = ?"

CopiesOnWrite = Callable[[Path], bool]
"""True if the file system is copy-on-write for this file: overwritten data gets a new place, as on btrfs. Blocks."""


class SqliteStore:
    """A Store in a file; safe to use from several processes."""

    def __init__(
        self, path: Path, *, busy_limit: float = BUSY_LIMIT, copies_on_write: CopiesOnWrite | None = None
    ) -> None:
        """Nothing is touched until the first operation."""
        self._file = path.absolute()
        self._place = as_said(str(self._file))
        self._errors = SqliteErrors(self._file, self._place, self._disconnect)
        self._busy_limit = busy_limit
        self._copies_on_write = copies_on_write
        self._identity: tuple[int, int] | None = None
        self._beside = self._file
        """The path that SQLite's own two files are named after: the file, or what it links to."""
        self._log_identity: tuple[int, int] | None = None
        """Device and inode of the log that we write to. Only the last user of the database removes the log, unless a
        person tidies up. Then SQLite goes on writing to the unlinked log, which is lost when the process ends; closing
        the connection moves its content into the file."""
        self._connection: sqlite3.Connection | None = None
        self._may_begin_anew = True
        """False once it has been open: if the file is missing then, its drive may merely be unmounted."""
        self._may_be_held = True
        """We may wait for whoever has the file open, which Windows tells as a lack of rights. False after an attempt
        that failed: if rights are lacking, not every login shall wait."""
        self._worker = Worker(self._place)

    async def get(self, key: str) -> Record | None:
        """The record, or None."""
        rows = await self._rows(GET, key)
        return Record(*rows[0]) if rows else None

    async def put(self, key: str, value: bytes, *, expected: int) -> int:
        """Write if the stored version still is `expected`; durable on return. Raises: VersionConflict."""
        if expected == NEW:
            return _changed(await self._rows(INSERT, key, value), key, expected)
        return _changed(await self._rows(UPDATE, value, key, expected), key, expected)

    async def delete(self, key: str, *, expected: int) -> None:
        """Remove if the stored version still is `expected`. Raises: VersionConflict."""
        _changed(await self._rows(UPDATE, None, key, expected), key, expected)

    async def keys(self, prefix: str) -> list[str]:
        """All keys with this prefix, sorted."""
        return list(await self.versions(prefix))

    async def versions(self, prefix: str) -> dict[str, int]:
        """The same keys, with the version of each record."""
        return dict(await self._rows(VERSIONS, prefix, prefix, prefix))

    async def acquire_lease(self, name: str, holder: str, seconds: float) -> bool:
        """Take or extend the named lease for `holder`; False while another holder's is running."""
        return bool(await self._rows(ACQUIRE, name, holder, seconds, LONGEST_LEASE))

    async def release_lease(self, name: str, holder: str) -> None:
        """Give it back; nothing happens if it is not ours."""
        await self._rows(RELEASE, name, holder)

    async def close(self) -> None:
        """Finish what is under way, then release file and thread."""
        await self._worker.close(self._disconnect)

    # --- in the worker's thread ---------------------------------------------------------------------------------

    async def _rows(self, statement: str, *values: object) -> list[Any]:
        return await self._worker.run(lambda: self._attempt(statement, values))

    def _attempt(self, statement: str, values: Sequence[object]) -> list[Any]:
        """The rows. Tried once more with a new connection, if that may succeed where this one cannot."""
        try:
            return self._connected(statement, values)
        except sqlite3.Error as error:
            if code_of(error) & 0xFF not in _OF_THE_CONNECTION:
                raise self._problem(error) from error
        self._disconnect()
        try:
            return self._connected(statement, values)
        except sqlite3.Error as error:
            raise self._problem(error) from error

    def _connected(self, statement: str, values: Sequence[object]) -> list[Any]:
        if self._connection is None:
            if not self._may_begin_anew:
                self._found()
            self._open()
        self._still_there()
        if self._log_identity is not None and self._identity_of_log() != self._log_identity:
            self._disconnect()
            self._open()
        return self._execute(statement, values)

    def _execute(self, statement: str, values: Sequence[object] = ()) -> list[Any]:
        assert self._connection is not None  # noqa: S101  _attempt has opened it
        with closing(self._connection.execute(statement, values)) as cursor:
            # Fetch all rows: SQLite commits at the step after the last one, and only then reports a full disk.
            return cursor.fetchall()

    def _open(self) -> None:
        """Create what is missing; refuse what a newer mail-bridge wrote."""
        self._create_file()
        # Autocommit: one statement is one transaction. Opened, used and closed in the worker's thread.
        self._connection = sqlite3.connect(self._file, timeout=self._busy_limit, isolation_level=None)
        try:
            self._set_up()
            self._log_identity = self._identity_of_log()  # None without a log, if the file system allows no WAL
        except BaseException:
            self._disconnect()
            raise
        self._may_begin_anew, self._may_be_held = False, True

    def _set_up(self) -> None:
        """Set journal and durability, and create the tables. FULL: a commit survives even a power cut."""
        # First: where another program has locked the file even for readers, this waits, and then no other statement
        # does. The change of journal would wait, go on without it, and the next statement would wait again.
        tables = {name for (name,) in self._execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if self._copies_on_write is not None and self._copies_on_write(self._file):
            self._do_without_index()
        else:
            self._have_wal()
        self._execute("PRAGMA synchronous = FULL")
        self._execute("PRAGMA fullfsync = ON")  # macOS: fsync(2) alone leaves it in the drive's own memory
        if "bridge_schema" not in tables:
            if tables:
                raise StoreCorrupt(
                    said("{store} belongs to another program; choose another `store.path`", store=self._place)
                )
            self._create_tables()
        ((version,),) = self._execute("SELECT max(version) FROM bridge_schema")
        if (version or SCHEMA_VERSION) > SCHEMA_VERSION:
            raise newer_format(self._place, version)

    def _do_without_index(self) -> None:
        """On a copy-on-write disk, use a journal that is not a WAL. A WAL's index is a file mapped into memory: if the
        full disk has no new place for an overwritten page, a write to that memory ends the process (SIGBUS). The price
        is that readers wait for the writer."""
        try:
            self._execute("PRAGMA journal_mode = TRUNCATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:  # another process has it open with a WAL
                raise

    def _have_wal(self) -> None:
        """Use a WAL, so that readers never wait for the writer."""
        until = time.monotonic() + self._busy_limit
        # The switch to WAL upgrades a read lock, for which SQLite does not wait: of two processes at once, one fails.
        while (error := self._change_to_wal()) is not None:
            if time.monotonic() > until:
                raise error
            time.sleep(WAL_PAUSE)

    def _change_to_wal(self) -> sqlite3.OperationalError | None:
        """None when done, or if the file system allows no WAL and the journal stays; otherwise the error to retry
        on."""
        try:
            self._execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            return error
        return None

    def _create_tables(self) -> None:
        """Create all or none: a failure here ends the connection, which rolls back. Two processes at once take
        turns."""
        self._execute("BEGIN IMMEDIATE")
        for table in TABLES:
            self._execute(table)
        if not self._execute("SELECT version FROM bridge_schema"):
            self._execute("INSERT INTO bridge_schema (version) VALUES (?)", (SCHEMA_VERSION,))
        self._execute("COMMIT")

    def _disconnect(self) -> None:
        if self._connection is not None:
            if _identity(self._file) != self._identity:
                self._take_log_along()
            self._connection.close()
            self._connection = None

    def _take_log_along(self) -> None:
        """Move the log into its own database file, which was deleted or replaced. SQLite goes by names alone: it would
        leave the log in place, and later replay it into whatever file has that name by then, even if no page of the log
        belongs to that file."""
        try:
            ((is_busy, *_),) = self._execute("PRAGMA wal_checkpoint(TRUNCATE)")
            if not is_busy and self._log_identity is not None and self._identity_of_log() == self._log_identity:
                for ending in BESIDE:  # a process that opens the new file must not write to the old file's log
                    os.unlink(f"{self._beside}{ending}")
        except (sqlite3.Error, OSError) as error:
            detail("store.log_stays", reason=type(error).__name__)

    def _identity_of_log(self) -> tuple[int, int] | None:
        return _identity(f"{self._beside}-wal")

    def _create_file(self) -> None:
        """Make the file private before SQLite opens it, because its -wal and -shm files inherit the mode."""
        try:
            make_private(self._file.parent)
            self._refuse_a_device()
            handle = self._made_or_read()
            try:
                status = os.fstat(handle)
                self._identity = (status.st_dev, status.st_ino)
                self._beside = _by_sqlite(self._file)
                if os.name == "posix" and status.st_mode & 0o077:
                    with suppress(PermissionError):  # a file that an admin owns: then its mode is the admin's choice
                        os.chmod(self._file, 0o600)
                self._let_write(status.st_mode)
            finally:
                os.close(handle)
        except OSError as error:
            raise self._errors.not_opened(error) from error

    def _refuse_a_device(self) -> None:
        """Refuse a pipe or a device, before it is opened or gets our mode: nobody else could use a /dev/null of ours.
        Raises: StoreFileUnusable; OSError."""
        if exists(self._file) and not is_file(self._file) and not is_directory(self._file):  # a directory is told below
            reason = said("{store} is a pipe or a device; the store must be an ordinary file", store=self._place)
            raise StoreFileUnusable(reason)

    def _let_write(self, mode: int) -> None:
        """Make SQLite's own two files writable if they were made while the file was read-only: nobody would think of
        looking there."""
        if os.name == "posix" and mode & stat.S_IWUSR:
            for ending in BESIDE:
                with suppress(OSError):  # not there, or somebody else's
                    name = f"{self._beside}{ending}"
                    theirs = stat.S_IMODE(os.stat(name).st_mode)
                    if not theirs & stat.S_IWUSR:
                        os.chmod(name, theirs | stat.S_IWUSR)

    def _made_or_read(self) -> int:
        """A descriptor of the file, which is created if it does not exist."""
        make = partial(os.open, self._file, os.O_RDWR | os.O_CREAT, 0o600)
        may_be_held, self._may_be_held = self._may_be_held, False
        try:
            return once_nobody_holds_it(make) if may_be_held else make()
        except PermissionError as refused:
            try:
                return os.open(self._file, os.O_RDONLY)  # readable at least; SQLite will say what it cannot do
            except FileNotFoundError:
                reason = said("{store} cannot be created: permission denied", store=self._place)
                raise StoreFileUnusable(reason) from refused

    def _still_there(self) -> None:
        """Raises: StoreUnavailable if the file was deleted or replaced. SQLite would go on writing to the deleted file
        silently, and the records would be lost with the process."""
        status = self._found()
        if (status.st_dev, status.st_ino) != self._identity:
            self._take_log_along()
            raise StoreUnavailable(
                said("{store} was replaced by another file; restart mail-bridge to use that one", store=self._place)
            )

    def _found(self) -> os.stat_result:
        """Raises: StoreUnavailable if the file is not there."""
        try:
            return os.stat(self._file)
        except (FileNotFoundError, NotADirectoryError) as error:
            if self._connection is not None:
                self._take_log_along()
            raise StoreUnavailable(
                said("{store} is gone; put it back, or restart mail-bridge to begin anew", store=self._place)
            ) from error
        except OSError as error:
            raise self._errors.not_opened(error) from error

    def _problem(self, error: sqlite3.Error) -> BridgeError:
        problem = self._errors.explained(error, self._beside)
        if isinstance(problem, StoreCorrupt):
            self._may_begin_anew = True
        return problem


def _by_sqlite(file: Path) -> Path:
    """The path as SQLite resolves it: it follows links on POSIX only."""
    return Path(os.path.realpath(file)) if os.name == "posix" else file


def _identity(file: Path | str) -> tuple[int, int] | None:
    """Device and inode of the file; None if there is no such file."""
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _changed(rows: Sequence[Any], key: str, expected: int) -> int:
    """The new version, from the row that the statement returns if it has changed one. Raises: VersionConflict."""
    if not rows:
        raise VersionConflict(f"{key}: version {expected} was expected, another is stored")
    version: int = rows[0][0]
    return version
