"""Opens the store that the configuration names, with the seal around it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bridge.config.schema import StoreConfig
from bridge.config.store_url import POSTGRESQL, SQLITE, scheme_of
from bridge.secret import Secret
from bridge.stores.base import Store
from bridge.stores.keys import open_key
from bridge.stores.sealed import SealedStore
from bridge.stores.sqlite import CopiesOnWrite, SqliteStore


def _sqlite(url: Secret[str], copies_on_write: CopiesOnWrite | None) -> Store:
    from sqlalchemy import make_url  # late: see _postgresql

    return SqliteStore(Path(make_url(url.reveal()).database or ""), copies_on_write=copies_on_write)


def _postgresql(url: Secret[str], _: CopiesOnWrite | None) -> Store:
    from bridge.stores.sql import SqlStore  # late: a fifth of the program's memory, and few use PostgreSQL

    return SqlStore.at_url(url)


STORES: dict[str, Callable[[Secret[str], CopiesOnWrite | None], Store]] = {SQLITE: _sqlite, POSTGRESQL: _postgresql}
"""By the scheme of `store.url`; these are all that the configuration accepts."""


def open_store(config: StoreConfig, *, default_path: Path, copies_on_write: CopiesOnWrite | None = None) -> SealedStore:
    """The configured store, sealed. Touches neither disk, database nor keyring until the first operation or check()."""

    async def key(has_records: bool) -> Secret[bytes]:
        return await open_key(config, has_records=has_records)

    if config.url is not None:
        return SealedStore(STORES[scheme_of(config.url)](config.url, copies_on_write), key)
    file = Path(config.path).expanduser() if config.path else default_path
    return SealedStore(SqliteStore(file, copies_on_write=copies_on_write), key)
