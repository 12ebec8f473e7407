"""A worker's process as the bridge sees it; bridge.host starts one. Apart from the pool, which workers do not need."""

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
        """Wait until it has ended. Returns: how it ended, in words for the log."""

    def kill(self) -> None:
        """Kill it at once."""


StartWorker = Callable[[], Awaitable[Process]]
"""Raises: BridgeError."""
