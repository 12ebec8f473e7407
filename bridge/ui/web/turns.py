"""One visitor in each turn of the loop: if hundreds come at once, they wait for each other, and mail for none."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable


class Turns:
    """The loop runs everything that is ready before it polls again: the work for 500 simultaneous visitors would be one
    turn, of half a second and more, in which no mail program is served. Here they come one by one, in their order."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], bool]] = deque()
        self._is_taken = False

    def take(self, use: Callable[[], bool]) -> bool:
        """Call `use` now, if nobody else has this turn; otherwise in a later one.

        Args: use, returns False if it no longer needs the turn, which then goes to the next one.
        Returns: False if it has to wait.
        """
        if self._is_taken:
            self._waiting.append(use)
            return False
        self._is_taken = True
        asyncio.get_running_loop().call_soon(self._next)
        use()
        return True

    def next(self, use: Callable[[], bool]) -> None:
        """Called by the holder of this turn: take the next one as well, before all who wait. The visitor's data is
        still in the processor's caches: with others in between, each piece costs half as much again."""
        self._waiting.appendleft(use)

    async def mine(self) -> None:
        """Wait for a turn of one's own. A waiter that is cancelled meanwhile uses up no turn."""
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
