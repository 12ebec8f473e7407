"""Files that never answer, as those of a network drive whose server is gone; and no thread to ask them in."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest


def fall_silent(file: Path) -> Path:
    """In its place put one that never comes to an end of being opened. Returns: it."""
    if sys.platform == "win32":
        pytest.skip("no FIFO in a directory")
    file.unlink(missing_ok=True)
    os.mkfifo(file)
    return file


def release(file: Path) -> None:
    """Let all go that wait for it, and remove it."""
    with open(file, "r+b", buffering=0):  # both ends: to open one waits for the other
        file.unlink()


def no_thread(*_: object) -> None:
    """In place of Thread.start, where the system has no more of them."""
    raise RuntimeError("can't start new thread")
