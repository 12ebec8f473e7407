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
"""Version of a database's tables; raised when they change so that an older mail-bridge must not touch them."""

LONGEST_LEASE = 60.0
"""Seconds; no lease is taken for longer. If a lease has more left, the clock was set back since. It is ignored, because
its holder may have died, and it would block everybody until the clock has caught up."""

TRIAL = "trial/"
"""Prefix of the name of a lease that is only a try: under the account's own name it would hold a refresh up."""
TRIAL_SECONDS = 5.0
"""Until a trial lease that could not be released ends by itself."""


@dataclass(frozen=True, slots=True)
class Record:
    """The stored bytes and their version."""

    value: bytes
    version: int


class Store(Protocol):
    """Durable records. When put() returns, the bytes survive a crash of the process and of the machine.

    Keys are short ASCII paths (`grant/alice@example.com`). Every method raises StoreUnavailable when the storage does
    not answer (locked, full, read-only, gone).
    """

    async def get(self, key: str) -> Record | None:
        """The record, or None."""

    async def put(self, key: str, value: bytes, *, expected: int) -> int:
        """Write if the stored version still is `expected` (NEW for a record that must not exist).

        Returns: the new version. Raises: VersionConflict when somebody else was quicker.
        """

    async def delete(self, key: str, *, expected: int) -> None:
        """Remove if the stored version still is `expected`. Raises: VersionConflict."""

    async def keys(self, prefix: str) -> list[str]:
        """All keys with this prefix, sorted."""

    async def versions(self, prefix: str) -> dict[str, int]:
        """The same keys, with the version of each record, so that changes can be seen without reading the records."""

    async def acquire_lease(self, name: str, holder: str, seconds: float) -> bool:
        """Take or extend the named lease for `holder`; False while another holder has it.

        Args: seconds, at most LONGEST_LEASE.
        """

    async def release_lease(self, name: str, holder: str) -> None:
        """Release the lease; nothing happens if it is not this holder's."""

    async def close(self) -> None:
        """Release files, connections and threads."""


async def try_writing(store: Store, name: str) -> None:
    """Find out whether the store can be written, by taking and releasing a lease: a full or read-only store can still
    be read.

    Args: name, what the trial is for; of two trials for the same name, one write is enough. Raises: StoreUnavailable.
    """
    trial, holder = TRIAL + name, secrets.token_hex(8)
    if await store.acquire_lease(trial, holder, TRIAL_SECONDS):  # otherwise another trial has just been written
        await store.release_lease(trial, holder)


def key_of(prefix: str, address: str) -> str:
    """The key of an account's record. Keys are ASCII; an address need not be (RFC 6531)."""
    return prefix + quote(address, safe="@+")


def address_in(prefix: str, key: str) -> str:
    """The address that key_of() was given."""
    return unquote(key.removeprefix(prefix))


def newer_format(place: Said, theirs: int) -> StoreCorrupt:
    """The error to raise for a database whose SCHEMA_VERSION is above ours; `place` names it in sentences."""
    return StoreCorrupt(
        said(
            "{store} was written by a newer mail-bridge (format {theirs}; this one knows {ours}); install that "
            "version again",
            store=place,
            theirs=theirs,
            ours=SCHEMA_VERSION,
        )
    )
