"""Turns of the loop, for what the kernel or another thread does in its own time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def until(holds: Callable[[], bool]) -> None:
    """Raises: TimeoutError, where it is not so within 20 seconds."""
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0)
