"""What a supervisor does with an error: it is told, and a helper of the whole program is started again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from bridge.clock import Clock
from bridge.observe.logs import fault, trouble
from bridge.shortage import lacking, places

PAUSE = 30.0
"""Seconds; a bug that recurs at once must not fill the log or load the processor."""


def tell_of_end(what: str, problem: Exception, **fields: object) -> None:
    """Log what has ended a session or a helper: a bug with its traceback; what the process merely lacks, such as
    memory, in a sentence, beside the places."""
    if (reason := lacking(problem)) is None:
        fault(f"{what}.bug", error=problem, **fields)
    else:
        trouble(f"{what}.ended", reason=str(reason), places=places(problem), **fields)


async def kept(name: str, run: Callable[[], Awaitable[None]], clock: Clock) -> None:
    """Run `run` until it is cancelled or returns; a bug in it is logged under `name`, and it runs again after PAUSE."""
    while True:
        try:
            return await run()
        except Exception as bug:  # noqa: BLE001  a supervisor: this helper is started again, the bridge goes on
            tell_of_end("helper", bug, helper=name)
        await clock.pause(PAUSE)
