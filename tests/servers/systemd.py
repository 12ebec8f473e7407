"""systemd's end of its notification protocol (sd_notify(3)): a datagram socket, as it gives one to a service."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

SECONDS = 60.0
"""For the next message."""


class Systemd:
    """What a service tells its manager, in the order in which it comes."""

    def __init__(self, name: str, sock: socket.socket) -> None:
        self.name = name
        """As NOTIFY_SOCKET has it."""
        self._socket = sock

    def hears(self, word: str = "", seconds: float = SECONDS) -> list[str]:
        """All messages up to the next one that begins so, this one last. Raises: TimeoutError if one is late."""
        self._socket.settimeout(seconds)
        heard: list[str] = []
        while not heard or not heard[-1].startswith(word):
            heard.append(self._socket.recv(4096).decode())
        return heard

    def has_come(self) -> bool:
        """Take a message, if one is there."""
        self._socket.setblocking(False)
        try:
            self._socket.recv(4096)
        except BlockingIOError:
            return False
        return True


@contextmanager
def listening(name: str) -> Iterator[Systemd]:
    """At a path, or at an abstract name that begins with `@`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + name[1:] if name.startswith("@") else name)
        yield Systemd(name, sock)
