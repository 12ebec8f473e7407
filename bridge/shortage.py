"""Errors by which descriptors, memory or our own files are lacking: they say nothing of what was tried."""

from __future__ import annotations

import errno
import os
import socket
import traceback
from pathlib import Path

import bridge
from bridge.advice.said import Said, quoted, said
from bridge.advice.system import too_little

SHORT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""File descriptors and memory."""
_OF_NETWORK_DRIVES = frozenset({errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ENOTCONN})
"""What a file is refused with while the drive's server is away: by NFS (nfs(5), `softerr`), by SMB, and by a drive in
user space (sshfs) whose program has ended."""
_COMES_OR_GOES = _OF_NETWORK_DRIVES | {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EIO,
    errno.EADDRINUSE,
    errno.EADDRNOTAVAIL,
}
"""Disk space, the disk itself, a network drive, another program at our port, a network that is not up yet."""


def is_short(problem: BaseException) -> bool:
    """True if the failed operation may work in a moment, and the failure says nothing about the other side."""
    if isinstance(problem, ImportError):  # of a shared library: it has the system's text, but no errno
        return any(os.strerror(number) in str(problem) for number in SHORT)
    return isinstance(problem, MemoryError) or (isinstance(problem, OSError) and problem.errno in SHORT)


def _stamp() -> tuple[int, int, int] | None:
    """Differs for each version of the program that was installed in this place; None if there is none any more."""
    try:
        found = Path(bridge.__file__).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


_STARTED_FROM = _stamp()


def lacking(problem: BaseException) -> Said | None:
    """The sentence for a part of ours that cannot be loaded when it is wanted, or that finds too little left; None if
    the problem is another one.

    A start makes sure of what is loaded later. What is not there any more, or does not fit what is loaded already, was
    replaced since: by an update, under the running program. It may also end in any other error, whose text is not told:
    it may quote a secret.
    """
    if is_short(problem):
        return too_little(problem)
    if isinstance(problem, ImportError):
        return not_loaded(str(problem))
    return not_loaded(type(problem).__name__) if is_replaced() and not isinstance(problem, OSError) else None


def is_replaced() -> bool:
    """True if the program's files are not those that it was started from."""
    return _stamp() != _STARTED_FROM


def not_loaded(reason: str) -> Said:
    """The sentence for a part of ours that cannot be loaded: what was replaced under the running program, for instance,
    does not fit what is loaded already."""
    return said(
        "a part of mail-bridge cannot be loaded ({reason}). If mail-bridge or Python has been updated since "
        "mail-bridge was started, start it again",
        reason=quoted(reason),
    )


def places(problem: BaseException) -> str:
    """Where it was raised, for the log: module and line, the outermost first. Without the lines' text, which an update
    may have replaced.
    """
    frames = traceback.walk_tb(problem.__traceback__)
    return ", ".join(f"{frame.f_globals.get('__name__')}:{line}" for frame, line in frames)


def may_pass(problem: BaseException | None) -> bool:
    """True if the same operation may work later without any change on our side."""
    if isinstance(problem, socket.gaierror):  # not an errno: EAI_AGAIN is 2 on a Mac, and so is ENOENT
        return problem.errno == socket.EAI_AGAIN
    return isinstance(problem, OSError) and (is_short(problem) or problem.errno in _COMES_OR_GOES)
