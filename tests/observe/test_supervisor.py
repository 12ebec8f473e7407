"""A helper task that fails with a bug is started again, and does not end any other."""

from __future__ import annotations

import asyncio
import io

from bridge.observe import supervisor
from tests.tokens.fakes import HandClock


async def test_a_helper_with_a_bug_is_begun_again_after_a_while(log: io.StringIO) -> None:
    clock = HandClock()
    begun: list[float] = []

    async def run() -> None:
        begun.append(clock.monotonic())
        if len(begun) < 3:
            async with asyncio.TaskGroup() as group:
                group.create_task(_bug())

    await supervisor.kept("renewal", run, clock)
    assert [at - begun[0] for at in begun] == [0, supervisor.PAUSE, 2 * supervisor.PAUSE]
    assert log.getvalue().count('"helper": "renewal"') == 2
    assert "KeyError" in log.getvalue()


async def _bug() -> None:
    raise KeyError("of ours")
