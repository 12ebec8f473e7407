"""Google Workspace, without a person: a service account that acts for each mailbox (domain-wide delegation)."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from bridge.advice.said import Said, said
from bridge.advice.system import system_reason
from bridge.clock import Clock
from bridge.config.google import GoogleProvider
from bridge.config.presets import GOOGLE_TOKEN_URL
from bridge.errors import BridgeError, ProviderRefused
from bridge.model import Subject, TokenSet
from bridge.oauth import answers
from bridge.oauth.failures import Failure
from bridge.oauth.google_auth import Signer, Wire, guarded, signer
from bridge.oauth.http import Https
from bridge.oauth.limits import Limits
from bridge.oauth.unattended import NO_GRANT, Unattended, refused, unattended_problem
from bridge.secret import Secret

LARGEST_FILE = 64 * 1024
"""Octets; Google's key files have 2,400."""
GOOGLE_TOKEN_HOSTS = frozenset({"oauth2.googleapis.com", "www.googleapis.com", "accounts.google.com"})
"""Hosts of `token_uri` in key files that Google has made: the first today, the others in earlier years."""


@dataclass(frozen=True, slots=True)
class _Key:
    """A key file that has been read."""

    digest: bytes
    """Of its content; tells whether the file was replaced, whatever its modification time."""
    client_id: str
    """The number under which the Admin console knows the service account; empty in a file that does not say it."""
    email: str
    signer: Signer = field(repr=False)


class GoogleServiceAccount(Unattended):
    """With `kind: google` and `flow: service_account`. The key file opens every mailbox of the domain."""

    def __init__(self, name: str, config: GoogleProvider, clock: Clock, *, limits: Limits) -> None:
        super().__init__(name, config, clock)
        self._config = config
        self._https = Https(name, ca_file=config.ca_file, proxy=config.proxy, limits=limits)
        self._path = config.service_account_file or ""
        self._scopes = list(config.effective_scopes)
        self._key: _Key | None = None
        self._lock = threading.Lock()

    async def refresh(self, grant: Secret[str], *, subject: str) -> TokenSet:
        """An access token for the mailbox `subject` (RFC 7523 section 2.1), which the token names by construction."""
        return await self._https.run(lambda: guarded(lambda: self._refresh(subject)))

    async def close(self) -> None:
        """Release the connections."""
        self._https.close()

    def _refresh(self, subject: str) -> TokenSet:
        key = self._current_key()
        wire = Wire(self._https, lambda failure: self._problem(failure, key, subject))
        asked_at = self._clock.now()
        key.signer.with_subject(subject).refresh(wire)
        return TokenSet(
            answers.access_token(wire.answer, asked_at=asked_at),
            NO_GRANT,
            answers.granted_scopes(wire.answer, self._scopes),
            Subject(subject.lower()),
        )

    # --- the key file -------------------------------------------------------------------------------------------

    def _current_key(self) -> _Key:
        """Read the file each time, and prepare the key only if it has changed. Raises: ProviderRefused."""
        content = self._content()
        digest = hashlib.sha256(content).digest()
        with self._lock:  # one thread prepares the key, the others wait for it
            if self._key is None or self._key.digest != digest:
                self._key = self._read(content, digest)
            return self._key

    def _content(self) -> bytes:
        try:
            with open(self._path, "rb") as file:
                content = file.read(LARGEST_FILE + 1)
        except OSError as problem:
            raise self._bad(said("cannot be read ({reason})", reason=system_reason(problem))) from problem
        if len(content) > LARGEST_FILE:
            raise self._bad(said("is too large for a key file"))
        return content

    def _read(self, content: bytes, digest: bytes) -> _Key:
        try:
            found: Any = json.loads(content)
        except (ValueError, RecursionError):
            raise self._bad(said("is not JSON")) from None  # without the cause, which could quote it
        if not isinstance(found, dict) or found.get("type") != "service_account":
            raise self._bad(said("is not the key of a service account"))
        text = {name: value for name, value in found.items() if isinstance(value, str)}
        if not text.get("client_email") or not text.get("private_key"):
            raise self._bad(said("lacks client_email or private_key"))
        self._check_token_uri(text.get("token_uri", GOOGLE_TOKEN_URL))
        # Only these: a key file must not choose another universe domain or another URL to send what it signs to.
        info = {name: text[name] for name in ("client_email", "private_key", "private_key_id") if name in text}
        made = signer({**info, "token_uri": self._config.token_url}, self._scopes)
        if made is None:
            raise self._bad(said("holds a private_key that cannot be used"))
        return _Key(digest, text.get("client_id", ""), text["client_email"], made)

    def _check_token_uri(self, uri: str) -> None:
        """The request goes to the configuration's token_url in any case. A file that names a foreign host is refused,
        because Google cannot have made it."""
        url = urlsplit(uri)
        if url.scheme != "https":
            raise self._bad(said("has a token_uri that does not begin with https://"))
        if self._config.token_url == GOOGLE_TOKEN_URL and url.netloc not in GOOGLE_TOKEN_HOSTS:
            raise self._bad(said("has a token_uri that is not Google's; if that is intended, set token_url"))

    def _bad(self, what: Said) -> ProviderRefused:
        return ProviderRefused(
            said(
                "The service account's key file {file} {what}: the administrator must put a new one in place (Google "
                "Cloud console, IAM & Admin, Service Accounts, the account's Keys, Add key, JSON).",
                file=self._path,
                what=what,
            )
        )

    # --- a "no" -------------------------------------------------------------------------------------------------

    def _problem(self, failure: Failure, key: _Key, subject: str) -> BridgeError:
        """The error to raise. Google's texts choose only the sentence, since Google promises nothing about them."""
        if not failure.is_temporary and failure.error in {"unauthorized_client", "access_denied"}:
            return refused(failure, self._delegation(key))
        if not failure.is_temporary and failure.error == "invalid_grant":
            return refused(failure, _likely_cause(failure.description.lower(), key, subject))
        return unattended_problem(failure)

    def _delegation(self, key: _Key) -> Said:
        client = key.client_id or said("of {account}", account=key.email)
        return said(
            "The service account may not act for the people of this domain. A Google Workspace administrator must open "
            "admin.google.com, Security, Access and data control, API controls, Manage domain-wide delegation, and add "
            "the client ID {client} with the scope {scope}. Google may take some hours to apply it.",
            client=client,
            scope=", ".join(self._scopes),
        )


def _likely_cause(text: str, key: _Key, subject: str) -> Said:
    """What an invalid_grant most likely means, by Google's description."""
    if "timeframe" in text or "short-lived" in text or "iat" in text.replace(",", " ").split():
        return said(
            "The clock of this computer is wrong by more than a few minutes, so Google does not believe what it signs: "
            "the administrator must set it."
        )
    if "signature" in text:
        return said(
            "Google does not know this key any more: it was deleted, or it has been disabled. The administrator must "
            "make a new key for {account} and put its file in place. If the key is new, check this computer's clock.",
            account=key.email,
        )
    if "account not found" in text:
        return said(
            "The service account {account} does not exist any more: the administrator must make another one.",
            account=key.email,
        )
    if "email" in text:
        return said(
            "There is no mailbox {mailbox} in this Google Workspace, or it is suspended: its administrator must check.",
            mailbox=subject,
        )
    return said(
        "Google does not let the service account act for {mailbox}. Most likely that mailbox was deleted or "
        "suspended, or the clock of this computer is wrong: the administrator must look at both.",
        mailbox=subject,
    )
