"""Authenticated encryption around any Store; what cannot be opened is never overwritten unasked.

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
"""The layout above; a newer one gets another byte, so that this one is never guessed at."""

KEY_BYTES = 32
"""AES-256."""

NONCE_BYTES = 12
"""96 bits, GCM's own size; random ones are safe for some 2**32 records under one key (NIST SP 800-38D section 8.3)."""

CHECK = "seal/check"
"""Written first: tells a wrong key before anything else is read or written with it."""

SET_UP_LIMIT = 30.0
"""Seconds; more than a keyring takes to answer or to be given up, with the writes behind it."""
SET_UP_PATIENCE, SET_UP_POLL = 5.0, 0.1
"""Seconds to wait for another process that does it just now, and between two looks: it takes a moment, unless a keyring
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
        """Encrypt and bind to the record's key."""
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
    """A Store whose records nobody can read or change without the key; keys, versions and leases stay plain.

    The key is opened, and checked against the store, by the first operation that needs it; if that fails, the next
    one tries again, so that the bridge starts while the keyring is still locked. Raises, besides what Store promises:
    StoreCorrupt for a record that does not open, and for everything when the key is not this store's.
    """

    def __init__(self, store: Store, key: Secret[bytes] | OpenKey, *, clock: Clock | None = None) -> None:
        self._store = store
        self._key = key
        self._clock = clock or SystemClock()
        self._opening = asyncio.Lock()
        self._seal: Seal | None = None
        self._ours: dict[str, int] = {}
        """Versions of records that we have opened or written."""

    async def check(self) -> None:
        """Open the key and compare it with the store now, rather than with the first login, or the next start; and see
        that the store can be written to, rather than with the first token that is renewed."""
        if self._seal is None:
            await self._opened()
        else:
            await self._checked_seal(await self._store.keys(""))  # an open store stays open if that fails
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
            raise StoreCorrupt(problem.said or str(problem), version=version) from problem.__cause__
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
        """A database may be emptied or brought back under us, and get another key by another bridge: with ours as well
        in it, each would call the other's records damaged, and write over them. Where the record to be replaced is one
        that we know, it is the same database: what a refresh has brought is not held up on its way to the disk."""
        seal = await self._opened()
        if self._ours.get(key) != expected:
            record = await self._store.get(CHECK)
            if record is None or not seal.fits(record):
                await self._compare(seal, await self._store.keys(""))
        return seal

    async def _set_up(self) -> Seal:
        """Open an empty store, which may make a key: one process at a time, since a keyring lets the last one win."""
        holder = secrets.token_hex(8)
        give_up_at = self._clock.monotonic() + SET_UP_PATIENCE
        while not await self._store.acquire_lease(CHECK, holder, SET_UP_LIMIT):
            if self._clock.monotonic() >= give_up_at:
                raise StoreUnavailable(said("another mail-bridge is setting up this store just now"))
            await self._clock.pause(SET_UP_POLL)
        try:
            return await self._checked_seal(await self._store.keys(""))
        finally:
            with suppress(StoreUnavailable):  # the lease runs out by itself
                await self._store.release_lease(CHECK, holder)

    async def _checked_seal(self, existing: Sequence[str]) -> Seal:
        key = self._key if isinstance(self._key, Secret) else await self._key(bool(existing))
        seal = Seal(key)
        await self._compare(seal, existing)
        return seal

    async def _compare(self, seal: Seal, existing: Sequence[str]) -> None:
        """Does the key belong to this store? Writes the check record where there is none yet."""
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
        """What the records tell beside the check record: any that opens proves the key; with none, nothing does.

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
        """Nothing is lost: its text is the same in every store. What damages one record may damage others."""
        with suppress(VersionConflict):  # another process was quicker
            await self._store.put(CHECK, seal.seal(CHECK, _CHECK_TEXT), expected=damaged.version)
            trouble("store.check_mended", reason=str(problem))


def _is_newer(record: Record) -> bool:
    """True if it may be read once the mail-bridge that wrote it is back."""
    return record.value[:1] not in (b"", FORMAT)


def _other_key(problem: StoreCorrupt) -> StoreCorrupt:
    reason = problem.said or str(problem)
    return StoreCorrupt(said("this key does not belong to this store: {reason}", reason=reason))


def _key_id(key: Secret[bytes]) -> bytes:
    """Four bytes to tell another key by; a hash, so that they say nothing of it."""
    return hashlib.sha256(b"mail-bridge key id\0" + key.reveal()).digest()[:4]
