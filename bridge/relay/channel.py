"""One socket: the only receive buffer, start_tls, flow control.

The narrow seam between the relay and the operating system. Two implementations pass the same contract tests:
`readiness` where the loop has add_reader (lean: nothing is allocated while a session is idle, about 20 KiB with TLS),
`completion` where it has not (Windows' Proactor loop). Neither uses asyncio's streams or TLS transports: those read
ahead, which lets plaintext slip through STARTTLS, and keep up to half a MiB for each connection.

Nothing is read from a socket unless a caller asks, so the kernel does the back-pressure.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from abc import ABC, abstractmethod
from typing import Any

from bridge.errors import PeerGone
from bridge.model import Ends

RECORD_SIZE = 16 * 1024
"""Octets of the largest TLS record (RFC 8446 section 5.1); one SSL_read gives at most this."""
LINGER_SECONDS = 1.0
"""How long finish() goes on reading, so that a peer that is still sending can read our last words before a reset."""
LINGER_OCTETS = 256 * 1024
"""How much finish() reads and discards at most."""


class Channel(ABC):
    """A connected stream socket, plain or TLS. One task at a time may receive, and one may send."""

    __slots__ = ("is_check", "is_direct", "origin", "peer")

    peer: str
    """The other side's address, for the log; behind a balancer with the PROXY protocol, the one in its header."""
    is_direct: bool
    """True if the socket's other end is the peer itself; False if a balancer speaks for the peer, so that nothing about
    this socket (its OS user, its port) tells who the peer is."""
    is_check: bool
    """True if a balancer speaks for itself: a health check every second or two, in which nobody reads mail. A client of
    the balancer's Unix socket, for which it has no address, looks the same."""
    origin: Ends | None
    """What a balancer says about the peer; None without a balancer, or if it says nothing of use."""

    @abstractmethod
    async def receive(self) -> bytes:
        """Wait for some bytes and return them; b"" at end of file (FIN, close_notify or both).

        Raises: PeerGone on a reset or a broken TLS record.
        """

    @abstractmethod
    async def receive_first(self, most: int) -> bytes:
        """Like receive(), but raw from the socket, and at most so many octets: before TLS, which gets the rest."""

    @abstractmethod
    async def send(self, data: bytes) -> None:
        """Return once the kernel has taken all of it. If cancelled, the channel can only be closed.

        Raises: PeerGone.
        """

    @abstractmethod
    async def start_tls(
        self,
        context: ssl.SSLContext,
        *,
        server_hostname: str | None = None,
        session: ssl.SSLSession | None = None,
    ) -> None:
        """Start TLS on the raw socket: as client if `server_hostname` is given, else as server.

        Bytes not yet received are the peer's handshake: the caller has made sure that no plaintext from after the
        STARTTLS exchange was received and kept (RFC 3207 section 4.2).
        Raises: TlsFailed with the library's reason (certificate, name, protocol), PeerGone.
        """

    @property
    @abstractmethod
    def tls(self) -> ssl.SSLSocket | ssl.SSLObject | None:
        """The TLS object, or None on a plain channel; for session, version and cipher only."""

    @property
    @abstractmethod
    def ends(self) -> Ends | None:
        """Both addresses, from the socket or from a balancer; None if the peer has gone or is not known."""

    @property
    @abstractmethod
    def has_begun_handshake(self) -> bool:
        """True if the client has sent something of its TLS handshake, which is still under way or has failed."""

    @property
    @abstractmethod
    def has_left(self) -> bool:
        """True if the peer has gone (FIN, reset) and nothing from it is left to receive. Neither reads nor waits.

        False while an unread close_notify of TLS is left: only receive() finds that.
        """

    @abstractmethod
    def close(self) -> None:
        """Say goodbye (close_notify, FIN) as far as that works without waiting, and release the socket. Idempotent."""

    @abstractmethod
    def _shut_for_sending(self) -> None:
        """close_notify and FIN, best effort."""

    async def finish(self) -> None:
        """Close so that the peer can still read what was sent: a close with unread input would reset the connection."""
        self._shut_for_sending()
        taken = 0  # octets read raw: after its close_notify, TLS would report anything it reads as an error
        with contextlib.suppress(TimeoutError, PeerGone):
            async with asyncio.timeout(LINGER_SECONDS):
                while taken < LINGER_OCTETS and (data := await self.receive_first(RECORD_SIZE)):
                    taken += len(data)
        self.close()


def has_ended(sock: socket.socket) -> bool:
    """True if the stream has ended and no octet is left in it."""
    try:
        return not socket.socket.recv(sock, 1, socket.MSG_PEEK)  # an SSLSocket's own takes no flags
    except BlockingIOError:
        return False
    except OSError:
        return True


def ends_of(sock: socket.socket) -> Ends | None:
    """Both addresses of a TCP connection; None if the peer has gone, or if it is not TCP."""
    try:
        client, ours = sock.getpeername(), sock.getsockname()
    except OSError:
        return None
    return Ends(_end(client), _end(ours)) if sock.family in {socket.AF_INET, socket.AF_INET6} else None


def _end(name: Any) -> tuple[str, int]:
    """Host and port; a link-local address with its scope: fe80::1%2."""
    host, port, *more = name
    return (f"{host}%{more[1]}" if any(more[1:]) else host), port
