"""A crash reports where, but leaves no copy of our memory, which holds tokens, passwords and the store's key."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import sys

PR_SET_DUMPABLE = 4
"""prctl(2). Where a core is piped to a program (systemd-coredump), the limit on its size has no effect, but this has.
It also keeps out debuggers of the same user, and closes /proc/PID/environ, which may hold client secrets."""
WER_FAULT_REPORTING_FLAG_NOHEAP = 1
"""WerSetFlags: Windows may report a crash, but without what was on the heap."""


def forbid_dumps() -> None:
    """Forbid core dumps of this process for good; programs that it starts inherit only the size limit. Whatever the
    system does not support is skipped."""
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
    """After a crash in C code, or when a service manager aborts a process that hangs (SIGABRT), write the tracebacks of
    all threads, without values, to standard error."""
    with contextlib.suppress(AttributeError, OSError, RuntimeError, ValueError):  # there is none, or it is no file
        faulthandler.enable()
