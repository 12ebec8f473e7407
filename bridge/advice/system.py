"""Why the operating system refuses a file or a connection: what happens often, to be told in any language."""

from __future__ import annotations

import errno
import os
import re
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
    errno.EDQUOT: said("Disk quota exceeded"),
    errno.EROFS: said("Read-only file system"),
    errno.ENOMEM: said("Cannot allocate memory"),  # "Not enough space", says Windows, as of a full disk
    errno.ECONNREFUSED: said("Connection refused"),
    errno.ECONNRESET: said("Connection reset by peer"),
    errno.ECONNABORTED: said("Software caused connection abort"),
    errno.ENOTCONN: said("Transport endpoint is not connected"),
    errno.EPIPE: said("Broken pipe"),
    errno.ETIMEDOUT: said("Connection timed out"),
    errno.ENETUNREACH: said("Network is unreachable"),
    errno.EHOSTUNREACH: said("No route to host"),
}

_WINDOWS: Final = {
    64: errno.ECONNRESET,
    121: errno.ETIMEDOUT,
    1225: errno.ECONNREFUSED,
    1231: errno.ENETUNREACH,
    1232: errno.EHOSTUNREACH,
    1236: errno.ECONNABORTED,
}
"""ERROR_NETNAME_DELETED, _SEM_TIMEOUT, _CONNECTION_REFUSED, _NETWORK_UNREACHABLE, _HOST_UNREACHABLE and
_CONNECTION_ABORTED: the errors of overlapped calls on a connection, whose `errno` is EINVAL. Errors of Windows Sockets
have an `errno` of their own."""

_ONE_OF_SEVERAL: Final = re.compile(
    r"\[(?:WinError (\d+)|Errno (\d+))\] (.*?)(?=, \[(?:WinError|Errno) \d|$)", re.DOTALL
)

_CALLS_DIRECTORIES_FORBIDDEN: Final = os.name == "nt"
"""If a directory is opened as a file, Windows says "permission denied"."""

_NAMES: Final = {
    getattr(socket, "EAI_NODATA", socket.EAI_NONAME): said("No address associated with hostname"),  # not everywhere
    socket.EAI_NONAME: said("Name or service not known"),
    socket.EAI_AGAIN: said("Temporary failure in name resolution"),
    socket.EAI_FAIL: said("Non-recoverable failure in name resolution"),
}


def system_reason(error: BaseException, file: str | None = None) -> Said:
    """The reason for the end of a sentence; in the system's own words where it is rare. Not for errors whose numbers
    are not the system's: SSLError, gaierror. `file`: what was opened, where the error itself does not say."""
    if isinstance(error, OSError):
        is_forbidden = isinstance(error, PermissionError)
        if is_forbidden and _CALLS_DIRECTORIES_FORBIDDEN and os.path.isdir(error.filename or file or ""):
            return _REASONS[errno.EISDIR]
        number = _WINDOWS.get(getattr(error, "winerror", None) or 0) or error.errno or 0
        if (known := _REASONS.get(number)) is not None:
            return known
        if isinstance(error, ConnectionRefusedError):  # asyncio's own, without a number
            return _REASONS[errno.ECONNREFUSED]
        if error.strerror:
            return quoted(error.strerror)
    if isinstance(error, MemoryError):
        return _REASONS[errno.ENOMEM]
    return as_said(type(error).__name__)


def too_little(error: BaseException) -> Said:
    """The system is short of something that everything needs, such as descriptors (see bridge.shortage)."""
    reason = quoted(str(error)) if isinstance(error, ImportError) else system_reason(error)
    return said("the system does not have enough resources left for mail-bridge: {reason}", reason=reason)


def told_reasons(text: str) -> tuple[Said, ...]:
    """The reasons in a text in which asyncio and its like join several errors, "[Errno 111] …, [WinError 1231] …"; each
    once. Empty if there is none in it."""
    return tuple(dict.fromkeys(_reason(*found.groups()) for found in _ONE_OF_SEVERAL.finditer(text)))


def _reason(windows: str | None, posix: str | None, words: str) -> Said:
    number = int(posix or _WINDOWS.get(int(windows or 0)) or windows or 0)
    return _REASONS.get(number) or quoted(os.strerror(number) if posix else words)


def name_reason(error: OSError | UnicodeError) -> Said:
    """Why a host name has no address: from getaddrinfo()'s gaierror, or because it is no valid name."""
    if isinstance(error, UnicodeError):  # an empty or overlong label
        return said("it is not a valid host name")
    return _NAMES.get(error.errno or 0) or quoted(error.strerror or type(error).__name__)
