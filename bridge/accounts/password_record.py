"""An account's local passwords: how they are stored, and how they are normalized and hashed for comparison (pure)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
import unicodedata
from dataclasses import dataclass

from bridge.advice.said import said
from bridge.errors import StoreCorrupt
from bridge.model import PASSWORD_OVERLAP
from bridge.protocols.sasl import windows_text
from bridge.secret import Secret

PREVIOUS_KEPT = 4
"""Old passwords that may overlap, so that a person who clicks twice does not lock out the mail client. Also bounds the
time of a check."""

RANDOM_BYTES = 16
"""128 bits: nobody can guess that, so no slow hash is needed."""

LONGEST_SPELLED = 1024
"""The most characters of a password whose accents are normalized. In the worst case, which an attacker can choose, that
takes time quadratic in the length: a tenth of a second for 4,000, in which nobody else has a turn."""

FORMAT = 1
FORMAT_WITH_HASHES = 2
"""Used only if a hash is in the record, so that an older mail-bridge can still read all others."""

_RANDOM = re.compile(r"[a-z2-7]{26}")


@dataclass(frozen=True, slots=True)
class Kept:
    """A mail program's own password. Only a hash is kept, because the password may open more than this mailbox.

    No slow hash: each login would have to wait for it, and at rest the hash is under the store's seal.
    """

    salt: bytes
    digest: bytes

    @classmethod
    def of(cls, received: Secret[bytes]) -> Kept:
        """From the bytes that the mail client has sent."""
        salt, (utf8, windows) = secrets.token_bytes(32), readings(received.reveal())
        is_utf8 = utf8.decode("utf-8", "replace").encode() == utf8
        return cls(salt, keyed_hash(salt, utf8 if is_utf8 else windows))

    def matches(self, received: Secret[bytes]) -> bool:
        """True if this is the password; in constant time."""
        first, second = (keyed_hash(self.salt, guess) for guess in readings(received.reveal()))
        return hmac.compare_digest(self.digest, first) | hmac.compare_digest(self.digest, second)


Password = Secret[str] | Kept


@dataclass(frozen=True, slots=True)
class PasswordRecord:
    """One account's record."""

    current: Password
    previous: tuple[tuple[Password, float], ...] = ()
    """Older passwords, newest first, each with the time at which it ends."""

    def replaced(self, new: Password, now: float, *, at_once: bool) -> PasswordRecord:
        """`new` becomes the current password. The one before works on for PASSWORD_OVERLAP; with `at_once`, no older
        one does."""
        if at_once:
            return PasswordRecord(new)
        running = [(text, until) for text, until in self.previous if until > now and text != new]
        if self.current != new:
            running.insert(0, (self.current, now + PASSWORD_OVERLAP))
        return PasswordRecord(new, tuple(running[:PREVIOUS_KEPT]))

    def to_bytes(self) -> bytes:
        """JSON; the store seals it."""
        previous = [[_written(password), until] for password, until in self.previous]
        has_hashes = any(isinstance(one, Kept) for one in (self.current, *(old for old, _ in self.previous)))
        number = FORMAT_WITH_HASHES if has_hashes else FORMAT
        return json.dumps({"format": number, "current": _written(self.current), "previous": previous}).encode()

    @classmethod
    def from_bytes(cls, content: bytes, address: str) -> PasswordRecord:
        """Raises: StoreCorrupt for what a newer mail-bridge wrote."""
        try:
            record = json.loads(content)
            if record["format"] not in (FORMAT, FORMAT_WITH_HASHES):
                raise StoreCorrupt(
                    said("the local password of {address} was written by a newer mail-bridge", address=address)
                )
            previous = tuple((_read(written), float(until)) for written, until in record["previous"])
            return cls(_read(record["current"]), previous)
        except (ValueError, KeyError, TypeError) as error:
            # from None: the cause's text would quote the record.
            raise StoreCorrupt(
                said(
                    "the local password of {address} cannot be read ({error})",
                    address=address,
                    error=type(error).__name__,
                )
            ) from None


def keyed_hash(key: bytes, text: bytes) -> bytes:
    """HMAC-SHA-256: always of the same length; under a key of this process it is of no use elsewhere."""
    return hmac.digest(key, text, hashlib.sha256)


def _written(password: Password) -> str | dict[str, str]:
    if isinstance(password, Kept):
        return {"salt": password.salt.hex(), "digest": password.digest.hex()}
    return password.reveal()


def _read(written: object) -> Password:
    """Raises: ValueError, KeyError, TypeError."""
    if isinstance(written, dict):
        return Kept(bytes.fromhex(written["salt"]), bytes.fromhex(written["digest"]))
    return Secret(str(written))


def random_password() -> Secret[str]:
    """26 characters a-z and 2-7: typed without Shift, without 0, 1 and look-alikes."""
    return Secret(base64.b32encode(secrets.token_bytes(RANDOM_BYTES)).decode().rstrip("=").lower())


def is_random(text: str) -> bool:
    """True if it has the form of random_password(). A password that a person chose in this form is as long, too."""
    return _RANDOM.fullmatch(text) is not None


def readings(received: bytes) -> tuple[bytes, bytes]:
    """Both readings of the bytes: as UTF-8, and as Windows-1252 from an old client; always two, for constant time."""
    return canonical(received.decode("utf-8", "surrogateescape")), canonical(windows_text(received))


def canonical(text: str) -> bytes:
    """One form for é, composed or not."""
    spelled = unicodedata.normalize("NFC", text) if len(text) <= LONGEST_SPELLED else text
    return spelled.encode("utf-8", "surrogateescape")
