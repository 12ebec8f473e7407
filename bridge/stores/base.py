"""Store interface: sealed bytes by key, a version for compare-and-swap, leases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

NEW = 0
"""The expected version of a record that must not exist yet; the first stored version is 1."""


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

    async def acquire_lease(self, name: str, holder: str, seconds: float) -> bool:
        """Take or extend the named lease for `holder`; False while another holder's is running."""
        ...

    async def release_lease(self, name: str, holder: str) -> None:
        """Give it back; nothing happens if it is not ours."""
        ...

    async def close(self) -> None:
        """Release files, connections and threads."""
        ...
