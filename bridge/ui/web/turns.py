"""One visitor in each turn of the loop: of hundreds who come at once each waits for some others, and mail for none."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable


class Turns:
    """The loop does all that has come before it looks again: what 500 visitors make it do in the same moment is one
    turn, of half a second and more, in which no mail program is heard. Here they come one by one, in their order."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], bool]] = deque()
        self._is_taken = False

    def take(self, use: Callable[[], bool]) -> bool:
        """Call it now, if nobody else has this turn; else in a later one.

        Args: use, returns False if nobody wants the turn any more: then it is the next one's.
        Returns: False if it is to wait.
        """
        if self._is_taken:
            self._waiting.append(use)
            return False
        self._is_taken = True
        asyncio.get_running_loop().call_soon(self._next)
        use()
        return True

    def next(self, use: Callable[[], bool]) -> None:
        """For who has this turn: the next one as well, before all who wait. What a visitor's last piece was about is in
        the processor's caches still: with others in between each piece costs half as much again."""
        self._waiting.appendleft(use)

    async def mine(self) -> None:
        """Wait until nobody else has this turn. Whoever gives up meanwhile costs nobody else one."""
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def use() -> bool:
            if mine.done():
                return False
            mine.set_result(None)
            return True

        if not self.take(use):
            await mine

    def _next(self) -> None:
        """Give the next turn of the loop to whoever waits."""
        if not self._waiting:
            self._is_taken = False
            return
        try:
            while self._waiting and not self._waiting.popleft()():
                pass
        finally:
            asyncio.get_running_loop().call_soon(self._next)  # only after the visitor woken above has had its turn
