"""Mail clients that have connected and wait for their turn: whoever connects without end keeps nobody else waiting."""

from __future__ import annotations

import socket
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

Take = Callable[[socket.socket, Any], None]
"""A client and its address; must not raise, nor close a descriptor (bridge.host.loop)."""
Whose = Callable[[socket.socket], str]
"""What tells callers apart for a moment, in microseconds; raises nothing. One text for all that nobody knows."""


FEW = 8
"""So many may wait before anybody is asked about: the question costs a fiftieth of a login, and that many wait whenever
an office's mail programs are busy."""

LOOKS = 8
"""To make room, all who wait are looked at, but no more of them than this for each who has come: a login costs what
some fifty looks do."""


def nobody_knows(client: socket.socket) -> str:
    """Where the system cannot be asked: all are one, and come in their turn."""
    return ""


class Crowd:
    """Callers take turns, each with the one of theirs that came first.

    The kernel has one queue for all who come by a port. To begin a session takes half a millisecond, to connect and to
    hang up a tenth: one program that does nothing else would fill that queue for good, and whom it has no room for
    tries again after one second, after three, after seven.
    """

    def __init__(self, take: Take, whose: Whose) -> None:
        self._take = take
        self._whose = whose
        self._lines: OrderedDict[str, deque[tuple[socket.socket, Any]]] = OrderedDict()
        self._count = 0
        self._looks = 0
        """How many may be looked at for those who have come."""
        self._is_alone = True
        """The last who came found nobody waiting."""

    def __len__(self) -> int:
        return self._count

    def add(self, client: socket.socket, address: Any) -> None:
        """Put it behind its caller's others. While few wait, all of them are one line."""
        caller = self._whose(client) if self._count >= FEW else ""
        self._is_alone = not self._count
        self._lines.setdefault(caller, deque()).append((client, address))
        self._count += 1
        self._looks += LOOKS

    def let_in(self, most_gone: int) -> None:
        """Whose turn it is, and is still there; of those who have hung up meanwhile at most so many are dropped."""
        for _ in range(most_gone):
            if not self._count:
                return
            client, address = self._first()
            if self._is_alone or not _has_gone(client):
                self._take(client, address)
                return
            client.close()

    def drop_gone(self) -> None:
        """Of all lines those who have hung up: room for others, where there is none left. Nobody, if that has been done
        just now: where all who wait are there, it costs much for each who is let in."""
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
    """True of who has hung up without a word, or with a reset, which leaves what came before it to be read."""
    try:
        client.getpeername()
        return not client.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True
