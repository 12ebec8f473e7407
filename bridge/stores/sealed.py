"""Authenticated encryption around any Store; a record that cannot be opened is never overwritten unasked.

A sealed record: one byte of format, four bytes of key id, a random nonce of 96 bits, then AES-256-GCM ciphertext and
tag. The associated data are the first five bytes and the record's own key: a record copied to another key, or given
another format or key id, does not open.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bridge.advice.said import said
from bridge.clock import Clock, SystemClock
from bridge.errors import StoreCorrupt, StoreUnavailable, VersionConflict
from bridge.observe.logs import trouble
from bridge.secret import Secret
from bridge.stores.base import NEW, Record, Store, try_writing

FORMAT = b"\x01"
"""The layout above; a newer one gets another byte, so that a layout never has to be guessed."""

KEY_BYTES = 32
"""AES-256."""

NONCE_BYTES = 12
"""96 bits, GCM's own size; random ones are safe for some 2**32 records under one key (NIST SP 800-38D section 8.3)."""

CHECK = "seal/check"
"""The first record written; it reveals a wrong key before anything else is read or written with that key."""

SET_UP_LIMIT = 30.0
"""Seconds of the lease for setting up: more than a keyring needs to answer or be given up, and the writes after
that."""
SET_UP_PATIENCE, SET_UP_POLL = 5.0, 0.1
"""Seconds to wait while another process sets up the store, and between two looks: it takes a moment, unless a keyring
waits for a person."""

_CHECK_TEXT = b"mail-bridge"

OpenKey = Callable[[bool], Awaitable[Secret[bytes]]]
"""Finds the key; is told whether records exist, since only an empty store may be given a new one."""


class Seal:
    """Authenticated encryption with one key."""

    def __init__(self, key: Secret[bytes]) -> None:
        if len(key.reveal()) != KEY_BYTES:
            raise ValueError(f"a key has {KEY_BYTES} bytes, not {len(key.reveal())}")
        self._cipher = AESGCM(key.reveal())
        self._key_id = _key_id(key)

    def seal(self, name: str, value: bytes) -> bytes:
        """Encrypt, and bind the ciphertext to the record's name."""
        head = FORMAT + self._key_id
        nonce = secrets.token_bytes(NONCE_BYTES)
        return head + nonce + self._cipher.encrypt(nonce, value, head + name.encode())

    def open(self, name: str, sealed: bytes) -> bytes:
        """Decrypt and verify. Raises: StoreCorrupt naming the record."""
        head, nonce, box = sealed[:5], sealed[5 : 5 + NONCE_BYTES], sealed[5 + NONCE_BYTES :]
        if len(nonce) < NONCE_BYTES or head[:1] != FORMAT:
            raise StoreCorrupt(said("the record {name} is damaged, or was written by a newer mail-bridge", name=name))
        if head[1:] != self._key_id:
            raise StoreCorrupt(
                said("the record {name} is damaged, or was sealed with another key than the one given", name=name)
            )
        try:
            return self._cipher.decrypt(nonce, box, head + name.encode())
        except InvalidTag as error:
            raise StoreCorrupt(
                said("the record {name} is damaged, or was moved here from another record", name=name)
            ) from error

    def fits(self, check: Record) -> bool:
        """True if this is the check record of a store with this key."""
        try:
            self.open(CHECK, check.value)
        except StoreCorrupt:
            return False
        return True


class SealedStore:
    """A Store whose records cannot be read or changed without the key; record names, versions and leases are not
    encrypted.

    The encryption key is fetched, and checked against the store, by the first operation that needs it; if that fails,
    the next one tries again, so that the bridge can start while the keyring is still locked. Raises, besides what Store
    promises: StoreCorrupt for a record that does not open, and from every operation if the key is not this store's.
    """

    def __init__(self, store: Store, key: Secret[bytes] | OpenKey, *, clock: Clock | None = None) -> None:
        self._store = store
        self._key = key
        self._clock = clock or SystemClock()
        self._opening = asyncio.Lock()
        self._seal: Seal | None = None
        self._ours: dict[str, int] = {}
        """Versions of the records that we have opened or written, by record name."""

    async def check(self) -> None:
        """Fetch the key and compare it with the store now, not only at the first login or the next start; and find out
        whether the store can be written to, not only at the first renewed token."""
        if self._seal is None:
            await self._opened()
        else:
            await self._checked_seal(await self._store.keys(""))  # if this fails, an open store stays open
        await try_writing(self._store, CHECK)

    async def get(self, key: str) -> Record | None:
        """The record, opened, or None."""
        seal = await self._opened()
        record = await self._store.get(key)
        if record is None:
            return None
        try:
            opened = Record(seal.open(key, record.value), record.version)
        except StoreCorrupt as problem:
            self._ours.pop(key, None)
            version = None if _is_newer(record) else record.version
            raise StoreCorrupt(problem.words, version=version) from problem.__cause__
        self._ours[key] = record.version
        return opened

    async def put(self, key: str, value: bytes, *, expected: int) -> int:
        """Seal and write if the stored version still is `expected`. Raises: VersionConflict."""
        seal = await self._opened_to_write(key, expected)
        version = await self._store.put(key, seal.seal(key, value), expected=expected)
        self._ours[key] = version
        return version

    async def delete(self, key: str, *, expected: int) -> None:
        """Remove if the stored version still is `expected`. Raises: VersionConflict."""
        await self._opened_to_write(key, expected)
        await self._store.delete(key, expected=expected)
        self._ours.pop(key, None)

    async def keys(self, prefix: str) -> list[str]:
        """All keys with this prefix, sorted."""
        return [key for key in await self._store.keys(prefix) if key != CHECK]

    async def versions(self, prefix: str) -> dict[str, int]:
        """The same keys, with the version of each record."""
        versions = await self._store.versions(prefix)
        return {key: version for key, version in versions.items() if key != CHECK}

    async def acquire_lease(self, name: str, holder: str, seconds: float) -> bool:
        """Take or extend the named lease for `holder`; False while another holder's is running."""
        return await self._store.acquire_lease(name, holder, seconds)

    async def release_lease(self, name: str, holder: str) -> None:
        """Give it back; nothing happens if it is not ours."""
        await self._store.release_lease(name, holder)

    async def close(self) -> None:
        """Close the store within."""
        await self._store.close()

    async def _opened(self) -> Seal:
        if self._seal is not None:
            return self._seal
        async with self._opening:
            if self._seal is None:
                existing = await self._store.keys("")
                if existing or isinstance(self._key, Secret):
                    self._seal = await self._checked_seal(existing)
                else:
                    self._seal = await self._set_up()
            return self._seal

    async def _opened_to_write(self, key: str, expected: int) -> Seal:
        """The seal, after a check that this is still our database. While we run, the database may be emptied or
        restored, and another bridge may give it another key: with records under both keys, each bridge would call the
        other's damaged, and overwrite them. If the record to be replaced is one that we know, the database is the same,
        and the check is skipped, so that the answer to a refresh gets to the disk without delay."""
        seal = await self._opened()
        if self._ours.get(key) != expected:
            record = await self._store.get(CHECK)
            if record is None or not seal.fits(record):
                await self._compare(seal, await self._store.keys(""))
        return seal

    async def _set_up(self) -> Seal:
        """Open an empty store, which may make a key. One process at a time, because in a keyring the last writer
        wins."""
        holder = secrets.token_hex(8)
        give_up_at = self._clock.monotonic() + SET_UP_PATIENCE
        while not await self._store.acquire_lease(CHECK, holder, SET_UP_LIMIT):
            if self._clock.monotonic() >= give_up_at:
                raise StoreUnavailable(said("another mail-bridge is setting up this store just now"))
            await self._clock.pause(SET_UP_POLL)
        try:
            return await self._checked_seal(await self._store.keys(""))
        finally:
            with suppress(StoreUnavailable):  # otherwise the lease runs out by itself
                await self._store.release_lease(CHECK, holder)

    async def _checked_seal(self, existing: Sequence[str]) -> Seal:
        key = self._key if isinstance(self._key, Secret) else await self._key(bool(existing))
        seal = Seal(key)
        await self._compare(seal, existing)
        return seal

    async def _compare(self, seal: Seal, existing: Sequence[str]) -> None:
        """Make sure that the key belongs to this store; writes the check record if there is none yet."""
        record = await self._store.get(CHECK)
        if record is None:
            await self._is_proved(seal, existing)
            with suppress(VersionConflict):  # another node was quicker: its record is checked below
                await self._store.put(CHECK, seal.seal(CHECK, _CHECK_TEXT), expected=NEW)
            record = await self._store.get(CHECK)
        if record is not None:
            try:
                seal.open(CHECK, record.value)
            except StoreCorrupt as error:
                if _is_newer(record) or not await self._is_proved(seal, [key for key in existing if key != CHECK]):
                    raise _other_key(error) from error
                await self._mend_check(seal, record, error)

    async def _is_proved(self, seal: Seal, existing: Sequence[str]) -> bool:
        """True if one of these records opens, which proves the key; False if there are no records.

        Raises: StoreCorrupt if there are some and none opens.
        """
        problem: StoreCorrupt | None = None
        for key in existing:
            record = await self._store.get(key)
            if record is None:
                continue
            try:
                seal.open(key, record.value)
            except StoreCorrupt as error:
                problem = error
            else:
                return True
        if problem is not None:
            raise _other_key(problem) from problem
        return False

    async def _mend_check(self, seal: Seal, damaged: Record, problem: StoreCorrupt) -> None:
        """Write the check record anew. Its text is the same in every store, so nothing is lost; but this is logged,
        because what has damaged this record may damage others."""
        with suppress(VersionConflict):  # another process was quicker
            await self._store.put(CHECK, seal.seal(CHECK, _CHECK_TEXT), expected=damaged.version)
            trouble("store.check_mended", reason=str(problem))


def _is_newer(record: Record) -> bool:
    """True if the record has another format, which the newer mail-bridge that wrote it can read."""
    return record.value[:1] not in (b"", FORMAT)


def _other_key(problem: StoreCorrupt) -> StoreCorrupt:
    return StoreCorrupt(said("this key does not belong to this store: {reason}", reason=problem.words))


def _key_id(key: Secret[bytes]) -> bytes:
    """Four bytes that tell keys apart; part of a hash, so that they reveal nothing of the key."""
    return hashlib.sha256(b"mail-bridge key id\0" + key.reveal()).digest()[:4]
