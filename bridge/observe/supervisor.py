"""Keeps helpers of the whole program running: a helper that a bug ends is started again, and nobody loses a session."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from bridge.clock import Clock
from bridge.observe.logs import fault

PAUSE = 30.0
"""Seconds; a bug that recurs at once must not fill the log or load the processor."""


async def kept(name: str, run: Callable[[], Awaitable[None]], clock: Clock) -> None:
    """Run `run` until it is cancelled or returns; a bug in it is logged under `name`, and it runs again after PAUSE."""
    while True:
        try:
            return await run()
        except Exception as bug:  # noqa: BLE001  a supervisor: this helper is started again, the bridge goes on
            fault("helper.bug", helper=name, error=bug)
        await clock.pause(PAUSE)
