"""Reads and writes a TokenSet as a versioned record in a Store."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from bridge.advice.diagnosis import Diagnosis
from bridge.advice.said import said
from bridge.errors import StoreCorrupt
from bridge.model import AccessToken, Subject, TokenSet
from bridge.secret import Secret
from bridge.stores.base import NEW, Store, address_in, key_of, try_writing

PREFIX = "grant/"
"""Prefix of the keys in the store."""

FORMAT = 1
"""A record of another format is left as it is, because a newer mail-bridge can read it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of one account's sign-in."""

    provider: str
    """The provider's name in the configuration when the grant was given; by now it may have another."""
    fingerprint: str
    """The provider's fingerprint when the grant was given; see oauth.base."""
    signed_in_as: str
    """Who had to sign in, according to the configuration of that time."""
    tokens: TokenSet
    ended: str = ""
    """Why the provider will not renew the grant, in English; empty while it is valid."""
    diagnosis: Diagnosis | None = None
    """Why it ended, to be told in any language."""
    client: str = ""
    """The client that the grant was given to; see oauth.base. Empty in records from before the client was noted."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An entry, or None, and the version to name when replacing it."""

    entry: Entry | None
    version: int


class Vault:
    """Entries by account address."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def load(self, address: str) -> Stored:
        """The newest entry. Raises: StoreUnavailable, StoreCorrupt."""
        try:
            record = await self._store.get(key_of(PREFIX, address))
            if record is None:
                return Stored(None, NEW)
            return Stored(_decoded(record.value, address), record.version)
        except StoreCorrupt as problem:
            if problem.version is None:
                raise
            command = f"mail-bridge accounts forget {address}"
            remedy = said(
                "{problem}; signing in again replaces it; to give it up, run: {command}",
                problem=problem.words,
                command=command,
            )
            raise StoreCorrupt(remedy, version=problem.version) from problem.__cause__

    async def load_any(self, address: str) -> Stored:
        """As load(), but returns only the version for a damaged record, which may be replaced or removed.

        Raises: StoreUnavailable; StoreCorrupt for a record that must stay as it is.
        """
        try:
            return await self.load(address)
        except StoreCorrupt as problem:
            if problem.version is None:
                raise
            return Stored(None, problem.version)

    async def try_out(self, address: str) -> None:
        """Find out whether save() could write just now. Raises: StoreUnavailable."""
        await try_writing(self._store, key_of(PREFIX, address))

    async def save(self, address: str, entry: Entry, *, expected: int) -> int:
        """Durable when it returns. Returns: the new version. Raises: VersionConflict, StoreUnavailable."""
        return await self._store.put(key_of(PREFIX, address), _encoded(entry), expected=expected)

    async def remove(self, address: str, *, expected: int) -> None:
        """Raises: VersionConflict, StoreUnavailable."""
        await self._store.delete(key_of(PREFIX, address), expected=expected)

    async def addresses(self) -> list[str]:
        """All accounts with an entry. Raises: StoreUnavailable."""
        return [address_in(PREFIX, key) for key in await self._store.keys(PREFIX)]

    async def acquire_lease(self, address: str, holder: str, seconds: float) -> bool:
        """Take the right to refresh this account, among the processes that share the store."""
        return await self._store.acquire_lease(key_of(PREFIX, address), holder, seconds)

    async def release_lease(self, address: str, holder: str) -> None:
        """Give it back."""
        await self._store.release_lease(key_of(PREFIX, address), holder)


def _encoded(entry: Entry) -> bytes:
    tokens = entry.tokens
    subject = tokens.subject
    return json.dumps(
        {
            "format": FORMAT,
            "provider": entry.provider,
            "fingerprint": entry.fingerprint,
            "client": entry.client,
            "signed_in_as": entry.signed_in_as,
            "ended": entry.ended,
            "diagnosis": entry.diagnosis
            and [entry.diagnosis.key, entry.diagnosis.arguments, str(entry.diagnosis.words)],
            "grant": tokens.grant.reveal(),
            "ends_at": tokens.ends_at,
            "scopes": sorted(tokens.scopes),
            "access": [tokens.access.value.reveal(), tokens.access.expires_at, tokens.access.obtained_at],
            "subject": subject and [subject.address, subject.identifier, sorted(subject.aliases)],
        }
    ).encode()


def _decoded(content: bytes, address: str) -> Entry:
    try:
        record: dict[str, Any] = json.loads(content)
        if record["format"] != FORMAT:
            raise StoreCorrupt(
                said("the sign-in of {address} was stored by another version of mail-bridge", address=address)
            )
        value, expires_at, obtained_at = record["access"]
        subject, ends_at = record["subject"], record.get("ends_at")
        return Entry(
            str(record["provider"]),
            str(record["fingerprint"]),
            str(record["signed_in_as"]),
            TokenSet(
                AccessToken(Secret(str(value)), float(expires_at), float(obtained_at)),
                Secret(str(record["grant"])),
                frozenset(record["scopes"]),
                Subject(subject[0], subject[1], frozenset(subject[2])) if subject else None,
                None if ends_at is None else float(ends_at),
            ),
            str(record["ended"]),
            _diagnosis(record.get("diagnosis")),
            str(record.get("client", "")),
        )
    except (ValueError, KeyError, TypeError, IndexError) as error:
        # from None: the cause's text would quote the record
        raise StoreCorrupt(
            said(
                "the stored sign-in of {address} makes no sense ({error})", address=address, error=type(error).__name__
            )
        ) from None


def _diagnosis(value: Any) -> Diagnosis | None:
    """None also for a diagnosis that another version wrote in its own form: the record has the English text, too."""
    try:
        key, arguments, words = value
        return Diagnosis(str(key), tuple((str(name), str(text)) for name, text in arguments), str(words))
    except (ValueError, TypeError):
        return None
