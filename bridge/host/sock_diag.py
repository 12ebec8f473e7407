"""Linux' sock_diag(7): whose connection this is, by one netlink request for one socket.

The uid that the kernel gives is that of the socket's inode: of the user who opened it. A socket that its program has
closed, but whose last bytes are still on their way, has no inode any more, and the kernel says uid 0. Such an answer is
not used, because a client that logs in and hangs up quickly would be taken for root.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
import threading
import weakref
from collections.abc import Callable

from bridge.host.callers import Owner
from bridge.model import Ends

SOCK_DIAG = 4
"""NETLINK_SOCK_DIAG (linux/netlink.h)."""
BY_FAMILY = 20
"""SOCK_DIAG_BY_FAMILY (linux/sock_diag.h)."""
IS_REQUEST = 1
"""NLM_F_REQUEST."""
FROM_THE_KERNEL = (0, 0)
"""The sender's port and groups: only the kernel has port 0."""
HELD = frozenset({1, 4, 5, 8, 9, 11})
"""States of a connection that a program may hold (net/tcp_states.h): established, and the closing states. A socket that
is only being connected is somebody else's attempt with the same ports."""

_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBBI")
_PORTS = struct.Struct("!HH")
_LINK = struct.Struct("=I")
"""An interface's number; 0 for any, but a socket with a link-local address is found only by its own."""
_NO_COOKIE = struct.pack("=II", 0xFFFFFFFF, 0xFFFFFFFF)
"""INET_DIAG_NOCOOKIE twice."""
_ERROR = struct.Struct("=i")
"""Field of nlmsgerr: an errno, negative."""
_ANSWER = struct.Struct("=xBxx48x12xII")
"""Fields of inet_diag_msg: state, user, inode."""


class Unknown(Exception):
    """The kernel has no such connection, or no tcp_diag."""


class Kernel:
    """Asks the kernel through one socket, kept open from the first question on: to open one for each would take longer
    than the rest, and need a descriptor that may not be available."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._netlink: socket.socket | None = None
        self._close: Callable[[], object] = _nothing
        """Closes the socket, at the end of this object at the latest."""
        self._number = 0

    def owner(self, ends: Ends) -> Owner | None:
        """The owner, in microseconds; None for a connection that nobody holds. From any thread.

        Raises: Unknown; OSError where the question is refused, or not answered at once.
        """
        with self._lock:
            answer = self._answer(_question(ends))
        kind = _HEADER.unpack_from(answer)[1]
        if kind != BY_FAMILY:  # NLMSG_ERROR
            problem = -_ERROR.unpack_from(answer, _HEADER.size)[0]
            if problem == errno.ENOENT:
                raise Unknown
            raise OSError(problem, os.strerror(problem))
        state, user, inode = _ANSWER.unpack_from(answer, _HEADER.size)
        # Where the connection has ended, the kernel answers with a listener at the client's port, if there is one.
        return Owner(str(user), inode) if state in HELD and inode else None

    def _answer(self, question: bytes) -> bytes:
        """The kernel's answer; it is there as soon as the question was sent, so there is no waiting."""
        netlink = self._netlink or self._open()
        self._number = (self._number + 1) & 0xFFFFFFFF
        message = _HEADER.pack(_HEADER.size + len(question), BY_FAMILY, IS_REQUEST, self._number, 0) + question
        try:
            netlink.sendto(message, FROM_THE_KERNEL)
            answer, sender = netlink.recvfrom(4096)
            if sender != FROM_THE_KERNEL or _HEADER.unpack_from(answer)[3] != self._number:
                raise OSError(errno.EPROTO, os.strerror(errno.EPROTO))
        except OSError:
            # A late answer must not be taken for the answer to the next question.
            self._netlink = None
            self._close()
            raise
        return answer

    def _open(self) -> socket.socket:
        if sys.platform != "linux":
            raise OSError(errno.EAFNOSUPPORT, "netlink is Linux's")
        netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, SOCK_DIAG)
        self._close = weakref.finalize(self, netlink.close)
        self._netlink = netlink
        return netlink


def _nothing() -> None:
    """Close nothing: no socket is open."""


def _question(ends: Ends) -> bytes:
    """An inet_diag_req_v2 (linux/inet_diag.h)."""
    client, ours = packed(ends.client[0]), packed(ends.ours[0])
    family = socket.AF_INET if len(client) == 4 else socket.AF_INET6
    ports = _PORTS.pack(ends.client[1], ends.ours[1])
    addresses = client.ljust(16, b"\0") + ours.ljust(16, b"\0")
    about = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF)
    return about + ports + addresses + _LINK.pack(_link(ends)) + _NO_COOKIE


def _link(ends: Ends) -> int:
    links = (host.partition("%")[2] for host in (ends.client[0], ends.ours[0]))
    return next((int(link) for link in links if link.isdecimal()), 0)


def packed(address: str) -> bytes:
    """An IP address as four octets or sixteen."""
    host = address.partition("%")[0]
    return socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
