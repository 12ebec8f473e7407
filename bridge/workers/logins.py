"""A worker's memory of logins that the bridge has allowed: the same one again is not asked about for a while."""

from __future__ import annotations

import hashlib
import hmac
import secrets

from bridge.clock import Clock
from bridge.model import AccessToken, Account, Login

REMEMBERED_SECONDS = 300.0
"""Mail programs look for mail every few minutes. What the bridge changes, local passwords too, it says at once; one
that another bridge on the same store has stopped works on for so long."""
REMEMBERED = 4096
"""Logins; when it is full the memory starts anew."""


class RecentLogins:
    """Only those that were right. All of a login counts: the same password with another name is another.

    `whose` is the caller for whom it was right, as Caller.key has it and as the bridge says it; empty for all.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._found: dict[bytes, tuple[Account, AccessToken, float]] = {}
        self.generation = 0
        """Another one whenever something was forgotten."""

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
        """It was right, when it was asked about in that generation: meanwhile something may have changed."""
        if asked_in != self.generation:
            return
        if len(self._found) >= REMEMBERED:
            self._found.clear()
        self._found[self._digest(login, whose)] = account, token, self._clock.monotonic() + REMEMBERED_SECONDS

    def forget(self, address: str = "") -> None:
        """Something has changed about this account, or about all."""
        self.generation += 1
        self._found = {key: found for key, found in self._found.items() if address and found[0].address != address}

    def _digest(self, login: Login, whose: str) -> bytes:
        """The password itself is not kept."""
        said = whose, login.protocol.value, login.username, login.password.reveal(), login.client_name
        return hmac.digest(self._key, repr(said).encode(), hashlib.sha256)
