"""A crash says where, and leaves no copy of our memory behind: tokens, passwords and the store's key are in it."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import sys

PR_SET_DUMPABLE = 4
"""prctl(2). Where a core is piped to a program (systemd-coredump), the limit on its size does not count; this does. It
also keeps debuggers of the same user out, and closes /proc/PID/environ, in which client secrets may stand."""
WER_FAULT_REPORTING_FLAG_NOHEAP = 1
"""WerSetFlags: Windows may report a crash, but without what was on the heap."""


def forbid_dumps() -> None:
    """For this process, for good; programs that it starts inherit the limit alone. What a system lacks is left out."""
    if sys.platform == "win32":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.windll.kernel32.WerSetFlags(WER_FAULT_REPORTING_FLAG_NOHEAP)
        return
    import resource  # not on Windows

    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def say_where_it_crashed() -> None:
    """In C, or where a service manager ends a process that stands still (SIGABRT): the places of all threads, without a
    value, go to standard error."""
    with contextlib.suppress(AttributeError, OSError, RuntimeError, ValueError):  # there is none, or it is no file
        faulthandler.enable()
