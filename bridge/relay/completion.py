"""The channel that works on every loop: sock_* calls, and TLS by hand over memory BIOs."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl

from bridge.advice.tls import tls_reason
from bridge.errors import PeerGone, TlsFailed
from bridge.model import Ends
from bridge.relay.channel import RECORD_SIZE, Channel, ends_of, has_ended

SILENT_OCTETS = 128 * 1024
"""The most octets in a row without data for us, such as a handshake's (OpenSSL accepts a hello of 131,396 octets, and
100 KiB of certificates) or a flood of key updates (`relay/records.py`)."""
CLIENT_OCTETS = 2 * RECORD_SIZE
"""The same for a client before TLS is on: its hello is much shorter (HANDSHAKE_OCTETS in `relay/records.py`)."""
UNSENT_OCTETS = 5 * RECORD_SIZE
"""Octets of TLS's own answers, and of one piece of send(), that may wait for a peer that reads nothing: beyond that, we
read nothing more from it either."""


class CompletionChannel(Channel):
    """A socket driven by the loop's sock_* calls, with TLS by hand over memory BIOs: works on every asyncio loop."""

    __slots__ = (
        "_buffer",
        "_closed",
        "_feeding",
        "_incoming",
        "_loop",
        "_most_silent",
        "_outgoing",
        "_sending",
        "_silent",
        "_socket",
        "_tls",
    )

    def __init__(self, sock: socket.socket, loop: asyncio.AbstractEventLoop, peer: str = "") -> None:
        sock.setblocking(False)
        self._socket = sock
        self._loop = loop
        # Each channel has a buffer of its own, because an overlapped read holds it until it completes. OpenSSL's memory
        # BIO keeps the largest size it ever had, so small pieces keep a used session small (49 KiB; 296 KiB with 256
        # KiB pieces).
        self._buffer = memoryview(bytearray(RECORD_SIZE))
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None
        self._silent = 0
        self._most_silent = SILENT_OCTETS
        self._sending = asyncio.Lock()
        self._feeding: asyncio.Future[None] | None = None
        self._closed = False
        self.peer = peer
        self.is_direct = True
        self.is_check = False
        self.origin = None

    async def receive(self) -> bytes:
        """See Channel."""
        if self._tls is None:
            return await self.receive_first(len(self._buffer))
        while True:
            try:
                data = self._tls.read(RECORD_SIZE)
            except ssl.SSLWantReadError:
                # A send() that is under way takes our answer along, so do not wait for it: that may take long.
                if not self._sending.locked() or self._outgoing.pending > UNSENT_OCTETS:
                    await self._flush()
                await self._feed()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""
            except OSError as problem:
                raise PeerGone(f"{self.peer}: {problem}") from problem
            else:
                self._silent = 0
                return data

    async def receive_first(self, most: int) -> bytes:
        """See Channel."""
        return bytes(self._buffer[: await self._read_socket(most)])

    async def send(self, data: bytes) -> None:
        """See Channel."""
        if self._tls is None:
            async with self._sending:
                await self._write_socket(data)
            return
        for start in range(0, len(data), 4 * RECORD_SIZE):
            await self._write_tls(self._tls, data[start : start + 4 * RECORD_SIZE])

    async def start_tls(
        self,
        context: ssl.SSLContext,
        *,
        server_hostname: str | None = None,
        session: ssl.SSLSession | None = None,
    ) -> None:
        """See Channel."""
        if server_hostname is None:
            self._most_silent = CLIENT_OCTETS
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
                raise TlsFailed(tls_reason(problem)) from problem
            else:
                self._silent, self._most_silent = 0, SILENT_OCTETS
                return await self._flush()

    @property
    def tls(self) -> ssl.SSLObject | None:
        """See Channel."""
        return self._tls

    @property
    def ends(self) -> Ends | None:
        """See Channel."""
        return ends_of(self._socket) if self.is_direct else self.origin

    @property
    def has_begun_handshake(self) -> bool:
        """See Channel."""
        return self._silent > 0

    @property
    def has_left(self) -> bool:
        """See Channel."""
        is_taken = self._tls is not None and (self._incoming.pending or self._tls.pending())
        return has_ended(self._socket) and not is_taken

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

    async def _write_tls(self, tls: ssl.SSLObject, piece: bytes) -> None:
        while True:
            try:
                tls.write(piece)
            except ssl.SSLWantReadError:  # the peer renegotiates (TLS 1.2): its answer has to be read first
                await self._flush()
                await self._feed()
            except OSError as problem:
                raise PeerGone(f"{self.peer}: {problem}") from problem
            else:
                return await self._flush()

    async def _feed(self) -> None:
        """Move what arrives, or the end of file, into the TLS library. A second caller waits for the first one's
        read."""
        if self._feeding is not None:
            await asyncio.wait([self._feeding])
            return
        self._feeding = self._loop.create_future()
        try:
            if count := await self._read_socket():
                self._silent += count
                if self._silent > self._most_silent:
                    raise PeerGone(f"{self.peer}: {self._most_silent} octets of TLS with nothing in them")
                if self._silent > 2 * RECORD_SIZE:  # reading octets that are there already does not yield to the loop
                    await asyncio.sleep(0)
                self._incoming.write(self._buffer[:count])
            else:
                self._incoming.write_eof()
        finally:
            self._feeding.set_result(None)
            self._feeding = None

    async def _flush(self) -> None:
        """Send what the TLS library has to say, in order, for any caller (a read may have to answer a key update)."""
        async with self._sending:
            while data := self._outgoing.read():
                await self._write_socket(data)

    async def _read_socket(self, most: int = RECORD_SIZE) -> int:
        try:
            return await self._loop.sock_recv_into(self._socket, self._buffer[:most])
        except OSError as problem:
            raise PeerGone(f"{self.peer}: {problem}") from problem

    async def _write_socket(self, data: bytes) -> None:
        try:
            await self._loop.sock_sendall(self._socket, data)
        except OSError as problem:
            raise PeerGone(f"{self.peer}: {problem}") from problem
