"""The event loop that the program runs on: asyncio's own, or one that costs a relay less where there is one."""

from __future__ import annotations

import asyncio
import sys


def new_event_loop() -> asyncio.AbstractEventLoop:
    """For asyncio.Runner's `loop_factory`."""
    if sys.platform == "linux":
        from bridge.host.loop_linux import DirectLoop

        return DirectLoop()
    return asyncio.new_event_loop()
