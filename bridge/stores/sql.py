"""SQLAlchemy Core: SQLite by default (one file, one node), PostgreSQL for several nodes.

Every operation is one statement in its own transaction, so that compare-and-swap needs no lock and no second round
trip. The engine is synchronous and lives in one worker thread: the loop never waits for a disk. It is opened by the
first operation and, if that fails, again by the next: the bridge starts while the database is still away.

Leases are measured with the database's own clock: nodes whose clocks differ agree on who holds one. A wall clock that
jumps can end a lease early; that costs a second refresh, never a record, since compare-and-swap does not depend on it.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry

from bridge.advice.said import Said, as_said, said
from bridge.errors import BridgeError, ConfigError, StoreCorrupt, StoreUnavailable, VersionConflict
from bridge.secret import Secret
from bridge.stores.base import NEW, Record

SCHEMA_VERSION = 1
"""Goes up when a table changes in a way that an older mail-bridge must not touch."""

BUSY_LIMIT = 5.0
"""Seconds to wait for another writer. A write takes milliseconds; a mail client gives up after 30 to 60 s."""

ANSWER_LIMIT = 15.0
"""Seconds until a store counts as gone (hung network drive, silent server); above every limit within the database."""

WAL_PAUSE = 0.005
"""Seconds between two attempts to change a new file to WAL; another process needs about as long to create it."""

R = TypeVar("R")

_metadata = sa.MetaData()
# Code-point order everywhere: a PostgreSQL database usually sorts by language.
_Name = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_records = sa.Table(
    "bridge_records",
    _metadata,
    sa.Column("key", _Name, primary_key=True),
    # NULL once deleted: the version outlives the value, so that a late writer who knew version 1 of the record before
    # cannot overwrite version 1 of the record after.
    sa.Column("value", sa.LargeBinary),
    sa.Column("version", sa.BigInteger, nullable=False),
)
_leases = sa.Table(
    "bridge_leases",
    _metadata,
    sa.Column("name", _Name, primary_key=True),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("expires_at", sa.Double, nullable=False),
)
_schema = sa.Table("bridge_schema", _metadata, sa.Column("version", sa.Integer, primary_key=True))


@dataclass(frozen=True, slots=True)
class _Dialect:
    """What the two databases spell differently."""

    insert: Callable[[sa.Table], Any]
    """INSERT … ON CONFLICT, of the same shape in both."""
    now: sa.ColumnElement[float]
    """Seconds since the epoch by the database's clock, at this instant rather than at the transaction's start."""
    isolation: Any
    set_up_lock: str
    """Keeps two nodes from creating the tables at the same time; released by the commit."""


_DIALECTS = {
    "sqlite": _Dialect(
        sqlite.insert,
        sa.literal_column("((julianday('now') - 2440587.5) * 86400.0)", sa.Double),
        "SERIALIZABLE",
        "BEGIN IMMEDIATE",
    ),
    "postgresql": _Dialect(
        postgresql.insert,
        sa.literal_column("extract(epoch from clock_timestamp())::double precision", sa.Double),
        "READ COMMITTED",
        "SELECT pg_advisory_xact_lock(7233217)",  # any number that no other program is likely to use
    ),
}


class SqlStore:
    """A Store in a database; safe to use from several processes and, with PostgreSQL, several machines."""

    def __init__(self, url: sa.URL, *, place: Said, file: Path | None = None, busy_limit: float = BUSY_LIMIT) -> None:
        self._dialect = _DIALECTS[url.get_backend_name()]
        self._place = place
        self._file = file
        self._identity: tuple[int, int] | None = None
        self._is_open = False
        self._is_closed = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        arguments = _sqlite_arguments(busy_limit) if file is not None else _postgresql_arguments(url)
        # AUTOCOMMIT: one statement is one transaction. hide_parameters: values stay out of exception texts.
        self._engine = sa.create_engine(
            url, isolation_level="AUTOCOMMIT", hide_parameters=True, pool_size=1, max_overflow=0, **arguments
        )
        sa.event.listen(self._engine, "connect", _sqlite_set_up(busy_limit) if file is not None else _on_postgresql)

    @classmethod
    def in_file(cls, path: Path, *, busy_limit: float = BUSY_LIMIT) -> SqlStore:
        """Records in one SQLite file; nothing is touched until the first operation."""
        path = path.absolute()
        url = sa.URL.create("sqlite", database=str(path))
        return cls(url, place=as_said(str(path)), file=path, busy_limit=busy_limit)

    @classmethod
    def at_url(cls, url: Secret[str]) -> SqlStore:
        """Records behind a SQLAlchemy URL. Raises: ConfigError for one that cannot be used."""
        try:
            parsed = sa.make_url(url.reveal())
        except (ArgumentError, ValueError):  # the latter with what stands for a port in its text: part of a password
            raise ConfigError(
                [said("store.url: is not a URL such as {example}", example="postgresql+psycopg://user@host/database")]
            ) from None
        backend = parsed.get_backend_name()
        if backend == "sqlite" and parsed.database and parsed.database != ":memory:":
            return cls.in_file(Path(parsed.database))
        if backend != "postgresql":
            sentence = said(
                "store.url: {backend} is not supported; use postgresql+psycopg, or `path` for a file", backend=backend
            )
            raise ConfigError([sentence])
        place = (
            said("the database {name} at {host}", name=parsed.database, host=parsed.host)
            if parsed.host
            else said("the database {name} at this machine", name=parsed.database)
        )
        try:
            return cls(parsed.set(drivername="postgresql+psycopg"), place=place)
        except ImportError as error:
            command = "pip install 'mail-bridge[postgresql]'"
            raise ConfigError([said("store.url: PostgreSQL needs `{command}`", command=command)]) from error

    async def get(self, key: str) -> Record | None:
        """The record, or None."""
        query = sa.select(_records.c.value, _records.c.version).where(_records.c.key == key, _is_stored())
        row = await self._run(lambda connection: connection.execute(query).first())
        return None if row is None else Record(bytes(row.value), row.version)

    async def put(self, key: str, value: bytes, *, expected: int) -> int:
        """Write if the stored version still is `expected`; durable on return. Raises: VersionConflict."""
        statement = self._insert(key, value) if expected == NEW else _update(key, expected, value)
        return await self._compare_and_swap(key, expected, statement)

    async def delete(self, key: str, *, expected: int) -> None:
        """Remove if the stored version still is `expected`. Raises: VersionConflict."""
        await self._compare_and_swap(key, expected, _update(key, expected, None))

    async def keys(self, prefix: str) -> list[str]:
        """All keys with this prefix, sorted."""
        key = _records.c.key
        # Not LIKE, which ignores case in SQLite and knows wildcards; `>=` is for the index.
        begins = sa.func.substr(key, 1, sa.func.length(prefix)) == prefix
        query = sa.select(key).where(key >= prefix, begins, _is_stored()).order_by(key)
        return await self._run(lambda connection: list(connection.execute(query).scalars()))

    async def acquire_lease(self, name: str, holder: str, seconds: float) -> bool:
        """Take or extend the named lease for `holder`; False while another holder's is running."""
        now = self._dialect.now
        insert = self._dialect.insert(_leases).values(name=name, holder=holder, expires_at=now + seconds)
        statement = insert.on_conflict_do_update(
            index_elements=[_leases.c.name],
            set_={"holder": insert.excluded.holder, "expires_at": insert.excluded.expires_at},
            where=sa.or_(_leases.c.holder == insert.excluded.holder, _leases.c.expires_at <= now),
        ).returning(_leases.c.name)
        return bool(await self._run(lambda connection: connection.execute(statement).all()))

    async def release_lease(self, name: str, holder: str) -> None:
        """Give it back; nothing happens if it is not ours."""
        statement = sa.delete(_leases).where(_leases.c.name == name, _leases.c.holder == holder)
        await self._run(lambda connection: connection.execute(statement).rowcount)

    async def close(self) -> None:
        """Finish what is under way, then release file, connections and thread."""
        if not self._is_closed:
            self._is_closed = True
            self._thread.submit(self._engine.dispose)
            # Not this loop's executor: a database that hangs must not keep the loop from closing.
            waiter = threading.Thread(target=self._thread.shutdown, daemon=True)
            waiter.start()
            await asyncio.to_thread(waiter.join, ANSWER_LIMIT)

    def _insert(self, key: str, value: bytes) -> Any:
        """A first version, or the next one behind a deleted record's last."""
        insert = self._dialect.insert(_records).values(key=key, value=value, version=NEW + 1)
        return insert.on_conflict_do_update(
            index_elements=[_records.c.key],
            set_={"value": insert.excluded.value, "version": _records.c.version + 1},
            where=_records.c.value.is_(None),
        ).returning(_records.c.version)

    async def _compare_and_swap(self, key: str, expected: int, statement: Any) -> int:
        """The new version, from the row that the statement gives if it changed one."""
        # all(), not first(): SQLite commits with the step behind the last row, and only then is a full disk known.
        versions = await self._run(lambda connection: connection.execute(statement).scalars().all())
        if not versions:
            raise VersionConflict(f"{key}: version {expected} was expected, another is stored")
        return cast(int, versions[0])

    async def _run(self, operation: Callable[[sa.Connection], R]) -> R:
        """Carry out one operation in the worker thread, opening the database first if need be."""
        if self._is_closed:
            raise StoreUnavailable(said("{store} has been closed", store=self._place))
        done = asyncio.get_running_loop().run_in_executor(self._thread, self._attempt, operation)
        try:
            return await asyncio.wait_for(done, ANSWER_LIMIT)
        except TimeoutError as error:
            raise StoreUnavailable(
                said("{store} has not answered for {seconds} s", store=self._place, seconds=f"{ANSWER_LIMIT:g}")
            ) from error

    def _attempt(self, operation: Callable[[sa.Connection], R]) -> R:
        try:
            if not self._is_open:
                self._open()
            self._still_there()
            with self._engine.connect() as connection:
                return operation(connection)
        except PoolTimeout as error:
            raise StoreUnavailable(said("{store} has no free connection", store=self._place)) from error
        except DBAPIError as error:
            raise (self._sqlite_problem(error) if self._file else self._postgresql_problem(error)) from error
        except SQLAlchemyError as error:
            raise StoreUnavailable(
                said("{store} cannot be used: {reason}", store=self._place, reason=type(error).__name__)
            ) from error

    def _open(self) -> None:
        """Create what is missing; refuse what a newer mail-bridge wrote."""
        if self._file is not None:
            self._create_file(self._file)
        with self._engine.connect() as connection:
            tables = set(sa.inspect(connection).get_table_names())
        if _schema.name not in tables:
            if self._file is not None and tables:
                raise StoreCorrupt(
                    said("{store} belongs to another program; choose another `store.path`", store=self._place)
                )
            self._create_tables()
        with self._engine.connect() as connection:
            version = connection.execute(sa.select(sa.func.max(_schema.c.version))).scalar() or SCHEMA_VERSION
        if version > SCHEMA_VERSION:
            raise StoreCorrupt(
                said(
                    "{store} was written by a newer mail-bridge (format {theirs}; this one knows {ours}); install that "
                    "version again",
                    store=self._place,
                    theirs=version,
                    ours=SCHEMA_VERSION,
                )
            )
        self._is_open = True

    def _create_tables(self) -> None:
        with self._engine.connect().execution_options(isolation_level=self._dialect.isolation) as connection:
            connection.exec_driver_sql(self._dialect.set_up_lock)
            _metadata.create_all(connection)
            if connection.execute(sa.select(_schema.c.version)).first() is None:
                connection.execute(sa.insert(_schema).values(version=SCHEMA_VERSION))
            connection.commit()

    def _create_file(self, file: Path) -> None:
        """Make the file ours alone before SQLite sees it; its -wal and -shm files inherit the mode."""
        try:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
            except PermissionError:
                handle = os.open(file, os.O_RDONLY)  # it can be read, and SQLite says what cannot be done with it
        except FileNotFoundError as error:
            raise StoreUnavailable(said("{store} cannot be created: permission denied", store=self._place)) from error
        except OSError as error:
            raise StoreUnavailable(
                said("{store} cannot be opened: {reason}", store=self._place, reason=error.strerror)
            ) from error
        try:
            status = os.fstat(handle)
            self._identity = (status.st_dev, status.st_ino)
            if os.name == "posix" and status.st_mode & 0o077:
                with suppress(PermissionError):  # an admin's file, in which case its mode is the admin's too
                    os.chmod(file, 0o600)
        finally:
            os.close(handle)

    def _still_there(self) -> None:
        """SQLite goes on writing into a deleted file without a word, and the records end with the process."""
        if self._file is None:
            return
        try:
            status = os.stat(self._file)
        except OSError as error:
            raise StoreUnavailable(
                said("{store} is gone; put it back, or restart to begin anew", store=self._place)
            ) from error
        if (status.st_dev, status.st_ino) != self._identity:
            raise StoreUnavailable(
                said("{store} was replaced by another file; restart to use that one", store=self._place)
            )

    def _sqlite_problem(self, error: DBAPIError) -> BridgeError:
        """By SQLite's primary result code (https://sqlite.org/rescode.html)."""
        code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
        if code == 26:
            return StoreCorrupt(
                said("{store} is not a database; move it away or choose another `store.path`", store=self._place)
            )
        if code == 11:
            return StoreCorrupt(
                said("{store} is damaged; bring back a copy, or move it away to begin anew", store=self._place)
            )
        store = self._place
        match code:
            case 5 | 6:
                reason = said("{store} is locked by another program", store=store)
            case 8:
                reason = said("{store} cannot be written: it is read-only", store=store)
            case 10:
                reason = said("{store} cannot be read or written: the disk reports an error", store=store)
            case 13:
                reason = said("{store} cannot be written: the disk is full", store=store)
            case 14:
                reason = said("{store} cannot be opened: a directory is missing, or permission is denied", store=store)
            case 15:
                reason = said("{store} cannot be locked; keep it on a local disk, not on a network drive", store=store)
            case _:
                reason = said("{store} does not work (SQLite error {code})", store=store, code=code)
        return StoreUnavailable(reason)

    def _postgresql_problem(self, error: DBAPIError) -> BridgeError:
        """By SQLSTATE (PostgreSQL's manual, appendix A); without one the connection itself failed."""
        state = str(getattr(error.orig, "sqlstate", None) or "")
        if state.startswith("XX00") and state != "XX000":
            return StoreCorrupt(said("{store} is damaged, its server says", store=self._place))
        store = self._place
        known = {
            "": said("{store} does not answer", store=store),
            "25006": said("{store} is read-only (a standby server?)", store=store),
            "28000": said("{store} refuses our user", store=store),
            "28P01": said("{store} refuses our user or password", store=store),
            "3D000": said("{store} does not exist", store=store),
            "42501": said(
                "{store} does not grant us its tables; GRANT the right to create and write them", store=store
            ),
            "53100": said("{store} cannot be written: its disk is full", store=store),
            "55P03": said("{store} is locked by another program", store=store),
            "57014": said("{store} takes too long to answer", store=store),
        }
        return StoreUnavailable(
            known.get(state) or said("{store} does not work (SQLSTATE {state})", store=store, state=state)
        )


def _is_stored() -> sa.ColumnElement[bool]:
    return _records.c.value.is_not(None)


def _update(key: str, expected: int, value: bytes | None) -> Any:
    """Compare and swap in one statement; gives no row if the comparison fails."""
    return (
        sa.update(_records)
        .where(_records.c.key == key, _records.c.version == expected, _is_stored())
        .values(value=value, version=_records.c.version + 1)
        .returning(_records.c.version)
    )


def _sqlite_arguments(busy_limit: float) -> dict[str, Any]:
    return {"poolclass": sa.QueuePool, "connect_args": {"timeout": busy_limit}}


def _postgresql_arguments(url: sa.URL) -> dict[str, Any]:
    """Time limits, since a server that vanishes says nothing; what the URL says itself wins."""
    limits = {
        "connect_timeout": int(BUSY_LIMIT),
        "tcp_user_timeout": int(BUSY_LIMIT * 1000),
        "keepalives_idle": 30,  # a firewall forgets a quiet connection after minutes
        "application_name": "mail-bridge",
        "client_encoding": "utf8",  # that of the database may be SQL_ASCII, where psycopg gives bytes for text
    }
    # pre_ping: a restarted server costs one more round trip, not a failed login.
    return {
        "pool_pre_ping": True,
        "connect_args": {name: value for name, value in limits.items() if name not in url.query},
    }


def _sqlite_set_up(busy_limit: float) -> Callable[[Any, ConnectionPoolEntry], None]:
    """WAL: readers never wait for the writer. FULL: a commit is on the disk, also after a power cut."""

    def set_up(connection: Any, entry: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        until = time.monotonic() + busy_limit
        # The change to WAL upgrades a read lock, for which SQLite waits not at all: two that begin together would fail.
        while (error := _change_to_wal(cursor)) is not None:
            if time.monotonic() > until:
                raise error
            time.sleep(WAL_PAUSE)
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.close()

    return set_up


def _change_to_wal(cursor: Any) -> sqlite3.OperationalError | None:
    """None when done, or when the file system cannot do it and keeps the journal it has; the error to try again."""
    try:
        cursor.execute("PRAGMA journal_mode = WAL").fetchall()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            raise
        return error
    return None


def _on_postgresql(connection: Any, entry: ConnectionPoolEntry) -> None:
    """A commit is on the disk even where the server's default is not to wait; nothing waits for ever."""
    cursor = connection.cursor()
    cursor.execute(
        "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
    )
    limit = int(BUSY_LIMIT * 1000)
    cursor.execute(f"SELECT set_config('statement_timeout', '{limit}', false)")
    cursor.close()
    connection.commit()
