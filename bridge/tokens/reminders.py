"""How often a refusal of our registration is news: once for all accounts that it stops, and ever more seldom."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.clock import Clock
from bridge.errors import ProviderRefused
from bridge.model import Account
from bridge.oauth.base import Provider

REMIND_EVERY = 600.0
"""Seconds between two notices for one account: a CRM tries every minute, a person wants to hear it once."""
REMIND_LAST = 86400.0
"""Seconds up to which the pause doubles from notice to notice, of a refusal: over a weekend nobody renews a secret."""
REMINDER_LIFE = 7 * REMIND_LAST
"""Seconds after which a refusal that was not told again is over: a bridge runs for years, and mailboxes come and go. If
it does come back its pauses begin anew, so longer than an office is closed."""


@dataclass(slots=True)
class Reminder:
    """Of a refusal, to whoever must act."""

    provider: Provider | None
    """A changed configuration brings another one: what that one is refused is news."""
    at: float
    """Monotonic; when it was told last."""
    pause: float = REMIND_EVERY
    """Seconds until it is told again."""


class Reminders:
    """Of all refusals that last until an administrator acts."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._reminders: dict[tuple[str, str, str], Reminder] = {}
        """By provider, whom it concerns, and row of the table of advice."""

    def note(self, account: Account, problem: ProviderRefused, provider: Provider | None) -> bool:
        """The provider, by this adapter, has refused just now. Returns: True if scripts are to hear of it."""
        advice = problem.diagnosis.advice if problem.diagnosis is not None else None
        stops_many = advice is not None and advice.level == "error"
        # By domain, since each has administrators of its own: one may have allowed the app, and another not.
        whom = _domain(account) if stops_many else account.address
        key, now = (account.provider, whom, advice.key if advice is not None else ""), self._clock.monotonic()
        told = self._reminders.get(key)
        if told is None or told.provider is not provider:
            kept = self._reminders.items()
            self._reminders = {which: one for which, one in kept if now - one.at < REMINDER_LIFE}
            self._reminders[key] = Reminder(provider, now)
            return True
        if now - told.at < told.pause:
            return False
        told.at, told.pause = now, min(2 * told.pause, REMIND_LAST)
        return True

    def begin_anew(self, account: Account) -> None:
        """It works: a refusal that comes now is another one."""
        for (name, whom, _), told in self._reminders.items():
            if name == account.provider and whom in {account.address, _domain(account)}:
                told.pause = REMIND_EVERY


def _domain(account: Account) -> str:
    return account.address.rpartition("@")[2]
