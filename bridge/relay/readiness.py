"""The lean channel: a non-blocking socket, an SSLSocket once TLS is on, and the loop's add_reader."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import weakref
from collections.abc import Callable

from bridge.errors import PeerGone, TlsFailed
from bridge.model import Ends
from bridge.relay.channel import Channel, ends_of, tls_reason

READ_SIZE = 256 * 1024
"""Octets of the read buffer that all channels of a loop share: the size at which CPU per GB stops falling."""


class ReadinessChannel(Channel):
    """A non-blocking socket (an SSLSocket once TLS is on) and the loop's add_reader/add_writer."""

    __slots__ = ("_buffer", "_closed", "_loop", "_on_readable", "_socket", "_writing")

    def __init__(self, sock: socket.socket, loop: asyncio.AbstractEventLoop, peer: str = "") -> None:
        sock.setblocking(False)
        self._socket = sock
        self._loop = loop
        self._buffer = shared_buffer(loop)
        self._on_readable: Callable[[], None] | None = None
        self._writing = False
        self._closed = False
        self.peer = peer
        self.is_direct = True
        self.origin = None

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

    async def receive_first(self, most: int) -> bytes:
        """See Channel."""
        view = self._buffer[:most]
        while (count := self.try_receive_into(view)) is None:
            await self._readable()
        return bytes(view[:count])

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
            self._socket.getpeername()  # on a reset socket wrap_socket raises and forgets to close what it has made
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
                raise TlsFailed(tls_reason(problem)) from problem
            except OSError as problem:
                raise PeerGone(f"{self.peer}: {problem}") from problem
            else:
                return

    @property
    def tls(self) -> ssl.SSLSocket | None:
        """See Channel."""
        return self._socket if isinstance(self._socket, ssl.SSLSocket) else None

    @property
    def ends(self) -> Ends | None:
        """See Channel."""
        return ends_of(self._socket) if self.is_direct else self.origin

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


_buffers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, memoryview] = weakref.WeakKeyDictionary()


def shared_buffer(loop: asyncio.AbstractEventLoop) -> memoryview:
    """The read buffer of this loop; what is in it is good until the next callback."""
    buffer = _buffers.get(loop)
    if buffer is None:
        buffer = _buffers[loop] = memoryview(bytearray(READ_SIZE))
    return buffer


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
