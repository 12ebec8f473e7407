"""How often a refusal of our registration is news: once for all accounts that it stops, then at growing intervals."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.clock import Clock
from bridge.errors import ProviderRefused
from bridge.model import Account
from bridge.oauth.base import Provider

REMIND_EVERY = 600.0
"""Seconds between two notices for one account: a CRM tries every minute, but a person wants to hear it once."""
REMIND_LAST = 86400.0
"""Seconds up to which the pause between notices of a refusal doubles: over a weekend nobody renews a secret."""
REMINDER_LIFE = 7 * REMIND_LAST
"""Seconds after which a refusal without a new notice is forgotten: a bridge runs for years, and mailboxes come and go.
If the refusal then comes back, its pauses begin anew, so this is longer than an office is closed."""


@dataclass(slots=True)
class Reminder:
    """The last notice of a refusal."""

    provider: Provider | None
    """The adapter that was refused; a changed configuration brings a new one, whose refusal is news."""
    at: float
    """Monotonic; when the last notice was sent."""
    pause: float = REMIND_EVERY
    """Seconds until the next notice."""


class Reminders:
    """The notices of all refusals that last until an administrator acts."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._reminders: dict[tuple[str, str, str], Reminder] = {}
        """By provider, domain or address concerned, and row of the table of advice."""

    def note(self, account: Account, problem: ProviderRefused, provider: Provider | None) -> bool:
        """Note that the provider has just refused this adapter. Returns: True if scripts are to be notified."""
        advice = problem.diagnosis.advice if problem.diagnosis is not None else None
        stops_many = advice is not None and advice.level == "error"
        # By domain, because each has its own administrators: one may have allowed the app, and another not.
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
        """A refresh has succeeded: a refusal after this is a new one."""
        for (name, whom, _), told in self._reminders.items():
            if name == account.provider and whom in {account.address, _domain(account)}:
                told.pause = REMIND_EVERY


def _domain(account: Account) -> str:
    return account.address.rpartition("@")[2]
