"""An operating system that takes its time to say whose a connection is."""

from __future__ import annotations

import asyncio

from bridge.model import Caller, Ends

GONE = Caller(unknown="the connection is closed already")


class SlowSystem:
    """Its answer is `caller`, once `answer` is set; of a connection that has ended it is GONE, at once."""

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
