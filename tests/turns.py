"""Turns of the loop, for what the kernel or another thread does in its own time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def until(holds: Callable[[], bool], seconds: float = 20) -> None:
    """Raises: TimeoutError, where it is not so within them."""
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0)
