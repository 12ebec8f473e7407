"""What the disk that a store is on has no place for: tried, where SQLite's errors do not tell."""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path

from bridge.drafts import draft_of
from bridge.shortage import is_short

ROOM = 32 * 1024
"""Octets that SQLite wants of a disk at once, for its -shm file; while they are free, no error is for want of room."""


def why_unwritten(file: Path) -> int:
    """ENOSPC or EDQUOT, if nothing more fits beside it; EROFS where nothing may be written any more; else 0.
    Raises: OSError.

    A disk may tell of room that there is none in: btrfs of what it keeps for itself, and nearly all of what a quota
    leaves to others.
    """
    if shutil.disk_usage(file.parent).free < ROOM:
        return errno.ENOSPC
    try:
        handle, draft = draft_of(file)
        try:
            rest = os.urandom(ROOM)  # random, so that no file system can compress it
            while rest:
                rest = rest[os.write(handle, rest) :]
            os.fsync(handle)
        finally:
            os.close(handle)
            with suppress(OSError):
                draft.unlink()
    except OSError as problem:
        return problem.errno if problem.errno in {errno.ENOSPC, errno.EDQUOT, errno.EROFS} else 0
    return 0


def takes_no_file(directory: Path) -> bool:
    """True if there is no place for another file, however much room there is in those that it has. Raises: OSError."""
    if sys.platform == "win32":
        return False
    found = os.statvfs(directory)
    return found.f_files > 0 and found.f_favail == 0  # some file systems count none at all


def is_never_mapped(file: Path) -> bool:
    """True if it cannot be mapped into memory; not for want of that, which passes. Raises: OSError of the file."""
    with file.open("r+b") as opened:
        try:
            mmap.mmap(opened.fileno(), 0).close()
        except OSError as problem:
            return not is_short(problem)
        except ValueError:  # an empty file
            pass
    return False
