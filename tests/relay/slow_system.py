"""An operating system that takes its time to say which user a connection belongs to."""

from __future__ import annotations

import asyncio

from bridge.model import Caller, Ends

GONE = Caller(unknown="the connection is closed already")


class SlowSystem:
    """Answers with `caller` once `answer` is set; for a connection that has ended it answers GONE at once."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self.asked, self.answer = asyncio.Event(), asyncio.Event()

    async def caller_of(self, ends: Ends | None) -> Caller:
        """See Services."""
        if ends is None:
            return GONE
        self.asked.set()
        await self.answer.wait()
        return self.caller
