"""Client secrets that are about to end, by the days that the configuration names (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from bridge.advice.diagnosis import Diagnosis
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
        """True if it no longer works."""
        return self.days < 0

    @property
    def diagnosis(self) -> Diagnosis:
        """What will happen, and whose turn it is."""
        row = {0: "secret.today", 1: "secret.tomorrow"}.get(self.days, "secret.ends")
        return Diagnosis.of(
            "secret.ended" if self.is_over else row,
            provider=self.provider,
            day=str(self.day),
            days=str(self.days),
        )


def expiring(config: Config, today: date) -> tuple[SecretExpiry, ...]:
    """Those that end within 30 days or have ended, the most urgent first."""
    found = [
        SecretExpiry(name, provider.client_secret_expires, (provider.client_secret_expires - today).days)
        for name, provider in config.providers.items()
        if provider.client_secret_expires is not None
    ]
    return tuple(sorted((one for one in found if one.days <= WARN_DAYS), key=lambda one: one.days))
