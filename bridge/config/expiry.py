"""Client secrets that are about to end, by the days that the configuration names (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from bridge.config.schema import Config

WARN_DAYS = 30
"""A registration often belongs to somebody who has to be asked; a month is enough for that, and not yet noise."""
URGENT_DAYS = 7


@dataclass(frozen=True, slots=True)
class SecretExpiry:
    """The client secret, or certificate, of one provider."""

    provider: str
    day: date
    """The last on which it works."""
    days: int
    """From today until then; negative once it is over."""

    @property
    def is_over(self) -> bool:
        """True if it works no more."""
        return self.days < 0

    @property
    def sentence(self) -> str:
        """What will happen, and whose turn it is."""
        remedy = "The administrator must make a new one at the provider, and configure it with its last day."
        if self.is_over:
            return f"The client secret of {self.provider} ended on {self.day}: its tokens cannot be renewed. {remedy}"
        when = {0: "today", 1: "tomorrow"}.get(self.days, f"in {self.days} days, on {self.day}")
        return f"The client secret of {self.provider} ends {when}; then nobody's mail works there any more. {remedy}"


def expiring(config: Config, today: date) -> tuple[SecretExpiry, ...]:
    """Those that end within 30 days or have ended, the most urgent first."""
    found = [
        SecretExpiry(name, provider.client_secret_expires, (provider.client_secret_expires - today).days)
        for name, provider in config.providers.items()
        if provider.client_secret_expires is not None
    ]
    return tuple(sorted((one for one in found if one.days <= WARN_DAYS), key=lambda one: one.days))
