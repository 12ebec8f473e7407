"""The event loop that the program runs on: asyncio's own, or one that costs a relay less, or outlives more."""

from __future__ import annotations

import asyncio
import sys


def new_event_loop() -> asyncio.AbstractEventLoop:
    """For asyncio.Runner's `loop_factory`."""
    if sys.platform == "linux":
        from bridge.host.loop_linux import DirectLoop

        return DirectLoop()
    if sys.platform == "win32":
        from bridge.host.loop_windows import ServingLoop

        return ServingLoop()
    return asyncio.new_event_loop()
