"""Whether a file of the whole machine is the administrators'. On Windows every user may put some below ProgramData."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

from bridge.host.callers_windows import user_id

SYSTEM, ADMINISTRATORS = "S-1-5-18", "S-1-5-32-544"
"""Whoever runs "as administrator" makes files that belong to all administrators."""
TRUSTED_INSTALLER = "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464"
"""Windows itself: C:\\ and System32, in which an administrator's prompt opens, are its own."""
OWNER = 1
"""OWNER_SECURITY_INFORMATION."""
FILE = 1
"""SE_FILE_OBJECT."""


def is_trusted(file: Path) -> bool:
    """True if it belongs to administrators, or to whoever we run as, and so does its directory: the directory's owner
    may put another file in its place."""
    trusted = {"", SYSTEM, ADMINISTRATORS, TRUSTED_INSTALLER, user_id(os.getpid())}
    return all(_owner(path) in trusted for path in (file, file.parent))


def is_strangers(file: Path, handle: int | None = None) -> bool:
    """True if it belongs to another user than us and the administrators: whoever may write into a directory that people
    share puts a file there for those who stand in it, and another one in its place the next moment. Or a link to a file
    of theirs: what that one names is then looked for beside the link.

    Args: handle, of the open file; without, what has the name now. Windows tells by the name alone. Raises: OSError.
    """
    if sys.platform == "win32":
        return not is_trusted(file)
    found = os.stat(file if handle is None else handle), os.lstat(file)
    return any(one.st_uid not in {0, os.geteuid()} for one in found)


if sys.platform == "win32":
    from ctypes import wintypes

    from bridge.host.callers_windows import sid_text

    _advapi32 = ctypes.WinDLL("advapi32")
    _advapi32.GetNamedSecurityInfoW.restype = wintypes.DWORD
    _advapi32.GetNamedSecurityInfoW.argtypes = [
        wintypes.LPCWSTR,
        ctypes.c_int,
        wintypes.DWORD,
        *[ctypes.POINTER(ctypes.c_void_p)] * 5,
    ]
    _kernel32 = ctypes.WinDLL("kernel32")
    _kernel32.LocalFree.argtypes = [ctypes.c_void_p]

    def _owner(path: Path) -> str:
        """A SID; empty if that is not told, and then nobody reads the file either."""
        owner, descriptor = ctypes.c_void_p(), ctypes.c_void_p()
        if _advapi32.GetNamedSecurityInfoW(
            str(path), FILE, OWNER, ctypes.byref(owner), None, None, None, ctypes.byref(descriptor)
        ):
            return ""
        try:
            return sid_text(owner)
        finally:
            _kernel32.LocalFree(descriptor)

else:

    def _owner(path: Path) -> str:
        """Other systems' directories for it are root's."""
        return ""
