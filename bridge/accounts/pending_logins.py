"""Remembers which programs want a mailbox that somebody must sign in for, with the hash of a first-use password."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from bridge.accounts.password_record import Kept
from bridge.clock import Clock
from bridge.model import Caller
from bridge.secret import Secret
from bridge.shares import Shares

LIFE = 900.0
"""Seconds that a login is remembered: from the CRM's first try to the end of a sign-in with a second factor. Each
further try of the CRM renews it."""
ADDRESSES = 4096
"""The most addresses remembered: a `*@domain` pattern has countless ones."""
CALLERS = 8
"""The most callers remembered for each address; the latest ones."""
PASSWORDS = 2
"""The most passwords of one caller for one address: a caller that tries many loses its own, not another caller's."""
TELL_EVERY = 600.0
"""Seconds between two notices to the person, for one address."""
NEWS = 50
"""The most notices in that time caused by one caller's programs: otherwise one user could drown the notices of
others."""


@dataclass(slots=True)
class PendingLogin:
    """A login that was told to sign in; a program that tries again has one, however often it does."""

    key: str
    """Random; identifies this login in a page's form."""
    caller: Caller
    at: float
    """By the monotonic clock."""
    program: str = ""
    is_looked_at: bool = False
    """True once the system was asked which program it is."""
    kept: Kept | None = None
    """Hash of the password that the program sent; None if that was the right one, which is known already."""


class PendingLogins:
    """One for each process. Anybody may make up addresses below a pattern, but only at the cost of their own
    entries."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._logins: dict[str, list[PendingLogin]] = {}
        self._shares = Shares()
        """The addresses of each caller, in the order of that caller's logins."""
        self._told: dict[str, float] = {}
        self._news: dict[str, list[float]] = {}
        """By caller: when a person was told of what that caller's programs wanted."""

    def note(self, address: str, caller: Caller, password: Secret[bytes] | None = None) -> PendingLogin:
        """Remember a login; `password` if its hash is to be kept. Returns: the entry, an older one if it is the
        same."""
        logins = list(self._logins.get(address, []))
        mine = [login for login in logins if login.caller.key == caller.key]
        found = next((login for login in reversed(mine) if _is_same(login, password)), None)
        if found is None:
            found = PendingLogin(
                secrets.token_urlsafe(12), caller, 0.0, kept=None if password is None else Kept.of(password)
            )
            for old in mine[: len(mine) - PASSWORDS + 1]:
                logins.remove(old)
        else:
            logins.remove(found)
        found.at = self._clock.monotonic()
        logins.append(found)
        while len(_callers(logins)) > CALLERS:
            logins.pop(0)
        self._keep(address, logins)
        self._shares.add(caller.key, address)
        while len(self._logins) > ADDRESSES:
            self._make_room()
        return found

    def _make_room(self) -> None:
        """Forget the oldest login of the caller who has logins for the most addresses."""
        greedy, address = self._shares.next_to_go()
        self._keep(address, [login for login in self._logins[address] if login.caller.key != greedy])

    def of(self, address: str) -> list[PendingLogin]:
        """The logins for this address, the latest first."""
        since = self._clock.monotonic() - LIFE
        logins = [login for login in self._logins.get(address, []) if login.at > since]
        self._keep(address, logins)
        return logins[::-1]

    def _keep(self, address: str, logins: list[PendingLogin]) -> None:
        """Replace the logins for this address; those of new callers are not counted yet."""
        for gone in _callers(self._logins.pop(address, [])) - _callers(logins):
            self._shares.remove(gone, address)
        if logins:
            self._logins[address] = logins
        else:
            self._told.pop(address, None)

    def is_news(self, address: str) -> bool:
        """True if the person should be told now of the latest login; then False for TELL_EVERY seconds."""
        now = self._clock.monotonic()
        if now - self._told.get(address, -TELL_EVERY) < TELL_EVERY:
            return False
        logins = self._logins.get(address)
        if logins:
            if not self._may_tell(logins[-1].caller.key, now):
                return False
            self._told[address] = now
        return True

    def _may_tell(self, caller: str, now: float) -> bool:
        """True unless this caller's programs have caused enough notices lately; counts one more."""
        if not caller:
            return True  # callers that the system does not know cannot be told apart
        news = self._news[caller] = [at for at in self._news.get(caller, []) if now - at < TELL_EVERY]
        if len(news) >= NEWS:
            return False
        news.append(now)
        if len(self._news) > ADDRESSES:
            del self._news[next(iter(self._news))]
        return True

    def forget(self, address: str) -> None:
        """Drop the logins for this address: the person has answered."""
        self._keep(address, [])


def _callers(logins: list[PendingLogin]) -> set[str]:
    return {login.caller.key for login in logins}


def _is_same(login: PendingLogin, password: Secret[bytes] | None) -> bool:
    if password is None:
        return True  # no password to compare: the caller alone identifies the login
    return login.kept is not None and login.kept.matches(password)
