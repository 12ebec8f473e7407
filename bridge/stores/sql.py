"""The store in PostgreSQL, for several nodes, by SQLAlchemy Core. A single machine uses a file: stores.sqlite.

Every operation is one statement in its own transaction, so that compare-and-swap needs no lock and no second round
trip. The engine is synchronous and lives in one worker thread. It is opened by the first operation and, if that fails,
again by the next, so that the bridge can start before the database.

Leases are measured with the database's own clock, so that nodes whose clocks differ agree on who holds one. If that
clock jumps, either way, a lease can end early; that costs a second refresh, never a record, because compare-and-swap
does not depend on the clock.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry

from bridge.advice.said import Said, said
from bridge.errors import BridgeError, StoreCorrupt, StoreUnavailable, VersionConflict
from bridge.secret import Secret
from bridge.stores.base import LONGEST_LEASE, NEW, SCHEMA_VERSION, Record, Store, newer_format
from bridge.stores.worker import Worker

BUSY_LIMIT = 5.0
"""Seconds to wait for the server, and for another writer; a mail client gives up after 30 to 60 s."""

R = TypeVar("R")

_metadata = sa.MetaData()
# The C collation sorts by code point; a database's default usually sorts by language.
_Name = sa.Text(collation="C")
_records = sa.Table(
    "bridge_records",
    _metadata,
    sa.Column("key", _Name, primary_key=True),
    # NULL once deleted: the version outlives the value, so that a late writer that knew version 1 of the deleted record
    # cannot overwrite version 1 of the next one.
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

_NOW = sa.literal_column("extract(epoch from clock_timestamp())::double precision", sa.Double)
"""Seconds since the epoch by the database's clock, at this instant rather than at the transaction's start."""
_SET_UP_LOCK = "SELECT pg_advisory_xact_lock(7233217)"
"""Keeps two nodes from creating the tables at the same time; released by the commit. The number is arbitrary, and
unlikely to be used by another program."""


class SqlStore:
    """A Store in a database; safe to use from several processes and machines."""

    def __init__(self, url: sa.URL, *, place: Said) -> None:
        self._place = place
        self._is_open = False
        self._worker = Worker(place)
        # AUTOCOMMIT: one statement is one transaction. hide_parameters: values stay out of exception texts.
        self._engine = sa.create_engine(
            url, isolation_level="AUTOCOMMIT", hide_parameters=True, pool_size=1, max_overflow=0, **_arguments(url)
        )
        sa.event.listen(self._engine, "connect", _on_connect)

    @classmethod
    def at_url(cls, url: Secret[str]) -> Store:
        """The store at a PostgreSQL URL, in SQLAlchemy's form, that the configuration has accepted."""
        parsed = sa.make_url(url.reveal()).set(drivername="postgresql+psycopg")
        hosts = _hosts(parsed)
        place = (
            said("the database {name} at {host}", name=parsed.database, host=hosts)
            if hosts
            else said("the database {name} at this machine", name=parsed.database)
        )
        return cls(parsed, place=place)

    async def get(self, key: str) -> Record | None:
        """The record, or None."""
        query = sa.select(_records.c.value, _records.c.version).where(_records.c.key == key, _is_stored())
        row = await self._run(lambda connection: connection.execute(query).first())
        return None if row is None else Record(bytes(row.value), row.version)

    async def put(self, key: str, value: bytes, *, expected: int) -> int:
        """Write if the stored version still is `expected`; durable on return. Raises: VersionConflict."""
        statement = _insert(key, value) if expected == NEW else _update(key, expected, value)
        return await self._compare_and_swap(key, expected, statement)

    async def delete(self, key: str, *, expected: int) -> None:
        """Remove if the stored version still is `expected`. Raises: VersionConflict."""
        await self._compare_and_swap(key, expected, _update(key, expected, None))

    async def keys(self, prefix: str) -> list[str]:
        """All keys with this prefix, sorted."""
        return list(await self.versions(prefix))

    async def versions(self, prefix: str) -> dict[str, int]:
        """The same keys, with the version of each record."""
        key = _records.c.key
        # Not LIKE, which has wildcards; `>=` lets the index be used.
        begins = sa.func.substr(key, 1, sa.func.length(prefix)) == prefix
        query = sa.select(key, _records.c.version).where(key >= prefix, begins, _is_stored()).order_by(key)
        rows = await self._run(lambda connection: connection.execute(query).all())
        return {row.key: row.version for row in rows}

    async def acquire_lease(self, name: str, holder: str, seconds: float) -> bool:
        """Take or extend the named lease for `holder`; False while another holder's is running."""
        insert = postgresql.insert(_leases).values(name=name, holder=holder, expires_at=_NOW + seconds)
        statement = insert.on_conflict_do_update(
            index_elements=[_leases.c.name],
            set_={"holder": insert.excluded.holder, "expires_at": insert.excluded.expires_at},
            where=sa.or_(
                _leases.c.holder == insert.excluded.holder,
                _leases.c.expires_at <= _NOW,
                _leases.c.expires_at > _NOW + LONGEST_LEASE,
            ),
        ).returning(_leases.c.name)
        return bool(await self._run(lambda connection: connection.execute(statement).all()))

    async def release_lease(self, name: str, holder: str) -> None:
        """Give it back; nothing happens if it is not ours."""
        statement = sa.delete(_leases).where(_leases.c.name == name, _leases.c.holder == holder)
        await self._run(lambda connection: connection.execute(statement).rowcount)

    async def close(self) -> None:
        """Finish what is under way, then release connections and thread."""
        await self._worker.close(self._engine.dispose)

    async def _compare_and_swap(self, key: str, expected: int, statement: Any) -> int:
        """The new version, from the row that the statement returns if it has changed one."""
        version: int | None = await self._run(lambda connection: connection.execute(statement).scalar())
        if version is None:
            raise VersionConflict(f"{key}: version {expected} was expected, another is stored")
        return version

    async def _run(self, operation: Callable[[sa.Connection], R]) -> R:
        """Carry out one operation in the worker thread, opening the database first if need be."""
        return await self._worker.run(lambda: self._attempt(operation))

    def _attempt(self, operation: Callable[[sa.Connection], R]) -> R:
        try:
            if not self._is_open:
                self._open()
            with self._engine.connect() as connection:
                return operation(connection)
        except PoolTimeout as error:
            raise StoreUnavailable(said("{store} has no free connection", store=self._place)) from error
        except DBAPIError as error:
            # Some problems last as long as the session, such as a read-only one, even if the server has changed since.
            self._engine.dispose()
            raise self._problem(error) from error
        except SQLAlchemyError as error:
            raise StoreUnavailable(
                said("{store} cannot be used: {reason}", store=self._place, reason=type(error).__name__)
            ) from error

    def _open(self) -> None:
        """Create what is missing; refuse what a newer mail-bridge wrote."""
        with self._engine.connect() as connection:
            tables = set(sa.inspect(connection).get_table_names())
        if _schema.name not in tables:
            self._create_tables()
        with self._engine.connect() as connection:
            version = connection.execute(sa.select(sa.func.max(_schema.c.version))).scalar() or SCHEMA_VERSION
        if version > SCHEMA_VERSION:
            raise newer_format(self._place, version)
        self._is_open = True

    def _create_tables(self) -> None:
        with self._engine.connect().execution_options(isolation_level="READ COMMITTED") as connection:
            connection.exec_driver_sql(_SET_UP_LOCK)
            _metadata.create_all(connection)
            if connection.execute(sa.select(_schema.c.version)).first() is None:
                connection.execute(sa.insert(_schema).values(version=SCHEMA_VERSION))
            connection.commit()

    def _problem(self, error: DBAPIError) -> BridgeError:
        """By SQLSTATE (PostgreSQL's manual, appendix A); without one the connection itself failed."""
        state = str(getattr(error.orig, "sqlstate", None) or "")
        if not state:
            return StoreUnavailable(_no_connection(self._place, str(error.orig)))
        if state.startswith("XX00") and state != "XX000":
            return StoreCorrupt(said("{store} is damaged, its server says", store=self._place))
        store = self._place
        ended = said(
            "{store} does not answer: its server is restarting, or an administrator has ended the connection",
            store=store,
        )
        known = {
            "25006": _read_only(store),
            "42P01": said(
                "{store} has lost its tables; restore a copy, or restart mail-bridge to begin anew", store=store
            ),
            "42501": said(
                "{store} does not let mail-bridge use its tables; GRANT the right to create and write them", store=store
            ),
            "53100": said("{store} cannot be written: its disk is full", store=store),
            "55P03": said("{store} is locked by another program", store=store),
            "57014": said("{store} takes too long to answer", store=store),
            "57P01": ended,
            "57P02": ended,
            "57P03": said("{store} does not answer yet: its server is starting or stopping", store=store),
        }
        return StoreUnavailable(known.get(state) or _in_its_words(store, error.orig, state))


def _in_its_words(store: Said, error: BaseException | None, state: str) -> Said:
    """The message alone, because what follows it, such as DETAIL, may quote a record."""
    words = str(getattr(getattr(error, "diag", None), "message_primary", None) or "").partition("\n")[0][:200]
    if not words:
        return said("{store} does not work (SQLSTATE {state})", store=store, state=state)
    return said(
        "{store} does not work; its server says: {words} (SQLSTATE {state})", store=store, words=words, state=state
    )


def _no_connection(store: Said, text: str) -> Said:
    """For a failed connection libpq gives no SQLSTATE, only a text. After FATAL come the server's own words, in its own
    language; what stands before is the client's, and may hold a piece of the URL."""
    if refused := re.search(r"FATAL:\s+([^\n]{1,200})", text):
        return said("{store} refuses the connection; it says: {words}", store=store, words=refused[1])
    if re.search(r"session is read-only|server is in hot standby mode", text):  # `target_session_attrs=read-write`
        return _read_only(store)
    if re.search(r"failed to resolve host|could not (?:translate host name|parse network address)", text):
        return said("{store} cannot be found (DNS): there is no network, or the name is wrong", store=store)
    if re.search(r"\binvalid (?:connection option|\w+ value)|\bbad value for", text):
        return said(
            "{store} cannot be used: its URL has an option, or the value of one, that PostgreSQL does not know",
            store=store,
        )
    if re.search(r"\bSSL\b", text):
        return said("{store} cannot be reached with the TLS that `sslmode` requires", store=store)
    return said("{store} does not answer", store=store)


def _read_only(store: Said) -> Said:
    return said("{store} is read-only (a standby server?)", store=store)


def _hosts(url: sa.URL) -> str:
    """The hosts in the URL; several are given as parameters, as SQLAlchemy wants. Empty for a Unix socket."""
    named = url.query.get("host", ())
    several = [named] if isinstance(named, str) else named
    return url.host or ", ".join(host for host in several if not host.startswith(("/", "@")))


def _is_stored() -> sa.ColumnElement[bool]:
    return _records.c.value.is_not(None)


def _insert(key: str, value: bytes) -> Any:
    """Inserts the first version, or the one that follows a deleted record's last."""
    insert = postgresql.insert(_records).values(key=key, value=value, version=NEW + 1)
    return insert.on_conflict_do_update(
        index_elements=[_records.c.key],
        set_={"value": insert.excluded.value, "version": _records.c.version + 1},
        where=_records.c.value.is_(None),
    ).returning(_records.c.version)


def _update(key: str, expected: int, value: bytes | None) -> Any:
    """Compare and swap in one statement; returns no row if the comparison fails."""
    return (
        sa.update(_records)
        .where(_records.c.key == key, _records.c.version == expected, _is_stored())
        .values(value=value, version=_records.c.version + 1)
        .returning(_records.c.version)
    )


def _arguments(url: sa.URL) -> dict[str, Any]:
    """Time limits, because a server that vanishes says nothing; the URL's own parameters take precedence."""
    limits = {
        "connect_timeout": int(BUSY_LIMIT),
        "tcp_user_timeout": int(BUSY_LIMIT * 1000),
        "keepalives_idle": 30,  # a firewall forgets a quiet connection after minutes
        "application_name": "mail-bridge",
        "client_encoding": "utf8",  # the database's own may be SQL_ASCII, for which psycopg returns bytes for text
    }
    given = {name: value for name, value in limits.items() if name not in url.query}
    # pre_ping: a restarted server costs one more round trip, not a failed login. No prepared statements: through
    # PgBouncer the next statement may reach another server session, which does not know them.
    return {"pool_pre_ping": True, "connect_args": {**given, "prepare_threshold": None}}


def _on_connect(connection: Any, entry: ConnectionPoolEntry) -> None:
    """Make each commit wait for the disk, even if that is not the server's default, and limit every statement's
    time."""
    cursor = connection.cursor()
    cursor.execute(
        "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
    )
    limit = int(BUSY_LIMIT * 1000)
    cursor.execute(f"SELECT set_config('statement_timeout', '{limit}', false)")
    cursor.close()
    connection.commit()
