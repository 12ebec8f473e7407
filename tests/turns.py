"""Turns of the loop, for what the kernel or another thread does in its own time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def until(holds: Callable[[], bool]) -> None:
    """Raises: TimeoutError, where it is not so within a minute."""
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0)
