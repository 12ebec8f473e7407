"""Let the event loop turn while the kernel or another thread does its work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def until(holds: Callable[[], bool], seconds: float = 20) -> None:
    """Return once `holds` is true. Raises: TimeoutError if that takes longer than `seconds`."""
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0)
