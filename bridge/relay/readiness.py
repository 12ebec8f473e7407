"""The lean channel: a non-blocking socket, TLS on it, and a loop that tells when the socket is ready."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import ssl
import traceback
import weakref
from collections.abc import Callable

from bridge.advice.tls import tls_reason
from bridge.errors import PeerGone, TlsFailed
from bridge.model import Ends
from bridge.openssl import forget_errors
from bridge.relay.channel import RECORD_SIZE, Channel, ends_of, has_ended
from bridge.relay.records import RecordTls
from bridge.relay.watching import watching_of

PIECE = 128 * 1024
"""Octets moved in one direction before other sessions get their turn; also the size of the read buffer that the
channels of a loop share. With more, CPU per GB falls no further; with this, another session's NOOP waits no longer than
behind HAProxy."""
BURST_SECONDS = 0.002
"""Full records that follow each other faster than this are a bulk download; on a WAN, the next comes some 10 ms on."""
SHORTLY_SECONDS = 0.02
"""Until the next attempt, if TLS waits for something that the loop cannot report. Rare."""


class _Buffer:
    """The read buffer of one loop; its content is valid until the next callback."""

    __slots__ = ("records", "whole")

    def __init__(self) -> None:
        self.whole = memoryview(bytearray(PIECE))
        self.records = [self.whole[start : start + RECORD_SIZE] for start in range(0, PIECE, RECORD_SIZE)]
        """The same memory, cut into places for one TLS record each."""


class ReadinessChannel(Channel):
    """A non-blocking socket; the loop tells when it can be read or written. With TLS, it is an SSLSocket towards a
    server, and a plain socket under RecordTls towards a client."""

    __slots__ = (
        "_broken",
        "_buffer",
        "_closed",
        "_descriptor",
        "_full_at",
        "_has_to_hear",
        "_hearing",
        "_is_watched",
        "_loop",
        "_on_readable",
        "_read_record",
        "_records",
        "_socket",
        "_watching",
        "_write",
        "_writing",
    )

    def __init__(self, sock: socket.socket, loop: asyncio.AbstractEventLoop, peer: str = "") -> None:
        sock.setblocking(False)
        self._socket = sock
        self._descriptor = sock.fileno()
        self._loop = loop
        self._watching = watching_of(loop)
        self._buffer = _buffer_of(loop)
        self._read_record: Callable[[int, memoryview], int] | None = None
        self._records: RecordTls | None = None
        self._write: Callable[[memoryview], int] = sock.send
        self._on_readable: Callable[[], None] | None = None
        self._is_watched = False
        self._full_at = 0.0
        self._broken: PeerGone | None = None
        self._writing = False
        self._has_to_hear = False
        self._hearing: asyncio.TimerHandle | None = None
        self._closed = False
        self.peer = peer
        self.is_direct = True
        self.is_check = False
        self.origin = None

    # --- what the splice uses: never waits -------------------------------------------------------------------

    def try_receive(self) -> tuple[memoryview, bool]:
        """Read what is there, PIECE at most: (the bytes, whether the stream ends after them). Raises: PeerGone.

        A TLS read gives one record. A record that is not full was most likely the last, and so is a full one that
        comes after a pause: this saves the read that would find nothing. There is always room for a whole record, so
        that none is left inside the TLS library, where no selector sees it. Nor would a selector report an end that
        was read together with bytes: after such an end, call again to learn whether it was a close or a loss.
        """
        if self._broken is not None:
            raise self._broken
        buffer = self._buffer
        filled = 0
        try:
            if self._read_record is None:
                filled = self._socket.recv_into(buffer.whole)
                return buffer.whole[:filled], not filled
            for place in buffer.records:
                count = self._read_record(RECORD_SIZE, place)
                filled += count
                if count < RECORD_SIZE:
                    return buffer.whole[:filled], not count
                if filled == RECORD_SIZE and not self._is_in_a_burst():
                    return buffer.whole[:filled], False
        except (BlockingIOError, ssl.SSLWantReadError, InterruptedError):
            pass
        except ssl.SSLWantWriteError:
            # A TLS 1.3 key update has to be answered while the socket is full. That is rare, and epoll would not tell
            # us when to go on, so read again shortly. (A second key update before that, or a renegotiation of TLS 1.2,
            # ends the session: while our own data is half sent, OpenSSL calls an answer "bad length". Not reading
            # meanwhile is no way out: we would miss that the server refuses a message, which is not rare.)
            self._loop.call_later(SHORTLY_SECONDS, self._read_again)
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            return buffer.whole[:filled], True
        except OSError as problem:
            self._forget(problem)
            self._broken = PeerGone(f"{self.peer}: {problem}")
            if not filled:  # otherwise these octets go first; the kernel reports the error only once, so we keep it
                raise self._broken from problem
            return buffer.whole[:filled], True
        return buffer.whole[:filled], False

    def _is_in_a_burst(self) -> bool:
        """True if full records follow each other as fast as we read them."""
        before, self._full_at = self._full_at, self._loop.time()
        return self._full_at - before < BURST_SECONDS

    def try_send(self, view: memoryview) -> int:
        """Write what the kernel takes now and return its length; 0 if nothing. Raises: PeerGone.

        With TLS, after a 0 the same bytes must be offered again, and nothing else before them.
        """
        try:
            return self._write(view)
        except (BlockingIOError, ssl.SSLWantWriteError, InterruptedError):
            return 0
        except ssl.SSLWantReadError:
            self._has_to_hear = True
            return 0
        except OSError as problem:
            self._forget(problem)
            raise PeerGone(f"{self.peer}: {problem}") from problem

    def watch_readable(self, callback: Callable[[], None]) -> None:
        """Call back each time there is something to read, until unwatched. Raises: PeerGone if the kernel has no memory
        to watch one more socket, because we would hear nothing from this one."""
        if not self._closed:
            try:
                self._watching.watch(self._descriptor, callback)
            except OSError as problem:
                raise PeerGone(f"{self.peer}: {problem}") from problem
            self._on_readable = callback
            self._is_watched = True

    def unwatch_readable(self) -> None:
        """Stop reading: the kernel's buffer fills and the peer is slowed down."""
        if self._is_watched:
            self._watching.unwatch(self._descriptor)
            self._on_readable = None
            self._is_watched = False

    def watch_writable(self, callback: Callable[[], None]) -> None:
        """Call back while the kernel takes bytes, until unwatched. Raises: PeerGone, as watch_readable()."""
        if self._closed:
            return
        if self._has_to_hear:  # the peer renegotiates (TLS 1.2): the socket is writable, but TLS must read first
            self._has_to_hear = False
            self.unwatch_writable()
            self._hearing = self._loop.call_later(SHORTLY_SECONDS, callback)
            return
        try:
            self._loop.add_writer(self._descriptor, callback)
        except OSError as problem:
            raise PeerGone(f"{self.peer}: {problem}") from problem
        self._writing = True

    def unwatch_writable(self) -> None:
        """No more calls."""
        if self._hearing is not None:
            self._hearing.cancel()
            self._hearing = None
        if self._writing:
            self._loop.remove_writer(self._descriptor)
            self._writing = False

    # --- Channel ----------------------------------------------------------------------------------------------

    async def receive(self) -> bytes:
        """See Channel."""
        while True:
            data, is_end = self.try_receive()
            if data or is_end:
                return bytes(data)
            await self._readable()

    async def receive_first(self, most: int) -> bytes:
        """See Channel."""
        view = self._buffer.whole[:most]
        while True:
            try:
                return bytes(view[: socket.socket.recv_into(self._socket, view)])  # past an SSLSocket's own
            except (BlockingIOError, InterruptedError):
                await self._readable()
            except OSError as problem:
                raise PeerGone(f"{self.peer}: {problem}") from problem

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
        self.unwatch_readable()  # first: a failed wrapping may close the descriptor, and its number may be reused
        if server_hostname is None:
            tls = self._records = RecordTls(self._socket, context)
            self._read_record, self._write = tls.read, tls.write
            shake = tls.do_handshake
        else:
            wrapped = self._socket = self._wrapped(context, server_hostname, session)
            # Not SSLSocket.recv_into and send: their Python frames are 12 % of a bulk download's CPU.
            self._read_record = wrapped._sslobj.read  # type: ignore[attr-defined]
            self._write = wrapped._sslobj.write  # type: ignore[attr-defined]
            shake = wrapped.do_handshake
        while True:
            try:
                shake()
            except ssl.SSLWantReadError:
                await self._readable()
            except ssl.SSLWantWriteError:
                await self._writable()
            except ssl.SSLError as problem:
                raise TlsFailed(tls_reason(problem)) from problem
            except OSError as problem:
                self._forget(problem)
                raise PeerGone(f"{self.peer}: {problem}") from problem
            else:
                return

    def _wrapped(self, context: ssl.SSLContext, name: str, session: ssl.SSLSession | None) -> ssl.SSLSocket:
        try:
            self._socket.getpeername()  # wrap_socket() takes a socket that was reset for one not connected yet
            return context.wrap_socket(
                self._socket, do_handshake_on_connect=False, server_hostname=name, session=session
            )
        except (OSError, ValueError) as problem:
            _close_what_was_made(problem)
            raise PeerGone(f"{self.peer}: {problem}") from problem

    @property
    def tls(self) -> ssl.SSLSocket | ssl.SSLObject | None:
        """See Channel."""
        if self._records is not None:
            return self._records.tls
        return self._socket if isinstance(self._socket, ssl.SSLSocket) else None

    @property
    def ends(self) -> Ends | None:
        """See Channel."""
        return ends_of(self._socket) if self.is_direct else self.origin

    @property
    def has_begun_handshake(self) -> bool:
        """See Channel."""
        return self._records is not None and self._records.has_begun_handshake

    @property
    def has_left(self) -> bool:
        """See Channel."""
        return has_ended(self._socket) and not (self.tls is not None and self.tls.pending())

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
        tls = self._records or self._socket
        if isinstance(tls, (RecordTls, ssl.SSLSocket)):
            # unwrap() sends our close_notify, then wants the peer's; we do not wait for that.
            try:
                tls.unwrap()
            except (OSError, ValueError) as problem:
                self._forget(problem)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def _forget(self, problem: Exception) -> None:
        """Clear OpenSSL's error queue, so that the error is not reported to another session as its own."""
        if isinstance(self._socket, ssl.SSLSocket) and not isinstance(problem, ssl.SSLError):
            forget_errors(self._socket.context)

    def _read_again(self) -> None:
        if self._on_readable is not None and not self._closed:
            self._on_readable()

    async def _readable(self) -> None:
        ready: asyncio.Future[None] = self._loop.create_future()
        self.watch_readable(functools.partial(_resolve, ready))
        try:
            await ready
        finally:
            self._on_readable = None
            if not self._closed:
                self._watching.rest(self._descriptor)  # a dialogue: the next wait follows soon

    async def _writable(self) -> None:
        ready: asyncio.Future[None] = self._loop.create_future()
        self.watch_writable(functools.partial(_resolve, ready))
        try:
            await ready
        finally:
            self.unwatch_writable()


_buffers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Buffer] = weakref.WeakKeyDictionary()


def _buffer_of(loop: asyncio.AbstractEventLoop) -> _Buffer:
    buffer = _buffers.get(loop)
    if buffer is None:
        buffer = _buffers[loop] = _Buffer()
    return buffer


def _close_what_was_made(problem: Exception) -> None:
    """On a socket that has been reset, wrap_socket() raises without closing the SSLSocket that it has made."""
    for frame, _ in traceback.walk_tb(problem.__traceback__):
        made = frame.f_locals.get("self")
        if isinstance(made, ssl.SSLSocket):
            made.close()


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
