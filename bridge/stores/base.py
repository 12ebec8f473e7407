"""Store interface: sealed bytes by key, a version for compare-and-swap, leases."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote, unquote

from bridge.advice.said import Said, said
from bridge.errors import StoreCorrupt

NEW = 0
"""The expected version of a record that must not exist yet; the first stored version is 1."""

SCHEMA_VERSION = 1
"""Of a database's tables; goes up when one changes in a way that an older mail-bridge must not touch."""

LONGEST_LEASE = 60.0
"""Seconds; nobody takes a lease for longer. One of which more is left was taken before the clock was set back, and
whoever held it may have died since: it would stand in everybody's way until the clock is there again."""

TRIAL = "trial/"
"""Prefix of the name of a lease that is only a try: under the account's own name it would hold a refresh up."""
TRIAL_SECONDS = 5.0
"""Until one that could not be taken back ends by itself."""


@dataclass(frozen=True, slots=True)
class Record:
    """Bytes and the version that they have."""

    value: bytes
    version: int


class Store(Protocol):
    """Durable records. When put() returns, the bytes survive a crash of the process and of the machine.

    Keys are short ASCII paths (`grant/alice@example.com`). Every method raises StoreUnavailable when the storage does
    not answer (locked, full, read-only, gone).
    """

    async def get(self, key: str) -> Record | None:
        """The record, or None."""
        ...

    async def put(self, key: str, value: bytes, *, expected: int) -> int:
        """Write if the stored version still is `expected` (NEW for a record that must not exist).

        Returns: the new version. Raises: VersionConflict when somebody else was quicker.
        """
        ...

    async def delete(self, key: str, *, expected: int) -> None:
        """Remove if the stored version still is `expected`. Raises: VersionConflict."""
        ...

    async def keys(self, prefix: str) -> list[str]:
        """All keys with this prefix, sorted."""
        ...

    async def versions(self, prefix: str) -> dict[str, int]:
        """The same keys, with the version of each record: what has changed can be seen without reading it."""
        ...

    async def acquire_lease(self, name: str, holder: str, seconds: float) -> bool:
        """Take or extend the named lease for `holder`; False while another holder's is running.

        Args: seconds, at most LONGEST_LEASE.
        """
        ...

    async def release_lease(self, name: str, holder: str) -> None:
        """Give it back; nothing happens if it is not ours."""
        ...

    async def close(self) -> None:
        """Release files, connections and threads."""
        ...


async def try_writing(store: Store, name: str) -> None:
    """Write something and take it back: a store that is full or read-only can still be read.

    Args: name, of what it is about; two that are about the same need not both write. Raises: StoreUnavailable.
    """
    trial, holder = TRIAL + name, secrets.token_hex(8)
    if await store.acquire_lease(trial, holder, TRIAL_SECONDS):  # else somebody else's has just been written
        await store.release_lease(trial, holder)


def key_of(prefix: str, address: str) -> str:
    """Where what is kept of an account is. Keys are ASCII; an address may not be (RFC 6531)."""
    return prefix + quote(address, safe="@+")


def address_in(prefix: str, key: str) -> str:
    """The address that key_of() was given."""
    return unquote(key.removeprefix(prefix))


def newer_format(place: Said, theirs: int) -> StoreCorrupt:
    """What to raise for a database whose SCHEMA_VERSION is above ours; `place` stands for it in sentences."""
    return StoreCorrupt(
        said(
            "{store} was written by a newer mail-bridge (format {theirs}; this one knows {ours}); install that "
            "version again",
            store=place,
            theirs=theirs,
            ours=SCHEMA_VERSION,
        )
    )
