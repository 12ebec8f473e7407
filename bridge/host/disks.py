"""What a file system does that a program has to know of: by statfs(2), which tells its kind and Python does not."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

BTRFS, BCACHEFS = 0x9123683E, 0xCA451A4E
"""linux/magic.h."""


class _Found(ctypes.Structure):
    """struct statfs of Linux, as far as it is read; the rest is shorter than that."""

    _fields_ = (("kind", ctypes.c_long), ("_rest", ctypes.c_char * 512))


def copies_on_write(place: Path) -> bool:
    """True where whatever is written over gets a new place first, of which a full disk has none: then even a file that
    is as large as it will be cannot be written to, and who does so by a map of it is ended (SIGBUS).
    False where the system does not tell. Blocks."""
    if sys.platform != "linux":
        return False
    found = _Found()
    is_told = ctypes.CDLL(None).statfs(ctypes.c_char_p(os.fsencode(place)), ctypes.byref(found)) == 0
    return is_told and found.kind & 0xFFFFFFFF in {BTRFS, BCACHEFS}
