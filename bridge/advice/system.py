"""Why the operating system refuses a file or a connection: what happens often, to be told in any language."""

from __future__ import annotations

import errno
from typing import Final

from bridge.advice.said import Said, as_said, said

_REASONS: Final = {
    errno.ENOENT: said("No such file or directory"),
    errno.EACCES: said("Permission denied"),
    errno.EPERM: said("Operation not permitted"),
    errno.EISDIR: said("Is a directory"),
    errno.ENOTDIR: said("Not a directory"),
    errno.ENOSPC: said("No space left on device"),
    errno.EROFS: said("Read-only file system"),
    errno.ECONNREFUSED: said("Connection refused"),
    errno.ECONNRESET: said("Connection reset by peer"),
    errno.EPIPE: said("Broken pipe"),
    errno.ETIMEDOUT: said("Connection timed out"),
    errno.ENETUNREACH: said("Network is unreachable"),
    errno.EHOSTUNREACH: said("No route to host"),
}


def system_reason(error: BaseException) -> Said:
    """For the end of a sentence; the system's own words for what is rare. Not for errors with another number than the
    system's: SSLError, gaierror."""
    if isinstance(error, OSError):
        known = _REASONS.get(error.errno or 0)
        return known or as_said(error.strerror or type(error).__name__)
    return as_said(type(error).__name__)
