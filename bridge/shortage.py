"""Errors by which descriptors or memory have run out: they may pass soon, and say nothing of what was tried."""

from __future__ import annotations

import errno
import os
import socket

SHORT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""File descriptors and memory."""
_COMES_OR_GOES = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.EADDRINUSE, errno.EADDRNOTAVAIL})
"""Room on a disk, the disk itself, a network drive whose server was away, another program at our port, a network that
is not up yet."""


def is_short(problem: BaseException) -> bool:
    """True if what failed may work in a moment, and says nothing about whom it was tried with."""
    if isinstance(problem, ImportError):  # of a shared library: it has the system's text, and no number
        return any(os.strerror(number) in str(problem) for number in SHORT)
    return isinstance(problem, OSError) and problem.errno in SHORT


def may_pass(problem: BaseException | None) -> bool:
    """True if the same may work a while later though nobody has changed anything of ours."""
    if isinstance(problem, socket.gaierror):  # its numbers are others: EAI_AGAIN is 2 on a Mac, which is ENOENT too
        return problem.errno == socket.EAI_AGAIN
    return isinstance(problem, OSError) and (is_short(problem) or problem.errno in _COMES_OR_GOES)
