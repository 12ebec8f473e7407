"""Finds out what a store's disk lacks (space, inodes, memory mapping, locks) where SQLite's errors do not tell."""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path

from bridge.files.drafts import draft_of
from bridge.shortage import is_short

if sys.platform != "win32":
    import fcntl  # not late: there may be no descriptor for it, or the store's user may not read it

ROOM = 32 * 1024
"""Octets that SQLite wants at once, for its -shm file; while so many are free, lack of space is not the reason for an
error."""

_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM})


def why_unwritten(file: Path) -> int:
    """ENOSPC or EDQUOT, if nothing more fits beside it; EROFS where nothing may be written any more; else 0.
    Raises: OSError.

    The free space that a disk reports may not be ours to use: btrfs counts what it reserves for itself, and nearly all
    file systems count what a quota leaves to others. So this also tries to write.
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
    """True if no inode is left for another file, however much space there is. Raises: OSError."""
    if sys.platform == "win32":
        return False
    found = os.statvfs(directory)
    return found.f_files > 0 and found.f_favail == 0  # f_files is 0 on file systems that do not count them


def takes_no_lock(file: Path) -> bool:
    """True if this disk lets nobody lock the file, as a network drive whose lock service does not run. SQLite calls
    that locked by another program. Releases all locks that this process has on it. Raises: OSError of the file."""
    if sys.platform != "win32":
        with file.open("rb") as opened:
            try:
                fcntl.lockf(opened, fcntl.LOCK_SH | fcntl.LOCK_NB, 1)  # SQLite's own locks are a gigabyte further on
            except OSError as problem:
                return problem.errno in _NO_LOCKS
    return False


def is_never_mapped(file: Path) -> bool:
    """True if this disk does not allow files to be mapped into memory; False if only memory is short, which may pass.
    Raises: OSError of the file."""
    with file.open("r+b") as opened:
        try:
            mmap.mmap(opened.fileno(), 0).close()
        except OSError as problem:
            return not is_short(problem)
        except ValueError:  # an empty file
            pass
    return False
