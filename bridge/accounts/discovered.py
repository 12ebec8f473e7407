"""Accounts below a `*@domain` line whose mail program has asked for them, but of which nothing is stored yet."""

from __future__ import annotations

from collections.abc import Callable

from bridge.clock import Clock
from bridge.model import Account
from bridge.notices import AuthorizationNeeded, Authorized, Forgotten, Notice, RefreshFailed

KEPT = 24 * 3600.0
"""Seconds after the last notice: a person who closes the mail program in the evening is not new in the morning, and
gets no second notice. A mailbox that was removed from the mail program is forgotten after this."""
MOST = 4096
"""The most addresses; those whose programs asked last. Each has a local password that somebody was given."""


class DiscoveredAccounts:
    """One for each process; in memory only, since a mail program asks again."""

    def __init__(self, find: Callable[[str], Account | None], clock: Clock) -> None:
        self._find = find
        self._clock = clock
        self._told: dict[str, float] = {}
        """When the last notice came, by the monotonic clock; in the order of the first notice."""

    def take(self, notice: Notice) -> None:
        """For the bus. An account is noted when somebody must sign in (or, for an unattended provider, when a refresh
        has failed), until somebody has signed in or the account is given up."""
        match notice:
            case AuthorizationNeeded(address=address) | RefreshFailed(address=address):
                self._note(address)
            case Authorized(address=address) | Forgotten(address=address):
                self._told.pop(address, None)
            case _:
                pass

    def _note(self, address: str) -> None:
        """Accounts that keep their first password are not noted: there any password leads to this notice, even for a
        made-up name."""
        account = self._find(address)
        if account is not None and account.is_first_use:
            return
        self._told[address] = self._clock.monotonic()
        if len(self._told) > MOST:
            del self._told[min(self._told, key=self._told.__getitem__)]

    def accounts(self) -> list[Account]:
        """The accounts that the configuration still has, in the order of the first notice; some may have signed in by
        now."""
        since = self._clock.monotonic() - KEPT
        self._told = {address: at for address, at in self._told.items() if at > since}
        return [account for account in map(self._find, self._told) if account is not None]
