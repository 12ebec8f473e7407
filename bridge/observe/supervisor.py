"""Keeps helpers of the whole program running: what a bug ends is begun again, and costs nobody a session."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from bridge.clock import Clock
from bridge.observe.logs import fault

PAUSE = 30.0
"""Seconds; a bug that comes back at once must not fill the log, nor the processor."""


async def kept(name: str, run: Callable[[], Awaitable[None]], clock: Clock) -> None:
    """`run` until it is cancelled or returns; a bug of it is logged under `name`, and it runs again after PAUSE."""
    while True:
        try:
            return await run()
        except Exception as bug:  # noqa: BLE001  a supervisor: this helper begins anew, the bridge goes on
            fault("helper.bug", helper=name, error=bug)
        await clock.pause(PAUSE)
