"""At a stop, tells each client that has not logged in yet, once, so that its connection does not end without a word."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Tell = Callable[[], None]


class Stopping:
    """One for each process. Nothing here waits: each session tells its own mail client in its own time."""

    def __init__(self) -> None:
        self._waiting: set[Tell] = set()
        self.has_begun = False

    def begin(self) -> None:
        """Tell all sessions. Idempotent."""
        if not self.has_begun:
            self.has_begun = True
            for tell in list(self._waiting):
                tell()

    @contextmanager
    def told(self, tell: Tell) -> Iterator[None]:
        """In the body, `tell` is called once when the stop begins; at once if it has begun."""
        self._waiting.add(tell)
        try:
            if self.has_begun:
                tell()
            yield
        finally:
            self._waiting.discard(tell)
