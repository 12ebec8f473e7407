"""Who is waited for by a `*@domain` line before anything is stored of them: their mail program has asked for them."""

from __future__ import annotations

from collections.abc import Callable

from bridge.clock import Clock
from bridge.model import Account
from bridge.notices import AuthorizationNeeded, Authorized, Forgotten, Notice, RefreshFailed

KEPT = 24 * 3600.0
"""Seconds after they were told of last: whoever closes the mail program in the evening is not new in the morning, nor
told anew. A mailbox that was taken out of it is over."""
MOST = 4096
"""Addresses; those whose programs asked last. Each has a local password that somebody was given."""


class Newcomers:
    """One for each process; in memory only, since a mail program asks again."""

    def __init__(self, find: Callable[[str], Account | None], clock: Clock) -> None:
        self._find = find
        self._clock = clock
        self._told: dict[str, float] = {}
        """When last, by the monotonic clock; in the order in which they came."""

    def take(self, notice: Notice) -> None:
        """For the bus: somebody must sign in or, where nobody does, the provider has refused; until that is over, or
        somebody has given the account up."""
        match notice:
            case AuthorizationNeeded(address=address) | RefreshFailed(address=address):
                self._note(address)
            case Authorized(address=address) | Forgotten(address=address):
                self._told.pop(address, None)
            case _:
                pass

    def _note(self, address: str) -> None:
        """Where a first password is still to be kept, any one is told to sign in: who has made up a name by that is no
        newcomer."""
        account = self._find(address)
        if account is not None and account.is_first_use:
            return
        self._told[address] = self._clock.monotonic()
        if len(self._told) > MOST:
            del self._told[min(self._told, key=self._told.__getitem__)]

    def accounts(self) -> list[Account]:
        """Those that the configuration knows, the first first; some may have signed in by now."""
        since = self._clock.monotonic() - KEPT
        self._told = {address: at for address, at in self._told.items() if at > since}
        return [account for account in map(self._find, self._told) if account is not None]
