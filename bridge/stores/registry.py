"""Which store the configuration means: name to factory, and the seal around it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bridge.advice.said import said
from bridge.config.schema import StoreConfig
from bridge.errors import ConfigError
from bridge.secret import Secret
from bridge.stores.base import Store
from bridge.stores.keys import open_key
from bridge.stores.sealed import SealedStore
from bridge.stores.sqlite import SqliteStore


def _by_sqlalchemy(url: Secret[str]) -> Store:
    from bridge.stores.sql import SqlStore  # late: a fifth of the program's memory, and few have such a URL

    return SqlStore.at_url(url)


STORES: dict[str, Callable[[Secret[str]], Store]] = {"sqlite": _by_sqlalchemy, "postgresql": _by_sqlalchemy}
"""By the scheme of `store.url`, without its driver."""


def open_store(config: StoreConfig, *, default_path: Path) -> SealedStore:
    """The configured store, sealed. Touches neither disk, database nor keyring until the first operation or check().

    Raises: ConfigError for a URL that cannot be used.
    """

    async def key(has_records: bool) -> Secret[bytes]:
        return await open_key(config, has_records=has_records)

    return SealedStore(plain_store(config, default_path=default_path), key)


def plain_store(config: StoreConfig, *, default_path: Path) -> Store:
    """The configured store without its seal. Raises: ConfigError."""
    if config.url is None:
        return SqliteStore(Path(config.path).expanduser() if config.path else default_path)
    scheme = config.url.reveal().partition(":")[0].partition("+")[0]
    if scheme not in STORES:
        known = ", ".join(sorted(STORES))
        raise ConfigError(
            [said("store.url: no store named {scheme}; there are: {known}", scheme=repr(scheme), known=known)]
        )
    return STORES[scheme](config.url)
