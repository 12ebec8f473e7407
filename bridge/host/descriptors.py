"""File descriptors: as many as the system allows without asking, and none with the number of a standard stream.

Without ctypes, whose libffi opens a file of its own when it is loaded.
"""

from __future__ import annotations

import contextlib
import os
import sys

OPEN_MAX = 10_240
"""macOS: the most that may be requested where the hard limit is "unlimited", as by default (setrlimit(2),
Compatibility, and sys/syslimits.h); launchd's soft limit of 256 would suffice for 120 sessions only."""


def raise_descriptor_limit() -> None:
    """Raise the soft limit to the hard one: a session takes two, and the usual 1,024 suffice for 500 sessions only."""
    if sys.platform == "win32":
        return
    import resource  # not on Windows

    try:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    except OSError:  # of a sandbox that does not tell: then the limit stays as it is
        return
    for wanted in (hard, OPEN_MAX) if soft < OPEN_MAX < hard else (hard,):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            return


def descriptor_limit() -> int | None:
    """The limit; None where there is none, as for Windows' sockets, or where the system does not tell."""
    if sys.platform == "win32":
        return None
    import resource  # not on Windows

    try:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    except OSError:
        return None
    return None if soft == resource.RLIM_INFINITY else soft


def fill_standard_descriptors() -> None:
    """Open descriptors 0 to 2 where whoever started us has closed them. Otherwise the next socket or file would get
    such a number, and messages to standard error, from C libraries, our workers or us, would end up in a mail client's
    session or in the store."""
    if sys.platform == "win32":  # which gives these numbers to nothing else
        return
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # open() takes the lowest free number: this one
