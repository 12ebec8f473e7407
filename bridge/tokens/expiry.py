"""Warns before client secrets expire: once 30 days ahead, and daily from 7 days ahead on."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime

from bridge.clock import Clock
from bridge.config.expiry import URGENT_DAYS, SecretExpiry, expiring
from bridge.config.schema import Config
from bridge.notices import NoticeBus, SecretExpiring
from bridge.observe.logs import trouble

LOOK_EVERY = 3600.0
"""Seconds. Days change at midnight, but a laptop may be asleep then."""


class SecretWatch:
    """An expired secret ends everybody's mail on the same day, so the administrator must be told before."""

    def __init__(self, config: Callable[[], Config], clock: Clock, bus: NoticeBus) -> None:
        """`config`: gives the configuration in force."""
        self._config = config
        self._clock = clock
        self._bus = bus
        self._told: dict[tuple[str, date], int] = {}
        """By provider and last day: how many days were left at the last warning."""

    async def run(self) -> None:
        """look() every hour, until cancelled."""
        while True:
            self.look()
            await self._clock.pause(LOOK_EVERY)

    def look(self) -> None:
        """Send the warnings that are due and were not sent yet."""
        for one in self.expiring():
            before = self._told.get((one.provider, one.day))
            is_set_back = before is not None and one.days > before  # the clock was fast at the last warning
            if before is None or is_set_back or (one.days <= URGENT_DAYS and one.days < before):
                self._told[one.provider, one.day] = one.days
                trouble("client_secret.expiring", provider=one.provider, day=str(one.day), reason=one.diagnosis.told())
                self._bus.publish(SecretExpiring(one.provider, str(one.day), one.days))

    def expiring(self) -> tuple[SecretExpiry, ...]:
        """As of today in local time, as in an administrator's calendar."""
        return expiring(self._config(), datetime.fromtimestamp(self._clock.now()).date())
