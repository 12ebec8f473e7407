"""How many sockets and files this process may have open: as many as the system allows without asking anybody."""

from __future__ import annotations

import contextlib
import sys


def raise_descriptor_limit() -> None:
    """The soft limit to the hard one: a session takes two, and the usual 1,024 would end at 500 sessions."""
    if sys.platform == "win32":
        return
    import resource  # not on Windows

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # macOS takes no "unlimited" here, and keeps what it has
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def descriptor_limit() -> int | None:
    """The limit; None where there is none, as for Windows' sockets."""
    if sys.platform == "win32":
        return None
    import resource  # not on Windows

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft
