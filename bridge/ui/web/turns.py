"""One visitor in each turn of the loop: of hundreds who come at once each waits for some others, and mail for none."""

from __future__ import annotations

import asyncio
from collections import deque


class Turns:
    """The loop does all that has come before it looks again: what 500 visitors make it do in the same moment is one
    turn, of half a second and more, in which no mail program is heard. Here they come one by one, in their order."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_taken = False

    async def mine(self) -> None:
        """Wait until nobody else has this turn. Whoever gives up meanwhile costs nobody else one."""
        loop = asyncio.get_running_loop()
        if not self._is_taken:
            self._is_taken = True
            loop.call_soon(self._next)
            return
        mine: asyncio.Future[None] = loop.create_future()
        self._waiting.append(mine)
        await mine

    def _next(self) -> None:
        """In the turn that follows."""
        while self._waiting:
            mine = self._waiting.popleft()
            if not mine.done():
                mine.set_result(None)
                asyncio.get_running_loop().call_soon(self._next)
                return
        self._is_taken = False
