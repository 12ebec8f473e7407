"""How a delivery can end, and the interface to the platform code that starts programs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from bridge.errors import BridgeError


class HookFailed(BridgeError):
    """A program or a URL could not be told."""

    def __init__(self, reason: str, *, temporary: bool) -> None:
        super().__init__(reason)
        self.is_worth_another_try = temporary


@dataclass(frozen=True, slots=True)
class Ended:
    """A program that has ended by itself."""

    code: int
    output: str
    """The beginning of what it printed, standard error too."""


RunProgram = Callable[[Sequence[str], Mapping[str, str], float], Awaitable[Ended]]
"""Runs a program: its arguments, its environment besides the few variables that programs need, and a time limit.

Raises: HookFailed if it cannot be started (worth another try if that may pass), or has not ended in time and was killed
with all that it started.
"""
