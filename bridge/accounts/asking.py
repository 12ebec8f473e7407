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
class Ask:
    """One program's wish."""

    name: str
    """Random; identifies this wish in a page's form."""
    caller: Caller
    at: float
    """By the monotonic clock."""
    program: str = ""
    is_looked_at: bool = False
    """True once the system was asked which program it is."""
    kept: Kept | None = None
    """Hash of the password that the program sent; None if that was the right one, which is known already."""


class Asks:
    """The wishes of one process. Anybody may make up addresses below a pattern, but only at the cost of their own
    wishes."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._asks: dict[str, list[Ask]] = {}
        self._shares = Shares()
        """The addresses of each caller, in the order of that caller's wishes."""
        self._told: dict[str, float] = {}
        self._news: dict[str, list[float]] = {}
        """By caller: when a person was told of what that caller's programs wanted."""

    def note(self, address: str, caller: Caller, password: Secret[bytes] | None = None) -> Ask:
        """Remember this login; `password` if its hash is to be kept. Returns: the entry, an older one if it is the
        same."""
        asks = list(self._asks.get(address, []))
        mine = [ask for ask in asks if ask.caller.key == caller.key]
        found = next((ask for ask in reversed(mine) if _is_same(ask, password)), None)
        if found is None:
            found = Ask(secrets.token_urlsafe(12), caller, 0.0, kept=None if password is None else Kept.of(password))
            for old in mine[: len(mine) - PASSWORDS + 1]:
                asks.remove(old)
        else:
            asks.remove(found)
        found.at = self._clock.monotonic()
        asks.append(found)
        while len(_callers(asks)) > CALLERS:
            asks.pop(0)
        self._keep(address, asks)
        self._shares.add(caller.key, address)
        while len(self._asks) > ADDRESSES:
            self._make_room()
        return found

    def _make_room(self) -> None:
        """Forget the oldest wish of the caller who has wishes for the most addresses."""
        greedy, address = self._shares.next_to_go()
        self._keep(address, [ask for ask in self._asks[address] if ask.caller.key != greedy])

    def of(self, address: str) -> list[Ask]:
        """The wishes for this address, the latest first."""
        since = self._clock.monotonic() - LIFE
        asks = [ask for ask in self._asks.get(address, []) if ask.at > since]
        self._keep(address, asks)
        return asks[::-1]

    def _keep(self, address: str, asks: list[Ask]) -> None:
        """Replace the wishes for this address; those of new callers are not counted yet."""
        for gone in _callers(self._asks.pop(address, [])) - _callers(asks):
            self._shares.remove(gone, address)
        if asks:
            self._asks[address] = asks
        else:
            self._told.pop(address, None)

    def is_news(self, address: str) -> bool:
        """True if the person should be told now of the latest wish; then False for TELL_EVERY seconds."""
        now = self._clock.monotonic()
        if now - self._told.get(address, -TELL_EVERY) < TELL_EVERY:
            return False
        asks = self._asks.get(address)
        if asks:
            if not self._may_tell(asks[-1].caller.key, now):
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
        """Drop the wishes for this address: the person has answered."""
        self._keep(address, [])


def _callers(asks: list[Ask]) -> set[str]:
    return {ask.caller.key for ask in asks}


def _is_same(ask: Ask, password: Secret[bytes] | None) -> bool:
    if password is None:
        return True  # no password to compare: the caller alone identifies the wish
    return ask.kept is not None and ask.kept.matches(password)
