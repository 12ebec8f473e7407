"""An HTTPS server that answers with given bytes, such as no real authorization server would send.

It uses plain sockets in a thread, one connection after the other: asyncio's TLS leaves transports unclosed when a
handshake fails or a client goes away, and these tests provoke both.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import trustme

Answer = bytes | Callable[[socket.socket], object]
Tls = tuple[str, ssl.SSLContext]
"""The file of a CA, and a server context with a certificate that it has issued."""
OK = b"HTTP/1.1 200 OK\r\n"


@dataclass
class Raw:
    """The server's port, the CA file to trust, and the requests that it received."""

    port: int
    ca_file: str
    requests: list[bytes] = field(default_factory=list)

    @property
    def url(self) -> str:
        """An https:// URL on this server."""
        return f"https://localhost:{self.port}/token"


def http(body: bytes, status: str = "200 OK", headers: str = "") -> bytes:
    """A complete HTTP response."""
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nContent-Type: application/json\r\n{headers}\r\n"
    return head.encode() + body


def certificates(directory: Path) -> Tls:
    """A new CA, and a certificate for localhost."""
    ca = trustme.CA()
    file = directory / "ca.pem"
    ca.cert_pem.write_to_path(str(file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    return str(file), context


@contextlib.contextmanager
def serving(answer: Answer, ca_file: str, context: ssl.SSLContext | None) -> Iterator[Raw]:
    """Answer each request with these bytes, or by calling this function, then close."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        raw = Raw(listener.getsockname()[1], ca_file)
        over = threading.Event()
        thread = threading.Thread(target=_serve, args=(listener, over, answer, context, raw.requests), daemon=True)
        thread.start()
        try:
            yield raw
        finally:
            over.set()
            socket.create_connection(("127.0.0.1", raw.port)).close()  # wakes accept()
            thread.join(5)


def _serve(
    listener: socket.socket, over: threading.Event, answer: Answer, context: ssl.SSLContext | None, log: list[bytes]
) -> None:
    while True:
        connection, _ = listener.accept()
        if over.is_set():
            return connection.close()
        connection.settimeout(5)
        with connection, contextlib.suppress(OSError):  # the client has gone, or does not trust our CA
            channel = context.wrap_socket(connection, server_side=True) if context else connection
            with channel:
                log.append(_request(channel))
                if isinstance(answer, bytes):
                    channel.sendall(answer)
                else:
                    answer(channel)


def _request(channel: socket.socket) -> bytes:
    """The head and the body of a request; closing with the body unread would reset the connection."""
    request = b""
    while b"\r\n\r\n" not in request and (piece := channel.recv(4096)):
        request += piece
    head, _, body = request.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    if length and (left := int(length[1]) - len(body)) > 0:
        request += channel.recv(left)  # a form as short as this comes in one piece
    return request
