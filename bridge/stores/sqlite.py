"""The default store: one SQLite file, for any number of processes of one machine.

By Python's own sqlite3: SQLAlchemy, which stores.sql needs, is a fifth of the program's memory and of its start.
Every operation is one statement in its own transaction, so that compare-and-swap needs no lock and no second round
trip. The file is opened by the first operation and, if that fails, again by the next.

Leases are measured with SQLite's clock, which is the machine's. One that jumps, either way, can end a lease early; that
costs a second refresh, never a record, since compare-and-swap does not depend on it.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

from bridge.advice.said import Said, as_said, said
from bridge.advice.system import system_reason
from bridge.errors import BridgeError, StoreCorrupt, StoreFileUnusable, StoreUnavailable, VersionConflict
from bridge.making import make_private
from bridge.observe.logs import detail
from bridge.shortage import may_pass
from bridge.stores.base import LONGEST_LEASE, NEW, SCHEMA_VERSION, Record, newer_format
from bridge.stores.disk import is_never_mapped, takes_no_file, why_unwritten
from bridge.stores.worker import Worker

BUSY_LIMIT = 5.0
"""Seconds to wait for another writer. A write takes milliseconds; a mail client gives up after 30 to 60 s."""

WAL_PAUSE = 0.005
"""Seconds between two attempts to change a new file to WAL; another process needs about as long to create it."""

_OF_THE_CONNECTION = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_CANTOPEN})
"""What a new connection may not meet, and the old one always: SQLite opens a file for reading alone if there was no
descriptor to open it for writing, and calls damaged what the disk has failed to give it once."""

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

TABLES = (
    # `value` is NULL once deleted: the version outlives it, so that a late writer who knew version 1 of the record
    # before cannot overwrite version 1 of the record after.
    "CREATE TABLE IF NOT EXISTS bridge_records (key TEXT NOT NULL PRIMARY KEY, value BLOB, version BIGINT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS bridge_leases "
    "(name TEXT NOT NULL PRIMARY KEY, holder TEXT NOT NULL, expires_at DOUBLE NOT NULL)",
    "CREATE TABLE IF NOT EXISTS bridge_schema (version INTEGER NOT NULL PRIMARY KEY)",
)

GET = "SELECT value, version FROM bridge_records WHERE key = ? AND value IS NOT NULL"
# A first version (NEW + 1), or the next one behind a deleted record's last.
INSERT = (
    "INSERT INTO bridge_records (key, value, version) VALUES (?, ?, 1) ON CONFLICT (key) DO UPDATE "
    "SET value = excluded.value, version = bridge_records.version + 1 WHERE bridge_records.value IS NULL "
    "RETURNING version"
)
UPDATE = (
    "UPDATE bridge_records SET value = ?, version = version + 1 WHERE key = ? AND version = ? AND value IS NOT NULL "
    "RETURNING version"
)
# Not LIKE, which ignores case and knows wildcards; `>=` is for the index. Not ?1, which Python 3.12 before 3.12.4 takes
# for a name, and warns of (gh-117995).
VERSIONS = (
    "SELECT key, version FROM bridge_records WHERE key >= ? AND substr(key, 1, length(?)) = ? AND value IS NOT NULL "
    "ORDER BY key"
)
# julianday: seconds since the epoch, at this instant.
ACQUIRE = (
    "INSERT INTO bridge_leases (name, holder, expires_at) "
    "VALUES (?, ?, (julianday('now') - 2440587.5) * 86400.0 + ?) ON CONFLICT (name) DO UPDATE "
    "SET holder = excluded.holder, expires_at = excluded.expires_at WHERE bridge_leases.holder = excluded.holder "
    "OR bridge_leases.expires_at <= (julianday('now') - 2440587.5) * 86400.0 "
    "OR bridge_leases.expires_at > (julianday('now') - 2440587.5) * 86400.0 + ? RETURNING name"
)
RELEASE = "DELETE FROM bridge_leases WHERE name = ? AND holder = ?"

_BESIDE = ("-wal", "-shm")
"""Behind the file's name: SQLite's own, the log and its index. Made with the mode that the file has just then."""

CopiesOnWrite = Callable[[Path], bool]
"""Whether what is written over in this file gets a new place on the disk, as on btrfs. Blocks."""


class SqliteStore:
    """A Store in a file; safe to use from several processes."""

    def __init__(
        self, path: Path, *, busy_limit: float = BUSY_LIMIT, copies_on_write: CopiesOnWrite | None = None
    ) -> None:
        """Nothing is touched until the first operation."""
        self._file = path.absolute()
        self._place = as_said(str(self._file))
        self._busy_limit = busy_limit
        self._copies_on_write = copies_on_write
        self._identity: tuple[int, int] | None = None
        self._beside = self._file
        """What SQLite's own two files are named by; nothing but the file, unless its name is a link."""
        self._log_identity: tuple[int, int] | None = None
        """Of the log that we write to. Nobody but SQLite's last user removes it, unless somebody tidies up: then SQLite
        goes on writing into what has no name any more, and all of it ends with the process. Closing moves it into the
        file."""
        self._connection: sqlite3.Connection | None = None
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
        """The rows; asked for once more where a new connection may do what this one cannot."""
        try:
            return self._connected(statement, values)
        except sqlite3.Error as error:
            if _code(error) & 0xFF not in _OF_THE_CONNECTION:
                raise self._problem(error) from error
        self._disconnect()
        try:
            return self._connected(statement, values)
        except sqlite3.Error as error:
            raise self._problem(error) from error

    def _connected(self, statement: str, values: Sequence[object]) -> list[Any]:
        if self._connection is None:
            self._open()
        self._still_there()
        if self._log_identity is not None and self._identity_of_log() != self._log_identity:
            self._disconnect()
            self._open()
        return self._execute(statement, values)

    def _execute(self, statement: str, values: Sequence[object] = ()) -> list[Any]:
        assert self._connection is not None  # noqa: S101  _attempt has opened it
        with closing(self._connection.execute(statement, values)) as cursor:
            # All rows: SQLite commits with the step behind the last, and only then is a full disk known.
            return cursor.fetchall()

    def _open(self) -> None:
        """Create what is missing; refuse what a newer mail-bridge wrote."""
        self._create_file()
        # Autocommit: one statement is one transaction. Opened and used in the worker's thread, closed there too.
        self._connection = sqlite3.connect(self._file, timeout=self._busy_limit, isolation_level=None)
        try:
            self._set_up()
            self._log_identity = self._identity_of_log()  # None where the file system cannot do it
        except BaseException:
            self._disconnect()
            raise

    def _set_up(self) -> None:
        """FULL: a commit is on the disk, also after a power cut."""
        if self._copies_on_write is not None and self._copies_on_write(self._file):
            self._do_without_index()
        else:
            self._have_wal()
        self._execute("PRAGMA synchronous = FULL")
        self._execute("PRAGMA fullfsync = ON")  # macOS: fsync(2) alone leaves it in the drive's own memory
        tables = {name for (name,) in self._execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
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
        """A journal that is no WAL has no index in memory, which is a file's: where a full disk has no new place for
        what is written over, writing to that memory ends the process (SIGBUS). Readers wait for the writer here."""
        try:
            self._execute("PRAGMA journal_mode = TRUNCATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:  # another process has it open with a WAL
                raise

    def _have_wal(self) -> None:
        """Readers never wait for the writer."""
        until = time.monotonic() + self._busy_limit
        # The change to WAL upgrades a read lock, for which SQLite waits not at all: two that begin together would fail.
        while (error := self._change_to_wal()) is not None:
            if time.monotonic() > until:
                raise error
            time.sleep(WAL_PAUSE)

    def _change_to_wal(self) -> sqlite3.OperationalError | None:
        """None when done, or when the file system cannot do it and keeps the journal it has; the error to try again."""
        try:
            self._execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            return error
        return None

    def _create_tables(self) -> None:
        """All or none, since what fails here ends the connection; two processes that begin together take turns."""
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
        """Into the file that it is of, which has lost its name. SQLite goes by names alone: it leaves the log where it
        is, and would read it into whatever has that name by then, even if no page of it is of that file."""
        try:
            ((is_busy, *_),) = self._execute("PRAGMA wal_checkpoint(TRUNCATE)")
            if not is_busy and self._log_identity is not None and self._identity_of_log() == self._log_identity:
                for ending in _BESIDE:  # whoever opens the new file meanwhile must not write to the old one's log
                    os.unlink(f"{self._beside}{ending}")
        except (sqlite3.Error, OSError) as error:
            detail("store.log_stays", reason=type(error).__name__)

    def _identity_of_log(self) -> tuple[int, int] | None:
        return _identity(f"{self._beside}-wal")

    def _create_file(self) -> None:
        """Make the file ours alone before SQLite sees it; its -wal and -shm files inherit the mode."""
        try:
            make_private(self._file.parent)
            handle = self._made_or_read()
            try:
                status = os.fstat(handle)
                self._identity = (status.st_dev, status.st_ino)
                self._beside = _by_sqlite(self._file)
                if os.name == "posix" and status.st_mode & 0o077:
                    with suppress(PermissionError):  # an admin's file, in which case its mode is the admin's too
                        os.chmod(self._file, 0o600)
                self._let_write(status.st_mode)
            finally:
                os.close(handle)
        except OSError as error:
            raise self._not_opened(error) from error

    def _let_write(self, mode: int) -> None:
        """SQLite's own two files, where it made them while the file was read-only: nobody would look for it there."""
        if os.name == "posix" and mode & stat.S_IWUSR:
            for ending in _BESIDE:
                with suppress(OSError):  # not there, or somebody else's
                    name = f"{self._beside}{ending}"
                    theirs = stat.S_IMODE(os.stat(name).st_mode)
                    if not theirs & stat.S_IWUSR:
                        os.chmod(name, theirs | stat.S_IWUSR)

    def _not_opened(self, error: OSError, file: Said | None = None) -> StoreUnavailable:
        kind = StoreUnavailable if may_pass(error) else StoreFileUnusable
        return kind(said("{store} cannot be opened: {reason}", store=file or self._place, reason=system_reason(error)))

    def _made_or_read(self) -> int:
        """A descriptor of the file, made if it is not there."""
        try:
            return os.open(self._file, os.O_RDWR | os.O_CREAT, 0o600)
        except PermissionError as refused:
            try:
                return os.open(self._file, os.O_RDONLY)  # it can be read, and SQLite says what cannot be done with it
            except FileNotFoundError:
                reason = said("{store} cannot be created: permission denied", store=self._place)
                raise StoreFileUnusable(reason) from refused

    def _still_there(self) -> None:
        """SQLite goes on writing into a deleted file without a word, and the records end with the process."""
        try:
            status = os.stat(self._file)
        except (FileNotFoundError, NotADirectoryError) as error:
            self._take_log_along()
            raise StoreUnavailable(
                said("{store} is gone; put it back, or restart to begin anew", store=self._place)
            ) from error
        except OSError as error:
            raise self._not_opened(error) from error
        if (status.st_dev, status.st_ino) != self._identity:
            self._take_log_along()
            raise StoreUnavailable(
                said("{store} was replaced by another file; restart to use that one", store=self._place)
            )

    def _problem(self, error: sqlite3.Error) -> BridgeError:
        """By SQLite's primary result code (https://sqlite.org/rescode.html)."""
        extended = _code(error)
        number = self._why_unwritten(extended)
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
                        "{store} cannot be written: its disk has become read-only, as the system makes one that "
                        "reports errors",
                        store=store,
                    )
                )
            case sqlite3.SQLITE_NOTADB:
                return StoreCorrupt(
                    said("{store} is not a database; move it away or choose another `store.path`", store=store)
                )
            case sqlite3.SQLITE_CORRUPT if self._can_be_read():
                return StoreCorrupt(
                    said("{store} is damaged; bring back a copy, or move it away to begin anew", store=store)
                )
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                return StoreUnavailable(said("{store} is locked by another program", store=store))
            case sqlite3.SQLITE_IOERR if extended == sqlite3.SQLITE_IOERR_SHMMAP and self._maps_nothing():
                reason = said(
                    "{store} is on a drive that maps no file into memory, such as some shared folders; keep it on a "
                    "local disk",
                    store=store,
                )
            case sqlite3.SQLITE_IOERR | sqlite3.SQLITE_CORRUPT:
                return StoreUnavailable(
                    said("{store} cannot be read or written: the disk reports an error", store=store)
                )
            case sqlite3.SQLITE_FULL:
                return StoreUnavailable(said("{store} cannot be written: the disk is full", store=store))
            case sqlite3.SQLITE_READONLY:
                refused = self._refused()
                reason = said("{store} cannot be written: it is read-only", store=refused[0] if refused else store)
            case sqlite3.SQLITE_CANTOPEN if (refused := self._refused()) is not None:
                return self._not_opened(refused[1], refused[0])
            case sqlite3.SQLITE_CANTOPEN:
                reason = said("{store} cannot be opened: a directory is missing, or permission is denied", store=store)
            case sqlite3.SQLITE_PROTOCOL:
                reason = said("{store} cannot be locked; keep it on a local disk, not on a network drive", store=store)
            case _:
                reason = said("{store} does not work (SQLite error {code})", store=store, code=code)
        return StoreFileUnusable(reason)

    def _can_be_read(self) -> bool:
        """False where the disk gives no whole file: SQLite calls that damaged, too."""
        self._disconnect()  # POSIX takes all of a process's locks with the first descriptor that it closes
        try:
            with self._file.open("rb") as file:
                while file.read(1024 * 1024):
                    pass
        except OSError:
            return False
        return True

    def _refused(self) -> tuple[Said, OSError] | None:
        """Which of the files is not opened just now, and why: SQLite does not tell.

        All at once, as SQLite has them: there may be a descriptor for one of them, and not for the next.
        """
        self._disconnect()
        with ExitStack() as opened:
            for name in (str(self._file), *(f"{self._beside}{ending}" for ending in _BESIDE)):
                try:
                    opened.callback(os.close, _opened(name))
                except OSError as error:
                    # Without a descriptor for it, which passes, it is the store as a whole that is not opened.
                    return (self._place if may_pass(error) else as_said(name)), error
        return None

    def _maps_nothing(self) -> bool:
        """True if the disk has no place in memory for the log's index, and not the memory none for one more."""
        self._disconnect()  # see _can_be_read()
        with suppress(OSError):
            return is_never_mapped(Path(f"{self._beside}-shm"))
        return False

    def _why_unwritten(self, extended: int) -> int:
        """The system's number for it, if want of room, or a disk that is read-only by now, is what SQLite calls an
        error of the disk, or a file that cannot be opened; else 0."""
        try:
            if extended & 0xFF == sqlite3.SQLITE_CANTOPEN and takes_no_file(self._beside.parent):
                return errno.ENOSPC
            if extended in _WRITING or extended & 0xFF == sqlite3.SQLITE_CANTOPEN:
                return why_unwritten(self._file)
        except OSError:
            pass
        return 0


def _by_sqlite(file: Path) -> Path:
    """Links are followed on POSIX, and only there."""
    return Path(os.path.realpath(file)) if os.name == "posix" else file


def _opened(name: str) -> int:
    """A descriptor; of nothing where the file is yet to be made."""
    try:
        return os.open(name, os.O_RDWR)
    except FileNotFoundError:
        return os.open(os.devnull, os.O_RDWR)


def _code(error: sqlite3.Error) -> int:
    """SQLite's own, extended; 0 for what Python's module says by itself."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code


def _identity(file: Path | str) -> tuple[int, int] | None:
    """None where there is no such file."""
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _changed(rows: Sequence[Any], key: str, expected: int) -> int:
    """The new version, from the row that the statement gives if it changed one. Raises: VersionConflict."""
    if not rows:
        raise VersionConflict(f"{key}: version {expected} was expected, another is stored")
    version: int = rows[0][0]
    return version
