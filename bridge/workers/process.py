"""A worker's process as the bridge sees it; host starts one. Apart from the pool, which a worker has no use for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol as Interface

from bridge.workers.link import Passage


class Process(Interface):
    """A worker's process."""

    passage: Passage
    """Our end."""
    pid: int

    async def wait(self) -> str:
        """Until it has ended. Returns: how, in words for the log."""
        ...

    def kill(self) -> None:
        """Now."""
        ...


StartWorker = Callable[[], Awaitable[Process]]
"""Raises: BridgeError."""
