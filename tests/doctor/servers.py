"""Servers that a connection may meet: with certificates of every kind, silent, refusing; each in a thread, on a free
port."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from email.utils import formatdate

import trustme

Talk = Callable[[socket.socket], None]


@contextmanager
def serving(talk: Talk) -> Iterator[int]:
    """Call `talk` with each connection. Yields: the port."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        threading.Thread(target=_accept, args=(listening, talk), daemon=True).start()
        try:
            yield listening.getsockname()[1]
        finally:
            # Otherwise the thread would stay in accept(); if a signal then interrupted the call, it would go on with
            # whichever socket has that file descriptor by now.
            with suppress(OSError):  # some systems refuse it, and do not need it
                listening.shutdown(socket.SHUT_RDWR)


def _accept(listening: socket.socket, talk: Talk) -> None:
    while True:
        try:
            sock, _ = listening.accept()
        except OSError:
            return
        threading.Thread(target=_served, args=(sock, talk), daemon=True).start()


def _served(sock: socket.socket, talk: Talk) -> None:
    with sock:
        try:
            talk(sock)
        except OSError:  # such as a client that rejects our certificate
            return


def silent(sock: socket.socket) -> None:
    """Take everything, say nothing."""
    while sock.recv(4096):
        pass


def server_context(authority: trustme.CA, *names: str, **options: object) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*(names or ("localhost", "127.0.0.1")), **options).configure_cert(context)  # type: ignore[arg-type]
    return context


def https(context: ssl.SSLContext, *, ahead: float = 0.0, requests: list[bytes] | None = None) -> Talk:
    """Answer one request, with a Date header that is `ahead` seconds in the future."""

    def talk(sock: socket.socket) -> None:
        with context.wrap_socket(sock, server_side=True) as tls:
            request = tls.recv(4096)
            if requests is not None:
                requests.append(request)
            if request:
                date = formatdate(time.time() + ahead, usegmt=True)
                tls.sendall(f"HTTP/1.1 404 Not Found\r\nDate: {date}\r\nContent-Length: 0\r\n\r\n".encode())

    return talk


def imap_without_starttls(sock: socket.socket) -> None:
    sock.sendall(b"* OK ready\r\n")
    lines = sock.makefile("rb")
    for line in lines:
        tag = line.split()[0]
        if b"CAPABILITY" in line.upper():
            sock.sendall(b"* CAPABILITY IMAP4rev1\r\n" + tag + b" OK done\r\n")
        else:
            sock.sendall(tag + b" BAD no\r\n")


def tunnel(port: int, asked: list[str], *, answer: str = "200 OK") -> Talk:
    """A proxy that connects every CONNECT to this port (RFC 9110 section 9.3.6)."""

    def talk(sock: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += sock.recv(4096)
        asked.append(head.split(b"\r\n")[0].decode())
        sock.sendall(f"HTTP/1.1 {answer}\r\n\r\n".encode())
        if not answer.startswith("200"):
            return
        with closing(socket.create_connection(("127.0.0.1", port))) as other:
            back = threading.Thread(target=_pump, args=(other, sock), daemon=True)
            back.start()
            _pump(sock, other)
            back.join()

    return talk


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return
