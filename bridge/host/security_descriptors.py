"""Windows: a file's owner, and what its access list allows to whom. Other systems have owners and modes in `stat`."""

from __future__ import annotations

import ctypes
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

OWNER = 1
"""OWNER_SECURITY_INFORMATION."""
ACCESS_LIST = 4
"""DACL_SECURITY_INFORMATION."""
FILE = 1
"""SE_FILE_OBJECT."""
EVERYONE = "S-1-1-0"
GENERIC_ALL = 0x1000_0000
ALLOWED = 0
"""ACCESS_ALLOWED_ACE_TYPE; entries that deny are ignored."""
ENTRY_OF_LIST = struct.Struct("<BBHI")
"""ACCESS_ALLOWED_ACE up to its SID: type, flags, size, rights."""

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
    _advapi32.GetAce.argtypes = [ctypes.c_void_p, wintypes.DWORD, ctypes.POINTER(ctypes.c_void_p)]
    _kernel32 = ctypes.WinDLL("kernel32")
    _kernel32.LocalFree.argtypes = [ctypes.c_void_p]

    def owner_of(path: Path) -> str:
        """The owner's SID; empty if Windows does not tell, in which case we cannot read the file either."""
        owner, descriptor = ctypes.c_void_p(), ctypes.c_void_p()
        if _advapi32.GetNamedSecurityInfoW(
            str(path), FILE, OWNER, ctypes.byref(owner), None, None, None, ctypes.byref(descriptor)
        ):
            return ""
        try:
            return sid_text(owner)
        finally:
            _kernel32.LocalFree(descriptor)

    def allowed_at(path: Path) -> list[tuple[str, int]]:
        """SIDs and their rights (ACCESS_MASK), on a directory and on what is in it; none where Windows does not
        tell."""
        entries, descriptor = ctypes.c_void_p(), ctypes.c_void_p()
        if _advapi32.GetNamedSecurityInfoW(
            str(path), FILE, ACCESS_LIST, None, None, ctypes.byref(entries), None, ctypes.byref(descriptor)
        ):
            return []
        try:
            return list(_allowed_in(entries)) if entries else [(EVERYONE, GENERIC_ALL)]
        finally:
            _kernel32.LocalFree(descriptor)

    def _allowed_in(entries: ctypes.c_void_p) -> Iterator[tuple[str, int]]:
        entry, number = ctypes.c_void_p(), 0
        while _advapi32.GetAce(entries, number, ctypes.byref(entry)):
            start, number = entry.value or 0, number + 1
            kind, _, _, rights = ENTRY_OF_LIST.unpack(ctypes.string_at(start, ENTRY_OF_LIST.size))
            if kind == ALLOWED:  # entries of other kinds may have other fields before the SID
                yield sid_text(ctypes.c_void_p(start + ENTRY_OF_LIST.size)), rights

else:

    def owner_of(path: Path) -> str:
        """Empty: on other systems, directories for the whole machine belong to root."""
        return ""

    def allowed_at(path: Path) -> list[tuple[str, int]]:
        """See above."""
        return []
