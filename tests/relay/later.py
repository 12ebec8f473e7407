"""Time that goes by at once on the running loop."""

from __future__ import annotations

import asyncio

import pytest

from bridge.errors import LimitReached
from bridge.model import Login
from bridge.relay.frontend import Frontend
from tests.relay.scripted import MailClient

TURNS = 20
"""Of the loop, in which what was due has happened."""


class Later:
    """The loop's clock, which a test sets forward."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loop = asyncio.get_running_loop()
        self._seconds, real = 0.0, loop.time
        monkeypatch.setattr(loop, "time", lambda: real() + self._seconds)

    async def by(self, seconds: float) -> None:
        """Whoever was about to wait does so; then it is so much later."""
        for passing in (0.0, seconds):
            self._seconds += passing
            for _ in range(TURNS):
                await asyncio.sleep(0)


async def login_at(frontend: Frontend) -> Login | LimitReached:
    """The next one, or that there was none in time."""
    try:
        return await frontend.login()
    except LimitReached as problem:
        return problem


async def after_a_minute(frontend: Frontend, client: MailClient, later: Later, *lines: bytes) -> Login | LimitReached:
    """What comes of a client that says nothing for a minute, and then this."""
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(login_at(frontend))
        await later.by(60)
        await client.say(*lines)
    return waiting.result()
