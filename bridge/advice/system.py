"""Why the operating system refuses a file or a connection: what happens often, to be told in any language."""

from __future__ import annotations

import errno
import socket
from typing import Final

from bridge.advice.said import Said, as_said, quoted, said

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
    errno.ECONNABORTED: said("Software caused connection abort"),
    errno.ENOTCONN: said("Transport endpoint is not connected"),
    errno.EPIPE: said("Broken pipe"),
    errno.ETIMEDOUT: said("Connection timed out"),
    errno.ENETUNREACH: said("Network is unreachable"),
    errno.EHOSTUNREACH: said("No route to host"),
}

_NAMES: Final = {
    getattr(socket, "EAI_NODATA", socket.EAI_NONAME): said("No address associated with hostname"),  # not everywhere
    socket.EAI_NONAME: said("Name or service not known"),
    socket.EAI_AGAIN: said("Temporary failure in name resolution"),
    socket.EAI_FAIL: said("Non-recoverable failure in name resolution"),
}


def system_reason(error: BaseException) -> Said:
    """For the end of a sentence; the system's own words for what is rare. Not for errors with another number than the
    system's: SSLError, gaierror."""
    if isinstance(error, OSError):
        if (known := _REASONS.get(error.errno or 0)) is not None:
            return known
        if isinstance(error, ConnectionRefusedError):  # Windows has two numbers for it, and this is the other one
            return _REASONS[errno.ECONNREFUSED]
        if error.strerror:
            return quoted(error.strerror)
    return as_said(type(error).__name__)


def name_reason(error: OSError | UnicodeError) -> Said:
    """Why a host name leads to no address: of getaddrinfo()'s gaierror, or of a name that is none."""
    if isinstance(error, UnicodeError):  # an empty or overlong label
        return said("it is no host name")
    return _NAMES.get(error.errno or 0) or quoted(error.strerror or type(error).__name__)
