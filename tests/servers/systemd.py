"""systemd's end of the notification protocol (sd_notify(3)): the datagram socket that it gives to a service."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

SECONDS = 60.0
"""How long to wait for the next message."""


class Systemd:
    """The messages that a service sends its manager, in the order in which they come."""

    def __init__(self, name: str, sock: socket.socket) -> None:
        self.name = name
        """The value for NOTIFY_SOCKET."""
        self._socket = sock

    def hears(self, word: str = "", seconds: float = SECONDS) -> list[str]:
        """All messages up to the next one that begins with `word`, which is the last. Raises: TimeoutError if one is
        late."""
        self._socket.settimeout(seconds)
        heard: list[str] = []
        while not heard or not heard[-1].startswith(word):
            heard.append(self._socket.recv(4096).decode())
        return heard

    def has_come(self) -> bool:
        """Read a message if one is there. Returns: whether there was one."""
        self._socket.setblocking(False)
        try:
            self._socket.recv(4096)
        except BlockingIOError:
            return False
        return True


@contextmanager
def listening(name: str) -> Iterator[Systemd]:
    """Listen at a path, or at an abstract name that begins with `@`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + name[1:] if name.startswith("@") else name)
        yield Systemd(name, sock)
