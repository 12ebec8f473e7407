"""How many sockets and files this process may have open: as many as the system allows without asking anybody."""

from __future__ import annotations

import contextlib
import sys

OPEN_MAX = 10_240
"""macOS: what may be asked for where the limit is "unlimited", as it is by default (setrlimit(2), Compatibility, and
sys/syslimits.h); without asking, launchd's 256 would end at 120 sessions."""


def raise_descriptor_limit() -> None:
    """The soft limit to the hard one: a session takes two, and the usual 1,024 would end at 500 sessions."""
    if sys.platform == "win32":
        return
    import resource  # not on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (hard, OPEN_MAX) if soft < OPEN_MAX < hard else (hard,):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            return


def descriptor_limit() -> int | None:
    """The limit; None where there is none, as for Windows' sockets."""
    if sys.platform == "win32":
        return None
    import resource  # not on Windows

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft
