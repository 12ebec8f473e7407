"""Whether a file of the whole machine is the administrators'. Below Windows' ProgramData all may put some, and read."""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from pathlib import Path

from bridge.host.callers_windows import user_id

SYSTEM, ADMINISTRATORS = "S-1-5-18", "S-1-5-32-544"
"""Whoever runs "as administrator" makes files that belong to all administrators."""
TRUSTED_INSTALLER = "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464"
"""Windows itself: C:\\ and System32, in which an administrator's prompt opens, are its own."""
OWNER = 1
"""OWNER_SECURITY_INFORMATION."""
ACCESS_LIST = 4
"""DACL_SECURITY_INFORMATION."""
FILE = 1
"""SE_FILE_OBJECT."""
EVERYBODY = frozenset({"S-1-1-0", "S-1-5-4", "S-1-5-11", "S-1-5-32-545"})
"""Everyone, whoever is logged in here, whoever is known, Users: the last has it by what ProgramData hands down."""
ALLOWED = 0
"""ACCESS_ALLOWED_ACE_TYPE; what a list denies besides is not looked at."""
READING = 0x9000_0001
"""GENERIC_READ, GENERIC_ALL, FILE_READ_DATA."""
ENTRY_OF_LIST = struct.Struct("<BBHI")
"""ACCESS_ALLOWED_ACE up to its SID: type, flags, size, rights."""


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

    _advapi32.GetAce.argtypes = [ctypes.c_void_p, wintypes.DWORD, ctypes.POINTER(ctypes.c_void_p)]

    def everybody_reads(directory: Path) -> bool:
        """True if its access list says so, of itself or of what is in it; False, too, where that is not told."""
        entries, descriptor = ctypes.c_void_p(), ctypes.c_void_p()
        if _advapi32.GetNamedSecurityInfoW(
            str(directory), FILE, ACCESS_LIST, None, None, ctypes.byref(entries), None, ctypes.byref(descriptor)
        ):
            return False
        try:
            return not entries or _lets_everybody_read(entries)
        finally:
            _kernel32.LocalFree(descriptor)

    def _lets_everybody_read(entries: ctypes.c_void_p) -> bool:
        entry, number = ctypes.c_void_p(), 0
        while _advapi32.GetAce(entries, number, ctypes.byref(entry)):
            start, number = entry.value or 0, number + 1
            kind, _, _, rights = ENTRY_OF_LIST.unpack(ctypes.string_at(start, ENTRY_OF_LIST.size))
            if kind != ALLOWED or not rights & READING:  # another kind may have other things before its SID
                continue
            if sid_text(ctypes.c_void_p(start + ENTRY_OF_LIST.size)) in EVERYBODY:
                return True
        return False

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

    def everybody_reads(directory: Path) -> bool:
        """See above; other systems have modes for it."""
        return False

    def _owner(path: Path) -> str:
        """Other systems' directories for it are root's."""
        return ""
