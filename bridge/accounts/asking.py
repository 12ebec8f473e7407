"""Who wants a mailbox that somebody must sign in for: in memory, for a while, with the hash of a first password."""

from __future__ import annotations

import secrets
from collections import Counter, OrderedDict
from dataclasses import dataclass

from bridge.accounts.passwords import Kept
from bridge.clock import Clock
from bridge.model import Caller
from bridge.secret import Secret

LIFE = 900.0
"""Seconds that a login is remembered: from the CRM's first try to the end of a sign-in with a second factor. A CRM that
goes on trying is remembered anew."""
ADDRESSES = 4096
"""Below a `*@domain` pattern they are without number."""
CALLERS = 8
"""For each address; the latest ones."""
PASSWORDS = 2
"""Of one caller for one address: whoever tries many pushes out his own, not somebody else's."""
TELL_EVERY = 600.0
"""Seconds between two notices to the person, for one address."""
NEWS = 50
"""Notices within that time of what one caller's programs want: else one user could drown what others are told."""


@dataclass(slots=True)
class Ask:
    """One program's wish."""

    name: str
    """Random: what a page's form calls it."""
    caller: Caller
    at: float
    """By the monotonic clock."""
    program: str = ""
    is_looked_at: bool = False
    """The system was asked for the program."""
    kept: Kept | None = None
    """Of the password that it has shown; None where that was right and is known."""


class Asks:
    """All of one process. Below a pattern anybody may make up addresses: that costs nobody else theirs."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._asks: OrderedDict[str, list[Ask]] = OrderedDict()
        self._told: dict[str, float] = {}
        self._news: dict[str, list[float]] = {}
        """By caller: when somebody was told of what they wanted."""

    def note(self, address: str, caller: Caller, password: Secret[bytes] | None = None) -> Ask:
        """Remember this login; `password` where it is to be kept. Returns: the entry, an old one if it is the same."""
        asks = self._asks.setdefault(address, [])
        self._asks.move_to_end(address)
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
        while len({ask.caller.key for ask in asks}) > CALLERS:
            asks.pop(0)
        while len(self._asks) > ADDRESSES:
            self._make_room()
        return found

    def _make_room(self) -> None:
        """Forget the oldest wish of the caller who has the most."""
        numbers = Counter(ask.caller.key for asks in self._asks.values() for ask in asks)
        ((greedy, _),) = numbers.most_common(1)
        oldest = next(address for address, asks in self._asks.items() if any(ask.caller.key == greedy for ask in asks))
        self._keep(oldest, [ask for ask in self._asks[oldest] if ask.caller.key != greedy])

    def of(self, address: str) -> list[Ask]:
        """Of this address, the latest first."""
        since = self._clock.monotonic() - LIFE
        asks = [ask for ask in self._asks.get(address, []) if ask.at > since]
        self._keep(address, asks)
        return asks[::-1]

    def _keep(self, address: str, asks: list[Ask]) -> None:
        if asks:
            self._asks[address] = asks
        else:
            self.forget(address)

    def is_news(self, address: str) -> bool:
        """True if the person should be told now of what was noted; not again for a while."""
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
        """True unless this caller's programs have made enough news lately; it is noted that there is one more."""
        if not caller:
            return True  # all that are not known are one
        news = self._news[caller] = [at for at in self._news.get(caller, []) if now - at < TELL_EVERY]
        if len(news) >= NEWS:
            return False
        news.append(now)
        if len(self._news) > ADDRESSES:
            del self._news[next(iter(self._news))]
        return True

    def forget(self, address: str) -> None:
        """The person has answered."""
        self._asks.pop(address, None)
        self._told.pop(address, None)


def _is_same(ask: Ask, password: Secret[bytes] | None) -> bool:
    if password is None:
        return True  # who it is, is known; whatever password that was
    return ask.kept is not None and ask.kept.matches(password)
