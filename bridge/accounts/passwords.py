"""Checks local passwords, in the same time for yes and no; the passwords are ours, random, and kept sealed.

A login costs four keyed hashes and a fixed number of comparisons: no key derivation, since the passwords are random
and at rest under the store's seal, and no disk, since a record is kept in memory as hashes under a key of this
process. After RECHECK_AFTER seconds a login reads the record again, so that another process's rotation is noticed
within that time; while the store does not answer, the last record stays valid. Workers remember right passwords, too,
and are told when these may have changed.
"""

from __future__ import annotations

import asyncio
import hmac
import math
import secrets
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from bridge.accounts.password_record import (
    PREVIOUS_KEPT,
    Kept,
    Password,
    PasswordRecord,
    canonical,
    is_random,
    keyed_hash,
    random_password,
    readings,
)
from bridge.advice.diagnosis import Diagnosis
from bridge.advice.said import Said, said
from bridge.clock import Clock
from bridge.errors import PasswordUnknown, StoreCorrupt, StoreTrouble, StoreUnavailable, VersionConflict
from bridge.secret import Secret
from bridge.stores.base import NEW, Store, address_in, key_of

PREFIX = "password/"
"""Prefix of the keys in the store."""

SHORTEST = 12
"""Least characters of a password that a person chooses; guesses can be tried only at our own port, which delays
them."""

TOO_SHORT: Final = f"the local password must have at least {SHORTEST} characters"
ODD_CHARACTERS: Final = "the local password may only contain letters without accents, digits, spaces and symbols"
"""Msgids of the catalogues: a ValueError brings its text alone over the wire."""

RECHECK_AFTER = 5.0
"""Seconds until a record is read again, so the longest that another process's rotation goes unnoticed. For workers that
remember right passwords, follow() looks just as often, with one small query for all accounts."""

RECHECK_PATIENCE = 2.0
"""Seconds that a login waits for that: a database that vanished silently would hold up each login for 15."""

CACHED = 4096
"""Records in memory; beyond that, the longest unused one is dropped. A `*@domain` pattern has countless user names."""

ATTEMPTS = 10
"""Compare-and-swap rounds; each lost one means that somebody else's change went in."""

_NOBODY = ""
"""Stands for a username without an account: it is looked up, cached and compared like any other."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of checking a password."""

    is_right: bool
    is_guessable: bool
    """True if it is right and was chosen by a person, so that somebody might find it by trying."""
    is_known: bool
    """False while the account has no local password yet."""


@dataclass(frozen=True, slots=True)
class _Slot:
    digest: bytes
    until: float
    salt: bytes = b""
    """Empty if the hash is under the key of this process."""
    is_guessable: bool = False


@dataclass(frozen=True, slots=True)
class _Cached:
    slots: tuple[_Slot, ...]
    """Always 1 + PREVIOUS_KEPT; unused ones hold a random hash."""
    salts: tuple[bytes, ...]
    """At least one, so that an account with a kept password and one without take the same time."""
    read_at: float
    version: int
    """Version of the record; NEW if there is none."""

    @property
    def is_known(self) -> bool:
        """True if the account has a local password."""
        return self.version != NEW


class LocalPasswords:
    """The passwords that mail clients send. One instance for each process; several processes may share the store."""

    def __init__(self, store: Store, clock: Clock, on_change: Callable[[str], object] = lambda address: None) -> None:
        """`on_change` is called for each address whose right passwords may have changed, whoever changed them; but only
        for addresses that have been asked about."""
        self._store = store
        self._clock = clock
        self._on_change = on_change
        self._looked_at = clock.now()
        self._hash_key = secrets.token_bytes(32)
        self._cache: OrderedDict[str, _Cached] = OrderedDict()

    async def judge(self, address: str | None, password: Secret[bytes]) -> Verdict:
        """Compare the bytes that the mail client sent with the account's passwords.

        Args: address, None for a username without an account: the answer is no, and takes the same time.
        Raises: StoreUnavailable while nothing is known of this account; StoreCorrupt.
        """
        cached = await self._fresh((address or _NOBODY).lower())
        now = self._clock.now()
        texts = readings(password.reveal())
        guesses = {salt: [keyed_hash(salt or self._hash_key, text) for text in texts] for salt in (b"", *cached.salts)}
        is_right = is_guessable = False
        for slot in cached.slots:
            for guess in guesses[slot.salt]:
                is_it = hmac.compare_digest(slot.digest, guess) & (now < slot.until)
                is_right |= is_it
                is_guessable |= is_it & slot.is_guessable
        return Verdict(is_right, is_guessable, cached.is_known)

    async def current(self, address: str) -> Secret[str]:
        """The password to type into the mail client; made on the first request.

        Raises: StoreUnavailable; PasswordUnknown if it is the mail program's own.
        """
        record = await self._changed(address.lower(), lambda before: before or PasswordRecord(random_password()))
        if isinstance(record.current, Kept):
            raise PasswordUnknown(diagnosis=Diagnosis.of("password.own"))
        return record.current

    async def follow(self) -> None:
        """Look for changes until cancelled; while the store cannot be read, nothing has changed."""
        while True:
            await self._clock.pause(RECHECK_AFTER)
            with suppress(StoreTrouble):
                await self.look()

    async def look(self) -> None:
        """Notice what other processes have changed since the last look, and which older passwords have ended.

        Raises: StoreUnavailable, StoreCorrupt.
        """
        versions = await self._store.versions(PREFIX)
        before, now = self._looked_at, self._clock.now()
        self._looked_at = now
        for address, cached in list(self._cache.items()):
            stored = versions.get(key_of(PREFIX, address), NEW)
            if cached.version != stored:  # the old value stays valid until it can be read again
                self._cache[address] = replace(cached, version=stored, read_at=-math.inf)
            if cached.version != stored or any(before < slot.until <= now for slot in cached.slots):
                self._on_change(address)

    async def addresses(self) -> list[str]:
        """All addresses with a local password, even without an account. Raises: StoreUnavailable."""
        return [address_in(PREFIX, key) for key in await self._store.keys(PREFIX)]

    async def remove(self, address: str) -> None:
        """Remove the password and the older ones; nothing happens if there is none. Raises: StoreUnavailable,
        StoreCorrupt."""
        address = address.lower()
        for _ in range(ATTEMPTS):
            try:
                _, version = await self._stored(address)
            except StoreCorrupt as problem:
                if problem.version is None:
                    raise
                version = problem.version
            try:
                if version != NEW:
                    await self._store.delete(key_of(PREFIX, address), expected=version)
            except VersionConflict:
                continue
            self._drop(address)
            return
        raise StoreUnavailable(_in_use(address))

    async def is_known(self, address: str) -> bool:
        """True once the account has a local password. Raises: StoreUnavailable, StoreCorrupt."""
        return (await self._fresh(address.lower())).is_known

    async def keep(self, address: str, password: Kept) -> bool:
        """Make the mail program's own password the account's. False if the account has got another one meanwhile.

        Raises: StoreUnavailable, StoreCorrupt.
        """
        record = await self._changed(address.lower(), lambda before: before or PasswordRecord(password))
        return record.current == password

    async def rotate(self, address: str, *, at_once: bool = False) -> Secret[str]:
        """Make a new password. The old one works on for model.PASSWORD_OVERLAP; with `at_once`, it stops with all older
        ones. Raises: StoreUnavailable."""
        return await self._replace(address.lower(), random_password(), at_once=at_once)

    async def set(self, address: str, password: Secret[str], *, at_once: bool = False) -> None:
        """Use this password; the old one as in rotate(). Raises: ValueError saying what is wrong, StoreUnavailable."""
        text = password.reveal()
        if len(text) < SHORTEST:
            raise ValueError(TOO_SHORT)
        if not (text.isascii() and text.isprintable()):
            raise ValueError(ODD_CHARACTERS)
        await self._replace(address.lower(), password, at_once=at_once)

    async def _replace(self, address: str, new: Secret[str], *, at_once: bool) -> Secret[str]:
        now = self._clock.now()

        def change(before: PasswordRecord | None) -> PasswordRecord:
            return before.replaced(new, now, at_once=at_once) if before else PasswordRecord(new)

        await self._changed(address, change, is_replaced=True)
        return new

    async def _changed(
        self, address: str, change: Callable[[PasswordRecord | None], PasswordRecord], *, is_replaced: bool = False
    ) -> PasswordRecord:
        """Read, change, compare and swap; again if another process was quicker. `is_replaced`: the change does not
        depend on the old record, so it may replace one whose seal is broken."""
        for _ in range(ATTEMPTS):
            try:
                before, version = await self._stored(address)
            except StoreCorrupt as problem:
                if problem.version is None or not is_replaced:
                    raise
                before, version = None, problem.version
            after = change(before)
            if after != before:
                try:
                    version = await self._store.put(key_of(PREFIX, address), after.to_bytes(), expected=version)
                except VersionConflict:
                    continue
            self._remember(address, after, version)
            return after
        raise StoreUnavailable(_in_use(address))

    async def _fresh(self, address: str) -> _Cached:
        """From memory, or from the store if the record in memory is too old."""
        cached = self._cache.get(address)
        if cached is not None and self._clock.monotonic() - cached.read_at < RECHECK_AFTER:
            self._cache.move_to_end(address)
            return cached
        if cached is None:
            return self._remember(address, *await self._stored(address))
        try:
            async with asyncio.timeout(RECHECK_PATIENCE):
                stored = await self._stored(address)
        except (StoreUnavailable, TimeoutError):
            return cached  # a store in trouble must not refuse a right password
        return self._remember(address, *stored)

    async def _stored(self, address: str) -> tuple[PasswordRecord | None, int]:
        """What is stored, and its version. Raises: StoreUnavailable, StoreCorrupt with the remedy."""
        try:
            record = await self._store.get(key_of(PREFIX, address))
            if record is None:
                return None, NEW
            return PasswordRecord.from_bytes(record.value, address), record.version
        except StoreCorrupt as problem:
            if problem.version is None:
                raise
            command = f"mail-bridge accounts password --rotate {address}"
            remedy = said(
                "{problem}; to replace it with a new one, run: {command}",
                problem=problem.words,
                command=command,
            )
            raise StoreCorrupt(remedy, version=problem.version) from problem.__cause__

    def _remember(self, address: str, record: PasswordRecord | None, version: int) -> _Cached:
        known = [] if record is None else [(record.current, float("inf")), *record.previous]
        slots = [self._slot(password, until) for password, until in known[: 1 + PREVIOUS_KEPT]]
        while len(slots) < 1 + PREVIOUS_KEPT:
            slots.append(_Slot(secrets.token_bytes(32), float("inf")))
        salts = tuple(slot.salt for slot in slots if slot.salt) or (secrets.token_bytes(32),)
        before = self._cache.get(address)
        cached = self._cache[address] = _Cached(tuple(slots), salts, self._clock.monotonic(), version)
        self._cache.move_to_end(address)
        if before is not None and before.version != version:
            self._on_change(address)
        while len(self._cache) > CACHED:
            self._drop(next(iter(self._cache)))
        return cached

    def _drop(self, address: str) -> None:
        """Forget the record: look() no longer notices its changes, so those who remember it must forget it, too."""
        if (cached := self._cache.pop(address, None)) is not None and cached.is_known:
            self._on_change(address)

    def _slot(self, password: Password, until: float) -> _Slot:
        if isinstance(password, Kept):
            return _Slot(password.digest, until, password.salt, is_guessable=True)
        text = password.reveal()
        return _Slot(keyed_hash(self._hash_key, canonical(text)), until, is_guessable=not is_random(text))


def _in_use(address: str) -> Said:
    return said("the local password of {address} is being changed by somebody else; try again", address=address)
