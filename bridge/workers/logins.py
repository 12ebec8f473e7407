"""A worker's memory of logins that the bridge has allowed: for a while it need not ask again about the same one."""

from __future__ import annotations

import hashlib
import hmac
import secrets

from bridge.clock import Clock
from bridge.model import AccessToken, Account, Login

REMEMBERED_SECONDS = 3600.0
"""Mail programs look for mail every few minutes, some once in half an hour. The bridge reports every change, even of
local passwords: its own at once, those of another bridge on the same store within seconds. As a rule a new token comes
sooner than this, and then the bridge is asked again."""
CALLER_SECONDS = 300.0
"""The same for a login that was right for one caller: nobody reports that a user was renamed."""
REMEMBERED = 4096
"""The most logins; when the memory is full, it is emptied."""


class RecentLogins:
    """Remembers only right logins. Another spelling of the user name is another login; what an SMTP client calls itself
    does not matter, since that opens nothing, nor whether the login before it was wrong.

    `whose`: the Caller.key for which the login was right, as the bridge says; empty for all callers.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._found: dict[bytes, tuple[Account, AccessToken, float]] = {}
        self._logins_of: dict[str, set[bytes]] = {}
        """By the account's address, so that forgetting one account is quick: when a mail server refuses thousands of
        them, each is forgotten in turn."""
        self.generation = 0
        """Goes up whenever something is forgotten."""
        self._changed: dict[str, int] = {}
        """By address in lower case, the generation that began with its last change."""
        self._all_changed = 0
        """The generation that began with the last change that concerned all accounts."""

    def find(self, login: Login, whose: str) -> tuple[Account, AccessToken] | None:
        """Account and token of the same login, for all callers or for this one, if it is still remembered and the token
        is fresh."""
        found = self._found.get(self._digest(login, ""))
        if found is None and whose:
            found = self._found.get(self._digest(login, whose))
        if found is None or found[2] < self._clock.monotonic() or not found[1].is_fresh(self._clock.now()):
            return None
        return found[:2]

    def add(self, login: Login, whose: str, account: Account, token: AccessToken, *, asked_in: int) -> None:
        """Remember a login that was right when the bridge was asked, in generation `asked_in`; unless its account has
        changed since. Changes of other accounts do not count: among thousands, one gets a new token every second, and
        opening a mailbox takes as long."""
        if asked_in < max(self._changed.get(account.address.lower(), 0), self._all_changed):
            return
        if len(self._found) >= REMEMBERED:
            self._clear()
        until = self._clock.monotonic() + (CALLER_SECONDS if whose else REMEMBERED_SECONDS)
        digest = self._digest(login, whose)
        self._found[digest] = account, token, until
        self._logins_of.setdefault(account.address.lower(), set()).add(digest)

    def forget(self, address: str = "") -> None:
        """Forget the logins of this account, or of all, because something has changed."""
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
        """A keyed hash, so that the password itself is not kept."""
        said = whose, login.protocol.value, login.username, login.password.reveal()
        return hmac.digest(self._key, repr(said).encode(), hashlib.sha256)
