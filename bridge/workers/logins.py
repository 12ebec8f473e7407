"""A worker's memory of logins that the bridge has allowed: the same one again is not asked about for a while."""

from __future__ import annotations

import hashlib
import hmac
import secrets

from bridge.clock import Clock
from bridge.model import AccessToken, Account, Login

REMEMBERED_SECONDS = 3600.0
"""Mail programs look for mail every few minutes, some once in half an hour. Whatever changes, local passwords too, the
bridge says: at once what it changes itself, within seconds what another one on the same store does. A token is another
one sooner than that, as a rule, and then the login is asked about again."""
CALLER_SECONDS = 300.0
"""The same where it was right for one caller: that the system knows him by another name now, nobody says."""
REMEMBERED = 4096
"""Logins; when it is full the memory starts anew."""


class RecentLogins:
    """Only those that were right. The same password with another spelling of the name is another; what an SMTP client
    calls itself does not matter, since it opens nothing.

    `whose` is the caller for whom it was right, as Caller.key has it and as the bridge says it; empty for all.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._found: dict[bytes, tuple[Account, AccessToken, float]] = {}
        self._logins_of: dict[str, set[bytes]] = {}
        """By the account's address: where a mail server refuses thousands, all of them are forgotten, one by one."""
        self.generation = 0
        """Another one whenever something was forgotten."""
        self._changed: dict[str, int] = {}
        """By address in lower case, the generation that began with its last change."""
        self._all_changed = 0
        """The same of the last change about all."""

    def find(self, login: Login, whose: str) -> tuple[Account, AccessToken] | None:
        """Account and token of the same login, for all or for this caller, if that was not long ago and the token is
        fresh."""
        found = self._found.get(self._digest(login, ""))
        if found is None and whose:
            found = self._found.get(self._digest(login, whose))
        if found is None or found[2] < self._clock.monotonic() or not found[1].is_fresh(self._clock.now()):
            return None
        return found[:2]

    def add(self, login: Login, whose: str, account: Account, token: AccessToken, *, asked_in: int) -> None:
        """It was right, when it was asked about in that generation: meanwhile something may have changed about it. Not
        about others: of thousands one has a new token in each second, and to open a mailbox takes as long."""
        if asked_in < max(self._changed.get(account.address.lower(), 0), self._all_changed):
            return
        if len(self._found) >= REMEMBERED:
            self._clear()
        until = self._clock.monotonic() + (CALLER_SECONDS if whose else REMEMBERED_SECONDS)
        digest = self._digest(login, whose)
        self._found[digest] = account, token, until
        self._logins_of.setdefault(account.address.lower(), set()).add(digest)

    def forget(self, address: str = "") -> None:
        """Something has changed about this account, or about all."""
        self.generation += 1
        name = address.lower()
        if not address:
            self._clear()
        for digest in self._logins_of.pop(name, ()):
            self._found.pop(digest, None)
        self._changed[name] = self.generation
        if not address or len(self._changed) > REMEMBERED:
            self._changed.clear()
            self._all_changed = self.generation

    def _clear(self) -> None:
        self._found.clear()
        self._logins_of.clear()

    def _digest(self, login: Login, whose: str) -> bytes:
        """The password itself is not kept."""
        said = whose, login.protocol.value, login.username, login.password.reveal()
        return hmac.digest(self._key, repr(said).encode(), hashlib.sha256)
