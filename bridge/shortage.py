"""Want of what a process or the whole system has only so much of: soon there may be some again."""

from __future__ import annotations

import errno

SHORT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""File descriptors and memory."""


def is_short(problem: BaseException) -> bool:
    """True if what failed may work in a moment, and says nothing about whom it was tried with."""
    return isinstance(problem, OSError) and problem.errno in SHORT
