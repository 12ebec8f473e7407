"""Windows: the process of a socket by the TCP table, and its user by the process's token.

Any program may read the table. Only administrators and services may read the token of another user's process: a
bridge that runs as an ordinary user recognises its own user's programs, and of all others only that they are not its.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
from pathlib import PureWindowsPath

from bridge.host.callers import Owner, System
from bridge.model import Ends
from bridge.threads import NotDone

OWNER_PID_CONNECTIONS = 4
"""TCP_TABLE_OWNER_PID_CONNECTIONS (iprtrmib.h)."""
TRIES = 5
"""The table grows between the call that asks for its size and the one that fetches it."""
TOO_SMALL = 122
"""ERROR_INSUFFICIENT_BUFFER."""
SHORT_OF_MEMORY = frozenset({8, 14, TOO_SMALL})
"""ERROR_NOT_ENOUGH_MEMORY, ERROR_OUTOFMEMORY; or the table has grown at each try."""
NONE_MAPPED = 1332
"""ERROR_NONE_MAPPED: nobody has this SID."""
QUERY_LIMITED = 0x1000
"""PROCESS_QUERY_LIMITED_INFORMATION."""
TOKEN_QUERY = 8
TOKEN_USER = 1

_ROW = struct.Struct("<I4sI4sII")
"""MIB_TCPROW_OWNER_PID: state, local address and port, remote address and port, process."""
_ROW6 = struct.Struct("<16sII16sIIII")
"""MIB_TCP6ROW_OWNER_PID: local address, scope and port, remote ones, state, process."""


class Windows(System):
    """See callers.System."""

    def owner(self, ends: Ends) -> Owner | None:
        """See System."""
        is_six = ":" in ends.client[0]
        pid = find_in_table(_table(socket.AF_INET6 if is_six else socket.AF_INET), ends)
        if not pid:  # 0: the remains of a connection whose program has ended
            return None
        user = user_id(pid)
        return Owner(user, pid) if user else None

    def user_name(self, user_id: str) -> str:
        """See System."""
        return _account_name(user_id)

    def program(self, owner: Owner) -> str:
        """See System."""
        return PureWindowsPath(_image(owner.handle)).name


def find_in_table(table: bytes, ends: Ends) -> int | None:
    """The process of the client's end, from the table of GetExtendedTcpTable."""
    if ":" in ends.client[0]:
        client, ours = (socket.inet_pton(socket.AF_INET6, end[0].partition("%")[0]) for end in (ends.client, ends.ours))
        for local, _, lport, remote, _, rport, _, pid in _ROW6.iter_unpack(_rows(table, _ROW6.size)):
            if (local, remote, _port(lport), _port(rport)) == (client, ours, ends.client[1], ends.ours[1]):
                return int(pid)
        return None
    client, ours = socket.inet_aton(ends.client[0]), socket.inet_aton(ends.ours[0])
    for _, local, lport, remote, rport, pid in _ROW.iter_unpack(_rows(table, _ROW.size)):
        if (local, remote, _port(lport), _port(rport)) == (client, ours, ends.client[1], ends.ours[1]):
            return int(pid)
    return None


def _rows(table: bytes, size: int) -> bytes:
    """The rows, which follow their number; the rest of the buffer does not belong to the table."""
    count = int.from_bytes(table[:4], "little")
    return table[4 : 4 + min(count, (len(table) - 4) // size) * size] if len(table) > 4 else b""


def _port(field: int) -> int:
    """A port, which is in network order in the lower half of the field."""
    return socket.ntohs(field & 0xFFFF) if sys.byteorder == "little" else field & 0xFFFF


if sys.platform == "win32":
    from ctypes import wintypes

    _kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
    _advapi32 = ctypes.WinDLL("advapi32", use_last_error=True)
    _kernel32.OpenProcess.restype = wintypes.HANDLE
    _kernel32.OpenProcess.argtypes = [wintypes.DWORD, wintypes.BOOL, wintypes.DWORD]
    _kernel32.CloseHandle.argtypes = [wintypes.HANDLE]
    _kernel32.LocalFree.argtypes = [ctypes.c_void_p]
    _kernel32.QueryFullProcessImageNameW.argtypes = [
        wintypes.HANDLE,
        wintypes.DWORD,
        wintypes.LPWSTR,
        ctypes.POINTER(wintypes.DWORD),
    ]
    _advapi32.OpenProcessToken.argtypes = [wintypes.HANDLE, wintypes.DWORD, ctypes.POINTER(wintypes.HANDLE)]
    _advapi32.GetTokenInformation.argtypes = [
        wintypes.HANDLE,
        ctypes.c_int,
        ctypes.c_void_p,
        wintypes.DWORD,
        ctypes.POINTER(wintypes.DWORD),
    ]
    _advapi32.ConvertSidToStringSidW.argtypes = [ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p)]
    _advapi32.ConvertStringSidToSidW.argtypes = [wintypes.LPCWSTR, ctypes.POINTER(ctypes.c_void_p)]

    def _table(family: int) -> bytes:
        fetch = ctypes.WinDLL("iphlpapi").GetExtendedTcpTable
        size = wintypes.DWORD(1 << 16)
        for _ in range(TRIES):
            buffer = ctypes.create_string_buffer(size.value)
            result = fetch(buffer, ctypes.byref(size), False, int(family), OWNER_PID_CONNECTIONS, 0)
            if result == 0:
                return buffer.raw
            if result != TOO_SMALL:
                break
            size.value += 1 << 14
        if result in SHORT_OF_MEMORY:
            raise NotDone(ctypes.FormatError(result))
        return b""

    def user_id(pid: int) -> str:
        """The SID in the process's token; empty if we may not read it."""
        process = _kernel32.OpenProcess(QUERY_LIMITED, False, pid)
        if not process:
            return ""
        token = wintypes.HANDLE()
        try:
            if not _advapi32.OpenProcessToken(process, TOKEN_QUERY, ctypes.byref(token)):
                return ""
            needed = wintypes.DWORD()
            buffer = ctypes.create_string_buffer(256)  # TOKEN_USER: a pointer, attributes, and a SID of 68 octets
            if not _advapi32.GetTokenInformation(token, TOKEN_USER, buffer, len(buffer), ctypes.byref(needed)):
                return ""
            return sid_text(ctypes.c_void_p.from_buffer(buffer))
        finally:
            if token:
                _kernel32.CloseHandle(token)
            _kernel32.CloseHandle(process)

    def sid_text(sid: ctypes.c_void_p) -> str:
        """The SID as S-1-5-…; empty if it is none."""
        text = ctypes.c_void_p()
        if not _advapi32.ConvertSidToStringSidW(sid, ctypes.byref(text)):
            return ""
        try:
            return ctypes.wstring_at(text.value or 0)
        finally:
            _kernel32.LocalFree(text)

    def _account_name(user_id: str) -> str:
        sid = ctypes.c_void_p()
        if not _advapi32.ConvertStringSidToSidW(user_id, ctypes.byref(sid)):
            return ""
        try:
            name, domain = ctypes.create_unicode_buffer(256), ctypes.create_unicode_buffer(256)
            name_size, domain_size, use = wintypes.DWORD(256), wintypes.DWORD(256), wintypes.DWORD()
            is_known = _advapi32.LookupAccountSidW(
                None,
                sid,
                name,
                ctypes.byref(name_size),
                domain,
                ctypes.byref(domain_size),
                ctypes.byref(use),
            )
            if not is_known and ctypes.get_last_error() != NONE_MAPPED:  # such as: no domain controller answers
                raise NotDone(ctypes.FormatError(ctypes.get_last_error()))
            return f"{domain.value}\\{name.value}" if is_known else ""
        finally:
            _kernel32.LocalFree(sid)

    def _image(pid: int) -> str:
        process = _kernel32.OpenProcess(QUERY_LIMITED, False, pid)
        if not process:
            return ""
        try:
            path, size = ctypes.create_unicode_buffer(1024), wintypes.DWORD(1024)
            is_told = _kernel32.QueryFullProcessImageNameW(process, 0, path, ctypes.byref(size))
            return path.value if is_told else ""
        finally:
            _kernel32.CloseHandle(process)

else:

    def _table(family: int) -> bytes:
        return b""

    def user_id(pid: int) -> str:
        """See above."""
        return ""

    def _account_name(user_id: str) -> str:
        return ""

    def _image(pid: int) -> str:
        return ""
