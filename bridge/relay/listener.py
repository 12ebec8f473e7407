"""Bind, accept, drain on stop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence

from bridge.errors import LimitReached, PeerGone, ProtocolViolation, TlsFailed
from bridge.model import Caller, Ends, Protocol, TlsMode
from bridge.observe.logs import detail, event, fault, trouble
from bridge.relay.balancers import Balancers
from bridge.relay.channel import Channel
from bridge.relay.connected import open_channel
from bridge.relay.limits import ConnectionCap

DRAIN_SECONDS = 5.0
"""How long sessions may go on after stop() began: a message being sent gets through, an idle IMAP session does not
keep the service from ending."""
HANDSHAKE_SECONDS = 20.0
"""Implicit TLS with a mail client."""
PAUSE_SECONDS = 0.5
"""After a failed accept: the process has no file descriptor left until some session ends."""

SPEAKS_PLAIN = "is SSL/TLS switched on in the mail program? (it is not STARTTLS here)"
PLAIN_REASONS = frozenset({"wrong version number", "http request", "https proxy request", "record layer failure"})
"""What OpenSSL says, by version, of octets that are no TLS at all."""

Context = Callable[[], ssl.SSLContext]
"""The TLS context of the moment: certificates are renewed while the bridge runs."""
Serve = Callable[[str, Channel], Awaitable[None]]
"""Connection id and channel: serves one mail client, closes the channel, raises nothing but bugs."""

CallerOf = Callable[[Ends | None], Awaitable[Caller]]
"""Whose program is at the other end of a connection."""

_numbers = itertools.count(1)


class Listener:
    """The sockets of one configured address, and the sessions that came in by them."""

    def __init__(
        self,
        protocol: Protocol,
        sockets: Sequence[socket.socket],
        serve: Serve,
        *,
        tls: TlsMode | None = None,
        context: Context | None = None,
        handshakes: ConnectionCap | None = None,
        caller_of: CallerOf | None = None,
        balancers: Sequence[str] = (),
    ) -> None:
        """`sockets` are bound and listening; with implicit `tls`, `context` is used before `serve` is called.

        A handshake needs a place of `handshakes`, as a login does: `caller_of` tells whose program it is.
        `balancers`: addresses and networks; if there are any, only they may connect, each time with a PROXY header.
        """
        self.protocol = protocol
        self.tls = tls
        self.address = socket_name(sockets[0])
        self._sockets = sockets
        self._serve = serve
        self._context = context
        self._handshakes = handshakes or ConnectionCap()
        self._caller_of = caller_of
        self._balancers = Balancers(balancers) if balancers else None
        self._sessions: set[asyncio.Task[None]] = set()
        self._closing = asyncio.Event()
        self._stopping = asyncio.Event()

    @property
    def sessions(self) -> int:
        """Connections being served."""
        return len(self._sessions)

    def stop(self) -> None:
        """Accept nothing more; run() returns once the sessions have ended, or DRAIN_SECONDS later."""
        self._closing.set()
        self._stopping.set()

    def retire(self) -> None:
        """Accept nothing more; run() returns once the sessions have ended, however long that takes, or after stop()."""
        self._closing.set()

    async def run(self) -> None:
        """Accept and serve until stop()."""
        event("listener.up", protocol=self.protocol.value, address=self.address)
        async with asyncio.TaskGroup() as group:
            accepting = [group.create_task(self._accept(sock, group)) for sock in self._sockets]
            await self._closing.wait()
            for task, sock in zip(accepting, self._sockets, strict=True):
                # asyncio accepts a client that is there in this very moment for a future that is cancelled: "invalid
                # state" in the log, and a socket that nobody closes.
                with contextlib.suppress(NotImplementedError):  # Windows' Proactor loop, which has no such trouble
                    asyncio.get_running_loop().remove_reader(sock)
                task.cancel()
            await asyncio.wait(accepting)
            for sock in self._sockets:
                sock.close()
            await self._drain(group)
        event("listener.down", protocol=self.protocol.value, address=self.address)

    async def _drain(self, group: asyncio.TaskGroup) -> None:
        """Wait for the sessions; once stop() was called only DRAIN_SECONDS longer."""
        stopping = group.create_task(self._stopping.wait())
        while self._sessions and not stopping.done():
            await asyncio.wait({*self._sessions, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if self._sessions:
            _, late = await asyncio.wait(self._sessions, timeout=DRAIN_SECONDS)
            for session in late:
                session.cancel()

    async def _accept(self, sock: socket.socket, group: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, address = await loop.sock_accept(sock)
            except OSError as problem:
                if problem.errno != errno.ECONNABORTED:  # that one only says that the client has left already
                    trouble("listener.full", address=self.address, reason=str(problem))
                    await asyncio.sleep(PAUSE_SECONDS)
                continue
            conn = f"{self.protocol.value}-{next(_numbers)}"
            channel = open_channel(client, loop, peer=f"{address[0]}:{address[1]}")
            session = group.create_task(self._supervise(conn, channel), name=conn)
            self._sessions.add(session)
            session.add_done_callback(self._sessions.discard)

    async def _supervise(self, conn: str, channel: Channel) -> None:
        """One session; its bugs are logged and end nobody else's."""
        try:
            if self._balancers is not None:
                await self._balancers.introduce(conn, channel)
            if self.tls is TlsMode.IMPLICIT:
                await self._start_tls(channel)
            await self._serve(conn, channel)
        except (PeerGone, LimitReached) as gone:
            detail("session.gone", conn=conn, reason=str(gone))
        except (TlsFailed, ProtocolViolation) as problem:
            event("session.refused", conn=conn, client=channel.peer, reason=str(problem))
        except Exception as bug:  # noqa: BLE001  the supervisor of section 8
            fault("session.bug", conn=conn, error=bug)
        finally:
            channel.close()

    async def _start_tls(self, channel: Channel) -> None:
        assert self._context is not None  # noqa: S101  ports makes one wherever there is tls
        is_asked = self._handshakes.is_busy and self._caller_of is not None
        caller = (await self._caller_of(channel.ends)).key if is_asked and self._caller_of is not None else ""
        with self._handshakes.place(caller):
            await self._shake_hands(channel, self._context())

    async def _shake_hands(self, channel: Channel, context: ssl.SSLContext) -> None:
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                await channel.start_tls(context)
        except TimeoutError:
            raise TlsFailed(f"no TLS within {HANDSHAKE_SECONDS:.0f} s; {SPEAKS_PLAIN}") from None
        except TlsFailed as problem:
            if str(problem) in PLAIN_REASONS:
                raise TlsFailed(f"{problem}; {SPEAKS_PLAIN}") from problem
            raise


def socket_name(sock: socket.socket) -> str:
    """`127.0.0.1:1143` or `[::1]:1143`."""
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
