"""Mail clients that wait for their session to begin: callers take turns, so that a flood delays nobody else."""

from __future__ import annotations

import socket
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

Take = Callable[[socket.socket, Any], None]
"""A client and its address; must not raise, nor close a descriptor (bridge.host.loop)."""
Whose = Callable[[socket.socket], str]
"""A text that tells callers apart; found in microseconds, never raises. All unknown callers have the same text."""


FEW = 8
"""Up to this many may wait before we ask whose a client is: the question costs a fiftieth of a login, and so many wait
whenever an office's mail programs are busy."""

LOOKS = 8
"""To make room, all who wait are checked for having hung up, but at most so many checks are made for each client that
has come: a login costs as much as some fifty of them."""


def nobody_knows(client: socket.socket) -> str:
    """For a system that cannot be asked: all callers count as one, first come, first served."""
    return ""


class AcceptQueue:
    """Accepted clients, in one line for each caller. The callers take turns, each with its oldest client.

    The kernel has one queue for all clients of a port. To begin a session takes half a millisecond; to connect and hang
    up takes a tenth of that. So one program that does nothing else would keep that queue full, and a client that finds
    no room in it tries again only after one second, then three, then seven.
    """

    def __init__(self, take: Take, whose: Whose) -> None:
        self._take = take
        self._whose = whose
        self._lines: OrderedDict[str, deque[tuple[socket.socket, Any]]] = OrderedDict()
        self._count = 0
        self._looks = 0
        """How many checks are paid for by clients that have come."""
        self._is_alone = True
        """True if the latest client found nobody waiting."""

    def __len__(self) -> int:
        return self._count

    def add(self, client: socket.socket, address: Any) -> None:
        """Put the client at the end of its caller's line. While few wait, all share one line."""
        caller = self._whose(client) if self._count >= FEW else ""
        self._is_alone = not self._count
        self._lines.setdefault(caller, deque()).append((client, address))
        self._count += 1
        self._looks += LOOKS

    def let_in(self, most_gone: int) -> None:
        """Begin the session of the next client that is still there, and drop at most `most_gone` that have hung up."""
        for _ in range(most_gone):
            if not self._count:
                return
            client, address = self._first()
            if self._is_alone or not _has_gone(client):
                self._take(client, address)
                return
            client.close()

    def drop_gone(self) -> None:
        """Drop all clients that have hung up, to make room for others. Does nothing shortly after the last time: while
        nobody hangs up, checking all of them for each that is let in would cost several times a login."""
        if self._looks < self._count:
            return
        self._looks = 0
        for caller, line in list(self._lines.items()):
            for _ in range(len(line)):
                one = line.popleft()
                if _has_gone(one[0]):
                    one[0].close()
                    self._count -= 1
                else:
                    line.append(one)
            if not line:
                del self._lines[caller]

    def _first(self) -> tuple[socket.socket, Any]:
        caller, line = self._lines.popitem(last=False)
        first = line.popleft()
        if line:
            self._lines[caller] = line
        self._count -= 1
        return first


def _has_gone(client: socket.socket) -> bool:
    """True if the client has closed without sending anything, or has reset the connection, even if data came first."""
    try:
        client.getpeername()
        return not client.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True
