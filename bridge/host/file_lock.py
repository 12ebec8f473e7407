"""A lock on an open file; by the standard library alone, since the installation (scripts/environment.py) needs it."""

from __future__ import annotations

import sys

if sys.platform == "win32":
    import msvcrt

    def hold(handle: int) -> bool:
        """Lock this file, until the descriptor is closed or the process ends. False if another process has it."""
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:  # its way to say that somebody else has it
            return False
        return True

else:
    import fcntl

    def hold(handle: int) -> bool:
        """Lock this file, until the descriptor is closed or the process ends. False if another process has it."""
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
