"""Being called while there is something to read, by any loop; without a Handle for each call where the loop is ours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol


class Watching(Protocol):
    """Runs a callback when there is something to read."""

    def watch(self, descriptor: int, callback: Callable[[], None]) -> None:
        """Call back each time there is something to read, until rest() or unwatch()."""

    def rest(self, descriptor: int) -> None:
        """Pause; most likely watch() follows soon."""

    def unwatch(self, descriptor: int) -> None:
        """Stop for good."""


class _ByHandles:
    """For any loop with add_reader."""

    __slots__ = ("_loop",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def watch(self, descriptor: int, callback: Callable[[], None]) -> None:
        self._loop.add_reader(descriptor, callback)

    def unwatch(self, descriptor: int) -> None:
        self._loop.remove_reader(descriptor)

    rest = unwatch


def watching_of(loop: asyncio.AbstractEventLoop) -> Watching:
    """The loop of bridge.host.loop has a way of its own, without Handle and queue, and without a system call for each
    answer in a dialogue."""
    own: Watching | None = getattr(loop, "watching", None)
    return own or _ByHandles(loop)
