"""An HTTP proxy that connects every host to one port of this machine, so that a test can use Microsoft's host names."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Tunnel:
    """A proxy (RFC 9110 section 9.3.6, CONNECT)."""

    url: str
    hosts: list[str] = field(default_factory=list)
    """The targets of the CONNECT requests, as `host:port`."""


@contextlib.contextmanager
def tunnel(port: int) -> Iterator[Tunnel]:
    """Runs until the context ends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        here = listener.getsockname()[1]
        proxy = Tunnel(f"http://127.0.0.1:{here}")
        over = threading.Event()
        thread = threading.Thread(target=_serve, args=(listener, over, port, proxy.hosts), daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            over.set()
            socket.create_connection(("127.0.0.1", here)).close()  # wakes accept()
            thread.join(5)


def _serve(listener: socket.socket, over: threading.Event, port: int, hosts: list[str]) -> None:
    while True:
        client, _ = listener.accept()
        if over.is_set():
            return client.close()
        client.settimeout(10)
        with client, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head and (piece := client.recv(4096)):
                head += piece
            hosts.append(head.split(b" ")[1].decode())
            with socket.create_connection(("127.0.0.1", port), 10) as server:
                client.sendall(b"HTTP/1.1 200 Yes\r\n\r\n")
                back = threading.Thread(target=_pass, args=(server, client), daemon=True)
                back.start()
                _pass(client, server)
                back.join(10)


def _pass(source: socket.socket, target: socket.socket) -> None:
    """Pass everything on until `source` ends, then shut down the sending side of `target`."""
    with contextlib.suppress(OSError):
        while piece := source.recv(65536):
            target.sendall(piece)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
