"""os.replace() and os.rename() that wait, on Windows, for whoever has one of the two files open for a moment."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

PAUSES = (0.02, 0.1, 0.4, 1.0) if os.name == "nt" else ()
"""Seconds between attempts: programs that read such a small file (an icon, a backup) are done after the first ones, but
a virus scanner, which opens each new file, may take a second on a busy server. (Go's own tools wait for two.)"""


def replace(source: Path, target: Path) -> None:
    """As os.replace(); may block for one and a half seconds. Raises: OSError."""
    _once_nobody_holds_it(lambda: os.replace(source, target))


def rename(source: Path, target: Path) -> None:
    """As os.rename() on Windows: the same, but only if the target does not exist. Raises: FileExistsError; OSError."""
    _once_nobody_holds_it(lambda: os.rename(source, target))


def _once_nobody_holds_it(move: Callable[[], None]) -> None:
    for seconds in PAUSES:
        try:
            return move()
        except PermissionError:
            time.sleep(seconds)
    return move()
