"""Local-password check, same time for yes and no; the passwords are ours, random, and kept sealed.

A login costs two keyed hashes and a fixed number of comparisons: no key derivation, since the passwords are random
and at rest under the store's seal, and no disk, since a record is kept in memory as hashes under a key of this
process. After RECHECK_AFTER seconds a login reads the record again, so that what another process has rotated is known
within that time; while the store does not answer, what was last read goes on being valid.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import unicodedata
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from bridge.advice.said import said
from bridge.clock import Clock
from bridge.errors import StoreCorrupt, StoreUnavailable, VersionConflict
from bridge.model import PASSWORD_OVERLAP
from bridge.secret import Secret
from bridge.stores.base import NEW, Store

PREVIOUS_KEPT = 4
"""Old passwords that may overlap: somebody who clicks twice must not lock out the mail client. Also bounds the time."""

RANDOM_BYTES = 16
"""128 bits: nobody guesses that, so that no slow hash is needed."""

SHORTEST = 12
"""Characters of a password that a person chooses; it can be tried only through our own port, which slows down."""

TOO_SHORT: Final = f"the local password must have at least {SHORTEST} characters"
ODD_CHARACTERS: Final = "the local password may only have letters without accents, digits, spaces and signs"
"""Msgids of the catalogues: a ValueError brings its text alone over the wire."""

RECHECK_AFTER = 5.0
"""Seconds until a record is read again; how long another process's rotation may go unnoticed."""

CACHED = 4096
"""Records in memory; beyond it the longest unused goes. User names below a `*@domain` pattern are without number."""

ATTEMPTS = 10
"""Compare-and-swap rounds; each lost one means that somebody else's change went in."""

FORMAT = 1

_NOBODY = ""
"""Stands for a username that means no account: it is looked up, cached and compared like any other."""


@dataclass(frozen=True, slots=True)
class _Passwords:
    """One account's record."""

    current: Secret[str]
    previous: tuple[tuple[Secret[str], float], ...] = ()
    """Older ones, newest first, with the time at which each ends."""

    def replaced(self, new: Secret[str], now: float) -> _Passwords:
        """`new` becomes the current one; the one before works on for the overlap."""
        running = [(text, until) for text, until in self.previous if until > now and text != new]
        if self.current != new:
            running.insert(0, (self.current, now + PASSWORD_OVERLAP))
        return _Passwords(new, tuple(running[:PREVIOUS_KEPT]))

    def to_bytes(self) -> bytes:
        """JSON; sealed by the store."""
        previous = [[text.reveal(), until] for text, until in self.previous]
        return json.dumps({"format": FORMAT, "current": self.current.reveal(), "previous": previous}).encode()

    @classmethod
    def from_bytes(cls, content: bytes, address: str) -> _Passwords:
        """Raises: StoreCorrupt for what a newer mail-bridge wrote."""
        try:
            record = json.loads(content)
            if record["format"] != FORMAT:
                raise StoreCorrupt(
                    said("the local password of {address} was written by a newer mail-bridge", address=address)
                )
            previous = tuple((Secret(str(text)), float(until)) for text, until in record["previous"])
            return cls(Secret(str(record["current"])), previous)
        except (ValueError, KeyError, TypeError) as error:
            # Without the cause: its text would quote the record.
            raise StoreCorrupt(
                said(
                    "the local password of {address} cannot be read ({error}); set a new store aside",
                    address=address,
                    error=type(error).__name__,
                )
            ) from None


@dataclass(frozen=True, slots=True)
class _Cached:
    slots: tuple[tuple[bytes, float], ...]
    """Always 1 + PREVIOUS_KEPT hashes and the time at which each ends; empty places hold a hash of nothing known."""
    read_at: float


class LocalPasswords:
    """What mail clients type. One instance for each process; several processes may share the store."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._hash_key = secrets.token_bytes(32)
        self._cache: OrderedDict[str, _Cached] = OrderedDict()

    async def check(self, address: str | None, password: Secret[bytes]) -> bool:
        """True if this is the account's password, as the bytes that the mail client sent.

        Args: address, None for a username that means no account: the answer is no, and takes the same time.
        Raises: StoreUnavailable while nothing is known of this account; StoreCorrupt.
        """
        cached = await self._fresh((address or _NOBODY).lower())
        now = self._clock.now()
        guesses = [self._hash(guess) for guess in _readings(password.reveal())]
        is_right = False
        for stored, until in cached.slots:
            for guess in guesses:
                is_right |= hmac.compare_digest(stored, guess) & (now < until)
        return is_right

    async def current(self, address: str) -> Secret[str]:
        """The password to type into the mail client; made on the first request. Raises: StoreUnavailable."""
        record = await self._changed(address.lower(), lambda before: before or _Passwords(_random_password()))
        return record.current

    async def rotate(self, address: str) -> Secret[str]:
        """Make a new one; the old one works on for PASSWORD_OVERLAP. Raises: StoreUnavailable."""
        return await self._replace(address.lower(), _random_password())

    async def set(self, address: str, password: Secret[str]) -> None:
        """Use this one; the old one works on for PASSWORD_OVERLAP. Raises: ValueError saying what is wrong with it."""
        text = password.reveal()
        if len(text) < SHORTEST:
            raise ValueError(TOO_SHORT)
        if not (text.isascii() and text.isprintable()):
            raise ValueError(ODD_CHARACTERS)
        await self._replace(address.lower(), password)

    async def _replace(self, address: str, new: Secret[str]) -> Secret[str]:
        now = self._clock.now()
        await self._changed(address, lambda before: before.replaced(new, now) if before else _Passwords(new))
        return new

    async def _changed(self, address: str, change: Callable[[_Passwords | None], _Passwords]) -> _Passwords:
        """Read, change, compare and swap; again if another process was quicker."""
        for _ in range(ATTEMPTS):
            stored = await self._store.get(_key(address))
            before = None if stored is None else _Passwords.from_bytes(stored.value, address)
            after = change(before)
            if after != before:
                try:
                    await self._store.put(_key(address), after.to_bytes(), expected=stored.version if stored else NEW)
                except VersionConflict:
                    continue
            self._remember(address, after)
            return after
        raise StoreUnavailable(
            said("the local password of {address} is being changed by somebody else; try again", address=address)
        )

    async def _fresh(self, address: str) -> _Cached:
        """From memory, or from the store if that is too long ago."""
        cached = self._cache.get(address)
        if cached is not None and self._clock.monotonic() - cached.read_at < RECHECK_AFTER:
            self._cache.move_to_end(address)
            return cached
        try:
            stored = await self._store.get(_key(address))
        except StoreUnavailable:
            if cached is None:
                raise
            return cached  # the store's trouble is not the mail client's
        return self._remember(address, None if stored is None else _Passwords.from_bytes(stored.value, address))

    def _remember(self, address: str, record: _Passwords | None) -> _Cached:
        known = [] if record is None else [(record.current, float("inf")), *record.previous]
        slots = [(self._hash(_canonical(text.reveal())), until) for text, until in known[: 1 + PREVIOUS_KEPT]]
        while len(slots) < 1 + PREVIOUS_KEPT:
            slots.append((secrets.token_bytes(32), float("inf")))
        cached = self._cache[address] = _Cached(tuple(slots), self._clock.monotonic())
        self._cache.move_to_end(address)
        while len(self._cache) > CACHED:
            self._cache.popitem(last=False)
        return cached

    def _hash(self, text: bytes) -> bytes:
        """Equal length for all, and of no use outside this process."""
        return hmac.digest(self._hash_key, text, hashlib.sha256)


def _key(address: str) -> str:
    """Keys are ASCII; an address may not be (RFC 6531)."""
    return "password/" + quote(address, safe="@+")


def _random_password() -> Secret[str]:
    """26 characters a-z and 2-7: typed without Shift, without 0, 1 and look-alikes."""
    return Secret(base64.b32encode(secrets.token_bytes(RANDOM_BYTES)).decode().rstrip("=").lower())


def _readings(received: bytes) -> tuple[bytes, bytes]:
    """What the bytes may mean: UTF-8, or Windows-1252 from an old client; always two, so that the time is the same."""
    return _canonical(received.decode("utf-8", "surrogateescape")), _canonical(_from_windows(received))


def _from_windows(received: bytes) -> str:
    """As Windows decodes it: the five bytes that Windows-1252 leaves open are the control characters of Latin-1."""
    try:
        return received.decode("cp1252")
    except UnicodeDecodeError:
        return "".join(bytes([byte]).decode("cp1252" if byte not in _UNDEFINED else "latin-1") for byte in received)


_UNDEFINED = frozenset(b"\x81\x8d\x8f\x90\x9d")


def _canonical(text: str) -> bytes:
    """One spelling for é, composed or not."""
    return unicodedata.normalize("NFC", text).encode("utf-8", "surrogateescape")
