"""macOS: the owner of a socket by the kernel's list of TCP connections, which any program may read; without lsof.

The records (net.inet.tcp.pcblist_n, XNU's in_pcblist.c) are packed and aligned to eight octets; each begins with its
length and kind. For a connection, the record with its addresses comes first, then the one of its socket. This file was
written from XNU's headers and has not been run on a Mac.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import sys
from collections.abc import Iterator

from bridge.host import users
from bridge.host.callers import Owner, System
from bridge.model import Ends
from bridge.shortage import SHORT
from bridge.threads import NotDone

LIST = b"net.inet.tcp.pcblist_n"
TRIES = 5
"""The list grows between the call that asks for its size and the one that fetches it."""
SOCKET, ADDRESSES = 0x001, 0x010
"""XSO_SOCKET and XSO_INPCB (sys/socketvar.h)."""
IS_IPV4, IS_IPV6 = 0x1, 0x2
"""INP_IPV4 and INP_IPV6 (netinet/in_pcb.h)."""

_HEAD = struct.Struct("=II")
_PORTS = struct.Struct("!HH")
_FAR_PORT, _FLAG, _FAR, _NEAR = 16, 44, 48, 64
"""Offsets in xinpcb_n: ports (the far one first), inp_vflag, two fields of 16 octets whose end is an IPv4 address."""
_USER, _PROCESS = 64, 68
"""Offsets in xsocket_n: so_uid, so_last_pid."""


class MacOS(System):
    """See callers.System."""

    def owner(self, ends: Ends) -> Owner | None:
        """See System."""
        return find_in_list(_connections(), ends)

    def user_name(self, user_id: str) -> str:
        """See System."""
        return users.name_of(user_id)

    def program(self, owner: Owner) -> str:
        """See System. Only root is told of other users' programs."""
        return _process_name(owner.handle)


def find_in_list(records: bytes, ends: Ends) -> Owner | None:
    """The owner of the client's end."""
    is_it = False
    for kind, record in _split(records):
        if kind == ADDRESSES:
            is_it = _is_client(record, ends)
        elif kind == SOCKET and is_it and len(record) >= _PROCESS + 4:
            user, process = struct.unpack_from("=Ii", record, _USER)
            return Owner(str(user), process)
    return None


def _split(records: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and content of each record; the first one is the list's own head, which has no kind."""
    at = _aligned(_HEAD.unpack_from(records)[0]) if len(records) >= _HEAD.size else 0
    while at and at + _HEAD.size <= len(records):
        length, kind = _HEAD.unpack_from(records, at)
        if length < _HEAD.size:
            return
        yield kind, records[at : at + length]
        at += _aligned(length)


def _aligned(length: int) -> int:
    return -(-length // 8) * 8


def _is_client(record: bytes, ends: Ends) -> bool:
    if len(record) < _NEAR + 16:
        return False
    far_port, near_port = _PORTS.unpack_from(record, _FAR_PORT)
    if (near_port, far_port) != (ends.client[1], ends.ours[1]):
        return False
    far, near, flag = record[_FAR : _FAR + 16], record[_NEAR : _NEAR + 16], record[_FLAG]
    if ":" in ends.client[0]:
        client, ours = (socket.inet_pton(socket.AF_INET6, end[0].partition("%")[0]) for end in (ends.client, ends.ours))
        return bool(flag & IS_IPV6) and (near, far) == (client, ours)
    # This matches an IPv6 socket that speaks IPv4, too, since its addresses end in the same octets.
    return (near[12:], far[12:]) == (socket.inet_aton(ends.client[0]), socket.inet_aton(ends.ours[0]))


def _connections() -> bytes:
    if sys.platform != "darwin":
        return b""
    libc = ctypes.CDLL(None, use_errno=True)
    size = ctypes.c_size_t(0)
    for _ in range(TRIES):
        if libc.sysctlbyname(LIST, None, ctypes.byref(size), None, 0) != 0:
            break
        size.value += size.value // 4
        buffer = ctypes.create_string_buffer(size.value)
        if libc.sysctlbyname(LIST, buffer, ctypes.byref(size), None, 0) == 0:
            return buffer.raw[: size.value]
    if ctypes.get_errno() in SHORT:  # ENOMEM: or it has grown at each try
        raise NotDone(os.strerror(ctypes.get_errno()))
    return b""


def _process_name(process: int) -> str:
    if sys.platform != "darwin":
        return ""
    name = ctypes.create_string_buffer(1024)
    length = ctypes.CDLL("/usr/lib/libproc.dylib").proc_name(process, name, len(name))
    return name.raw[: max(length, 0)].decode("utf-8", "replace")
