"""A clock that tests set forward, so that no test waits for a time limit."""

from __future__ import annotations

import asyncio

import pytest

from bridge.errors import LimitReached
from bridge.model import Login
from bridge.relay.frontend import Frontend
from tests.relay.scripted import MailClient

TURNS = 20
"""How often the loop runs after the clock was set, so that everything due has happened."""


class Later:
    """The loop's clock, which a test sets forward."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loop = asyncio.get_running_loop()
        self._seconds, real = 0.0, loop.time
        monkeypatch.setattr(loop, "time", lambda: real() + self._seconds)

    async def by(self, seconds: float) -> None:
        """Let every task reach its wait first, then set the clock forward."""
        for passing in (0.0, seconds):
            self._seconds += passing
            for _ in range(TURNS):
                await asyncio.sleep(0)


async def login_at(frontend: Frontend) -> Login | LimitReached:
    """The next login, or the error that none came in time."""
    try:
        return await frontend.login()
    except LimitReached as problem:
        return problem


async def after_a_minute(frontend: Frontend, client: MailClient, later: Later, *lines: bytes) -> Login | LimitReached:
    """The result for a client that says nothing for a minute and then sends these lines."""
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(login_at(frontend))
        await later.by(60)
        await client.say(*lines)
    return waiting.result()
