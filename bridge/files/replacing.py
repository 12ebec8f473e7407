"""What waits, on Windows, for whoever has a file open for a moment: os.replace(), os.rename(), and any other call."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

PAUSES = (0.02, 0.1, 0.4, 1.0) if os.name == "nt" else ()
"""Seconds between attempts: programs that read such a small file (an icon, a backup) are done after the first ones, but
a virus scanner, which opens each new file, may take a second on a busy server. (Go's own tools wait for two.)"""


def replace(source: Path, target: Path) -> None:
    """As os.replace(); may block for one and a half seconds. Raises: OSError."""
    once_nobody_holds_it(lambda: os.replace(source, target))


def rename(source: Path, target: Path) -> None:
    """As os.rename() on Windows: the same, but only if the target does not exist. Raises: FileExistsError; OSError."""
    once_nobody_holds_it(lambda: os.rename(source, target))


def once_nobody_holds_it(call: Callable[[], T]) -> T:
    """The same for any call: what it returns. Raises: what it raises at last."""
    for seconds in PAUSES:
        try:
            return call()
        except PermissionError:
            time.sleep(seconds)
    return call()
