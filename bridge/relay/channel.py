"""One socket: the only receive buffer, start_tls, flow control.

The narrow seam between the relay and the operating system. Two implementations pass the same contract tests:
`ReadinessChannel` where the loop has add_reader (lean: nothing is allocated while a session is idle, about 20 KiB with
TLS), `CompletionChannel` where it has not (Windows' Proactor loop). Neither uses asyncio's streams or TLS transports:
those read ahead, which lets plaintext slip through STARTTLS, and keep up to half a MiB for each connection.

Nothing is read from a socket unless somebody asked: back-pressure is the kernel's.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable

from bridge.errors import PeerGone, TlsFailed

READ_SIZE = 256 * 1024
"""Octets of the read buffer that all readiness channels of a loop share: the size at which CPU per GB stops falling."""
RECORD_SIZE = 16 * 1024
"""Largest TLS record (RFC 8446 section 5.1); one SSL_read gives at most this."""
LINGER_SECONDS = 1.0
"""How long finish() listens so that a peer that is still sending gets to read our last words before a reset."""
LINGER_OCTETS = 256 * 1024
"""How much finish() throws away at most."""


class Channel(ABC):
    """A connected stream socket, plain or TLS. One task at a time may receive, and one may send."""

    __slots__ = ()

    peer: str
    """The other side's address, for the log."""

    @abstractmethod
    async def receive(self) -> bytes:
        """Wait for some bytes and return them; b"" at end of file (FIN, close_notify or both).

        Raises: PeerGone on a reset or a broken TLS record.
        """

    @abstractmethod
    async def send(self, data: bytes) -> None:
        """Return once the kernel has taken all of it. If cancelled, the channel is fit for abort() only.

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

        Bytes not yet received are the peer's handshake: whoever calls this has made sure that no plaintext
        behind the STARTTLS exchange was received and kept (RFC 3207 section 4.2).
        Raises: TlsFailed with the library's reason (certificate, name, protocol), PeerGone.
        """

    @property
    @abstractmethod
    def tls(self) -> ssl.SSLSocket | ssl.SSLObject | None:
        """The TLS object, or None on a plain channel; for session, version and cipher only."""

    @abstractmethod
    def close(self) -> None:
        """Say goodbye (close_notify, FIN) as far as that works without waiting, and release the socket. Idempotent."""

    @abstractmethod
    def _shut_for_sending(self) -> None:
        """close_notify and FIN, best effort."""

    async def finish(self) -> None:
        """Close so that the peer can still read what was sent: a close with unread input would reset the connection."""
        self._shut_for_sending()
        taken = 0
        with contextlib.suppress(TimeoutError, PeerGone):
            async with asyncio.timeout(LINGER_SECONDS):
                while taken < LINGER_OCTETS and (data := await self.receive()):
                    taken += len(data)
        self.close()


class ReadinessChannel(Channel):
    """A non-blocking socket (an SSLSocket once TLS is on) and the loop's add_reader/add_writer."""

    __slots__ = ("_buffer", "_closed", "_loop", "_on_readable", "_socket", "_writing", "peer")

    def __init__(self, sock: socket.socket, loop: asyncio.AbstractEventLoop, peer: str = "") -> None:
        sock.setblocking(False)
        self._socket = sock
        self._loop = loop
        self._buffer = shared_buffer(loop)
        self._on_readable: Callable[[], None] | None = None
        self._writing = False
        self._closed = False
        self.peer = peer

    # --- what the splice uses: never waits -------------------------------------------------------------------

    def try_receive_into(self, view: memoryview) -> int | None:
        """Read what is there: its length, 0 at end of file, None if nothing is there. Raises: PeerGone."""
        try:
            return self._socket.recv_into(view)
        except (BlockingIOError, ssl.SSLWantReadError, InterruptedError):
            return None
        except ssl.SSLWantWriteError:
            # A TLS 1.3 key update has to be answered while the socket is full: rare, and epoll would not tell us
            # when to go on, so look again shortly.
            self._loop.call_later(0.02, self._read_again)
            return None
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            return 0
        except OSError as problem:
            raise PeerGone(f"{self.peer}: {problem}") from problem

    def try_send(self, view: memoryview) -> int:
        """Write what the kernel takes now and return its length; 0 if nothing. Raises: PeerGone.

        TLS is all or nothing: after 0 the same bytes must be offered again, and nothing else before them.
        """
        try:
            return self._socket.send(view)
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError, InterruptedError):
            return 0
        except OSError as problem:
            raise PeerGone(f"{self.peer}: {problem}") from problem

    def has_decrypted(self) -> bool:
        """True if bytes wait inside the TLS library, where the selector does not see them."""
        return isinstance(self._socket, ssl.SSLSocket) and self._socket.pending() > 0

    @property
    def is_record_based(self) -> bool:
        """True on TLS: one read gives one record."""
        return isinstance(self._socket, ssl.SSLSocket)

    def watch_readable(self, callback: Callable[[], None]) -> None:
        """Call back each time there is something to read, until unwatched."""
        if not self._closed:
            self._loop.add_reader(self._socket.fileno(), callback)
            self._on_readable = callback

    def unwatch_readable(self) -> None:
        """Stop reading: the kernel's buffer fills and the peer is slowed down."""
        if self._on_readable is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._on_readable = None

    @property
    def is_watched(self) -> bool:
        """True between watch_readable and unwatch_readable."""
        return self._on_readable is not None

    def watch_writable(self, callback: Callable[[], None]) -> None:
        """Call back while the kernel takes bytes, until unwatched."""
        if not self._closed:
            self._loop.add_writer(self._socket.fileno(), callback)
            self._writing = True

    def unwatch_writable(self) -> None:
        """No more calls."""
        if self._writing:
            self._loop.remove_writer(self._socket.fileno())
            self._writing = False

    # --- Channel ----------------------------------------------------------------------------------------------

    async def receive(self) -> bytes:
        """See Channel."""
        while (count := self.try_receive_into(self._buffer)) is None:
            await self._readable()
        return bytes(self._buffer[:count])

    async def send(self, data: bytes) -> None:
        """See Channel."""
        view = memoryview(data)
        while view:
            sent = self.try_send(view)
            view = view[sent:]
            if view and not sent:
                await self._writable()

    async def start_tls(
        self,
        context: ssl.SSLContext,
        *,
        server_hostname: str | None = None,
        session: ssl.SSLSession | None = None,
    ) -> None:
        """See Channel."""
        try:
            wrapped = context.wrap_socket(
                self._socket,
                server_side=server_hostname is None,
                do_handshake_on_connect=False,
                server_hostname=server_hostname,
                session=session,
            )
        except (OSError, ValueError) as problem:
            raise PeerGone(f"{self.peer}: {problem}") from problem
        self._socket = wrapped
        while True:
            try:
                wrapped.do_handshake()
            except ssl.SSLWantReadError:
                await self._readable()
            except ssl.SSLWantWriteError:
                await self._writable()
            except ssl.SSLError as problem:
                raise TlsFailed(_tls_reason(problem)) from problem
            except OSError as problem:
                raise PeerGone(f"{self.peer}: {problem}") from problem
            else:
                return

    @property
    def tls(self) -> ssl.SSLSocket | None:
        """See Channel."""
        return self._socket if isinstance(self._socket, ssl.SSLSocket) else None

    def close(self) -> None:
        """See Channel."""
        if self._closed:
            return
        self.unwatch_readable()
        self.unwatch_writable()
        self._shut_for_sending()
        self._closed = True
        self._socket.close()

    def _shut_for_sending(self) -> None:
        if isinstance(self._socket, ssl.SSLSocket):
            # unwrap() sends close_notify first; that it then waits for the peer's is of no interest.
            with contextlib.suppress(OSError, ValueError):
                self._socket.unwrap()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def _read_again(self) -> None:
        if self._on_readable is not None and not self._closed:
            self._on_readable()

    async def _readable(self) -> None:
        ready: asyncio.Future[None] = self._loop.create_future()
        self.watch_readable(lambda: _resolve(ready))
        try:
            await ready
        finally:
            self.unwatch_readable()

    async def _writable(self) -> None:
        ready: asyncio.Future[None] = self._loop.create_future()
        self.watch_writable(lambda: _resolve(ready))
        try:
            await ready
        finally:
            self.unwatch_writable()


class CompletionChannel(Channel):
    """A socket driven by the loop's sock_* calls, with TLS by hand over memory BIOs: works on every asyncio loop."""

    __slots__ = (
        "_buffer",
        "_closed",
        "_incoming",
        "_loop",
        "_outgoing",
        "_sending",
        "_socket",
        "_tls",
        "peer",
    )

    def __init__(self, sock: socket.socket, loop: asyncio.AbstractEventLoop, peer: str = "") -> None:
        sock.setblocking(False)
        self._socket = sock
        self._loop = loop
        # One of its own: an overlapped read holds its buffer until it completes. OpenSSL's memory BIO keeps the
        # largest size it ever had, so small pieces keep a used session small (49 KiB; 296 KiB with 256 KiB pieces).
        self._buffer = memoryview(bytearray(RECORD_SIZE))
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None
        self._sending = asyncio.Lock()
        self._closed = False
        self.peer = peer

    async def receive(self) -> bytes:
        """See Channel."""
        if self._tls is None:
            return bytes(self._buffer[: await self._read_socket()])
        while True:
            try:
                return self._tls.read(RECORD_SIZE)
            except ssl.SSLWantReadError:
                await self._flush()
                await self._feed()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""
            except OSError as problem:
                raise PeerGone(f"{self.peer}: {problem}") from problem

    async def send(self, data: bytes) -> None:
        """See Channel."""
        if self._tls is None:
            async with self._sending:
                await self._write_socket(data)
            return
        for start in range(0, len(data), 4 * RECORD_SIZE):
            try:
                self._tls.write(data[start : start + 4 * RECORD_SIZE])
            except OSError as problem:
                raise PeerGone(f"{self.peer}: {problem}") from problem
            await self._flush()

    async def start_tls(
        self,
        context: ssl.SSLContext,
        *,
        server_hostname: str | None = None,
        session: ssl.SSLSession | None = None,
    ) -> None:
        """See Channel."""
        self._tls = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=server_hostname is None,
            server_hostname=server_hostname,
            session=session,
        )
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                await self._feed()
            except ssl.SSLError as problem:
                with contextlib.suppress(PeerGone):  # the alert tells the peer why
                    await self._flush()
                raise TlsFailed(_tls_reason(problem)) from problem
            else:
                return await self._flush()

    @property
    def tls(self) -> ssl.SSLObject | None:
        """See Channel."""
        return self._tls

    def close(self) -> None:
        """See Channel."""
        if self._closed:
            return
        self._shut_for_sending()
        self._closed = True
        self._socket.close()

    def _shut_for_sending(self) -> None:
        if self._tls is not None:
            with contextlib.suppress(OSError, ValueError):
                self._tls.unwrap()
            with contextlib.suppress(OSError):
                self._socket.send(self._outgoing.read())
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    async def _feed(self) -> None:
        """Move what arrives into the TLS library; end of file too."""
        if count := await self._read_socket():
            self._incoming.write(self._buffer[:count])
        else:
            self._incoming.write_eof()

    async def _flush(self) -> None:
        """Send what the TLS library has to say; in order, whoever calls (a read may answer a key update)."""
        async with self._sending:
            while data := self._outgoing.read():
                await self._write_socket(data)

    async def _read_socket(self) -> int:
        try:
            return await self._loop.sock_recv_into(self._socket, self._buffer)
        except OSError as problem:
            raise PeerGone(f"{self.peer}: {problem}") from problem

    async def _write_socket(self, data: bytes) -> None:
        try:
            await self._loop.sock_sendall(self._socket, data)
        except OSError as problem:
            raise PeerGone(f"{self.peer}: {problem}") from problem


_buffers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, memoryview] = weakref.WeakKeyDictionary()


def shared_buffer(loop: asyncio.AbstractEventLoop) -> memoryview:
    """The read buffer of this loop; what is in it is good until the next callback."""
    buffer = _buffers.get(loop)
    if buffer is None:
        buffer = _buffers[loop] = memoryview(bytearray(READ_SIZE))
    return buffer


def open_channel(sock: socket.socket, loop: asyncio.AbstractEventLoop, peer: str = "") -> Channel:
    """Wrap a connected socket in the best channel that this loop can drive, tuned for a mail session.

    TCP_NODELAY: without it a small FETCH waits 44 ms for Nagle. Keepalive: a peer that vanished (sleep, lost Wi-Fi)
    is noticed within minutes although mail sessions may be silent for half an hour.
    """
    with contextlib.suppress(OSError):  # a socket pair in a test has neither
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, seconds in (("TCP_KEEPIDLE", 120), ("TCP_KEEPINTVL", 30), ("TCP_KEEPCNT", 4)):
            if (option := getattr(socket, name, None)) is not None:
                sock.setsockopt(socket.IPPROTO_TCP, option, seconds)
    kind = ReadinessChannel if _has_add_reader(loop) else CompletionChannel
    return kind(sock, loop, peer)


def _has_add_reader(loop: asyncio.AbstractEventLoop) -> bool:
    """Proactor loops inherit an add_reader that raises NotImplementedError."""
    return type(loop).add_reader is not asyncio.AbstractEventLoop.add_reader


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _tls_reason(problem: ssl.SSLError) -> str:
    """The part of OpenSSL's message that helps a person; without source file and line."""
    if isinstance(problem, ssl.SSLCertVerificationError):
        return f"the certificate is not accepted: {problem.verify_message}"
    return problem.reason.replace("_", " ").lower() if problem.reason else "the TLS handshake failed"
