"""A store in memory: the reference that every store is compared with, and the demo's store."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.clock import Clock, SystemClock
from bridge.errors import VersionConflict
from bridge.stores.base import LONGEST_LEASE, NEW, Record


@dataclass(frozen=True, slots=True)
class _Lease:
    holder: str
    expires_at: float


class MemoryStore:
    """A Store that ends with the process; no method waits, so that each is one atomic step."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._records: dict[str, tuple[bytes | None, int]] = {}
        self._leases: dict[str, _Lease] = {}

    async def get(self, key: str) -> Record | None:
        """The record, or None."""
        value, version = self._records.get(key, (None, NEW))
        return None if value is None else Record(value, version)

    async def put(self, key: str, value: bytes, *, expected: int) -> int:
        """Write if the stored version still is `expected`. Raises: VersionConflict."""
        version = self._versioned(key, expected) + 1
        self._records[key] = (bytes(value), version)
        return version

    async def delete(self, key: str, *, expected: int) -> None:
        """Remove if the stored version still is `expected`. Raises: VersionConflict.

        The version outlives the value: if it started again, a late writer that knew version 1 of the deleted record
        could overwrite version 1 of the next one.
        """
        if expected == NEW:
            raise VersionConflict(f"{key}: there is nothing to delete at version {NEW}")
        self._records[key] = (None, self._versioned(key, expected) + 1)

    async def keys(self, prefix: str) -> list[str]:
        """All keys with this prefix, sorted."""
        return list(await self.versions(prefix))

    async def versions(self, prefix: str) -> dict[str, int]:
        """The same keys, with the version of each record."""
        found = sorted((key, version) for key, (value, version) in self._records.items() if value is not None)
        return {key: version for key, version in found if key.startswith(prefix)}

    async def acquire_lease(self, name: str, holder: str, seconds: float) -> bool:
        """Take or extend the named lease for `holder`; False while another holder's is running."""
        now = self._clock.monotonic()
        running = self._leases.get(name)
        if running is not None and running.holder != holder and now < running.expires_at <= now + LONGEST_LEASE:
            return False
        self._leases[name] = _Lease(holder, now + seconds)
        return True

    async def release_lease(self, name: str, holder: str) -> None:
        """Give it back; nothing happens if it is not ours."""
        running = self._leases.get(name)
        if running is not None and running.holder == holder:
            del self._leases[name]

    async def close(self) -> None:
        """Nothing to release."""

    def _versioned(self, key: str, expected: int) -> int:
        """The stored version, if the caller may write. Raises: VersionConflict."""
        value, version = self._records.get(key, (None, NEW))
        if expected != (NEW if value is None else version):
            raise VersionConflict(f"{key}: version {expected} was expected, {version} is stored")
        return version
