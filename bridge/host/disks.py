"""The kind of a file system, where a program has to know it: by statfs(2), since Python does not tell."""

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
    """True where overwriting allocates new blocks first (copy-on-write): on a full disk, not even a file of its final
    size can be written to then, and a process that writes to it through mmap is killed (SIGBUS).
    False where the system does not tell. Blocks."""
    if sys.platform != "linux":
        return False
    found = _Found()
    is_told = ctypes.CDLL(None).statfs(ctypes.c_char_p(os.fsencode(place)), ctypes.byref(found)) == 0
    return is_told and found.kind & 0xFFFFFFFF in {BTRFS, BCACHEFS}
