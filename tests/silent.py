"""Files that never answer, like those of a network drive whose server is gone; and a system without free threads."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest


def fall_silent(file: Path) -> Path:
    """Replace `file` by a FIFO, whose open() never returns. Returns: `file`."""
    if sys.platform == "win32":
        pytest.skip("no FIFO in a directory")
    file.unlink(missing_ok=True)
    os.mkfifo(file)
    return file


def release(file: Path) -> None:
    """Release every process that waits for it, and remove it."""
    with open(file, "r+b", buffering=0):  # opens both ends, since opening one end waits for the other
        file.unlink()


def no_thread(*_: object) -> None:
    """Replaces Thread.start, as if the system had no thread left."""
    raise RuntimeError("can't start new thread")
