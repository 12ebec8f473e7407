"""The console's listening sockets: open from the start, while the console itself is loaded for the first visitor."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

from bridge.host.sockets import BACKLOG, PortInUse, explain
from bridge.observe.logs import fault, trouble
from bridge.shortage import lacking, places
from bridge.tasks import task_group
from bridge.threads import NoThread, in_thread


class ConsoleSockets:
    """Listening sockets, and the site that they lead to; another site may take them over without refusing anybody.

    Two servers on copies of a socket are not possible: Windows associates a socket with one completion port, only once.
    """

    def __init__(self, sockets: Sequence[socket.socket]) -> None:
        self._sockets = list(sockets)
        self._servers: list[asyncio.Server] = []
        self._owner: object = None
        self._greet: Callable[[], asyncio.Protocol] | None = None

    def lead_to(self, owner: object, greet: Callable[[], asyncio.Protocol]) -> None:
        """From now on each connection gets the protocol that `greet` makes."""
        self._owner, self._greet = owner, greet

    async def open(self) -> None:
        """Accept connections, if that has not begun yet. Raises: PortInUse."""
        loop = asyncio.get_running_loop()
        while self._sockets:
            # Not aiohttp's own site: only so do answers to invalid HTTP have our headers, and echo nothing. backlog=1:
            # asyncio accepts one connection at a time; with more, when no descriptor is left, it would try each of
            # them, log it and set a timer for it.
            sock = self._sockets[0]
            try:
                self._servers.append(await loop.create_server(self.greeted, sock=sock, backlog=1))
            except OSError as problem:  # the kernel has no room to watch one more
                host, port, *_ = sock.getsockname()
                raise PortInUse(explain(problem, host, port, what="console")) from problem
            # Again: asyncio made the kernel's queue as short, and a client that finds it full retries after seconds.
            sock.listen(BACKLOG)
            del self._sockets[0]

    def close(self, owner: object) -> None:
        """Accept nothing more, if the sockets still lead to this owner."""
        if self._owner not in {owner, None}:
            return
        for server in self._servers:
            server.close()
        for sock in self._sockets:
            sock.close()

    def greeted(self) -> asyncio.Protocol:
        """The protocol for one more connection."""
        assert self._greet is not None  # noqa: S101  lead_to() comes before open()
        return self._greet()


VISITORS = 250
"""Connections that may wait at once while the console is loaded, for a second or two: each takes a descriptor that a
mail client would need."""
FIRST_WORDS = 64 * 1024
"""Octets that a visitor may send until then: more than any browser's request."""

Load = Callable[[], AbstractAsyncContextManager[None]]
"""Loads the site, which answers at the sockets while its context is entered. Called in a thread: imports may take
long."""


@asynccontextmanager
async def answering_once_asked(sockets: ConsoleSockets, load: Load) -> AsyncIterator[None]:
    """Accept connections now, and load the site when the first one comes; that visitor waits for it, but no session
    does.

    If it cannot be loaded, those who wait lose their connection, and the next visitor causes another try. Leaving ends
    the site, and closes the sockets.
    """
    lazy = _LazySite(sockets, load)
    sockets.lead_to(lazy, lazy.greet)
    async with task_group() as group:
        try:
            await sockets.open()
            group.create_task(lazy.run(), name="console")
            yield
        finally:
            lazy.close()


class _LazySite:
    """Where visitors wait until the site is loaded."""

    def __init__(self, sockets: ConsoleSockets, load: Load) -> None:
        self._sockets = sockets
        self._load = load
        self._visitors: dict[_Visitor, None] = {}  # in their order
        self._has_come = asyncio.Event()
        self._is_over = asyncio.Event()
        self._is_answering = False

    def greet(self) -> asyncio.Protocol:
        """The protocol of one more visitor."""
        return _Visitor(self._come, self._go)

    async def run(self) -> None:
        """Load the site once somebody has come, and serve it until close()."""
        while not self._is_over.is_set():
            await self._has_come.wait()
            self._has_come.clear()
            if self._visitors and not self._is_over.is_set():
                await self._answer()
        self._send_away()

    def close(self) -> None:
        """Let nobody in any more, and end the site."""
        self._sockets.close(self)
        self._is_over.set()
        self._has_come.set()

    async def _answer(self) -> None:
        """Serve until close(), unless the site cannot be loaded."""
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(await in_thread(self._load))
            except NoThread as problem:
                trouble("console.cannot_load", reason=str(problem))
                self._send_away()
                return
            except Exception as error:  # noqa: BLE001  as the console's supervisor: those who ask fail, not the bridge
                if (reason := lacking(error)) is not None:
                    trouble("console.cannot_load", reason=str(reason), places=places(error))
                else:
                    fault("console.cannot_load", error=error)
                self._send_away()
                return
            for visitor in self._taken():
                try:
                    visitor.let_in(self._sockets.greeted())
                except OSError:  # macOS sets no option on a socket whose peer has gone; raised, it would end the bridge
                    visitor.send_away()
            self._is_answering = True
            await self._is_over.wait()

    def _come(self, visitor: _Visitor) -> None:
        """A visitor's connection is made one turn after greet(): by now the site may be loaded, or closed."""
        if self._is_answering and not self._is_over.is_set():
            visitor.let_in(self._sockets.greeted())
        elif self._is_over.is_set() or len(self._visitors) == VISITORS:
            visitor.send_away()
        else:
            self._visitors[visitor] = None
            self._has_come.set()

    def _go(self, visitor: _Visitor) -> None:
        self._visitors.pop(visitor, None)

    def _send_away(self) -> None:
        for visitor in self._taken():
            visitor.send_away()

    def _taken(self) -> list[_Visitor]:
        visitors, self._visitors = self._visitors, {}
        return list(visitors)


class _Visitor(asyncio.Protocol):
    """A connection that waits: the first data it sends is kept, and nothing more is read."""

    def __init__(self, come: Callable[[_Visitor], None], go: Callable[[_Visitor], None]) -> None:
        self._come = come
        self._go = go
        self._transport: asyncio.Transport | None = None
        self._first = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  a connection's
        self._transport = transport
        self._come(self)

    def data_received(self, data: bytes) -> None:
        """Keep one piece, as large as the loop reads at once. Reading cannot be paused before the first data: Python
        3.11.2 reads on all the same."""
        self._first += data
        if self._transport is not None:
            self._transport.pause_reading()
        if len(self._first) > FIRST_WORDS:
            self._first = b""
            self.send_away()

    def connection_lost(self, exc: Exception | None) -> None:
        """Gone before anybody answered."""
        self._transport = None
        self._go(self)

    def let_in(self, host: asyncio.Protocol) -> None:
        """Hand the connection over: as if it had been made just now."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.set_protocol(host)
            host.connection_made(self._transport)
            self._transport.resume_reading()
            if self._first:  # after resuming, since the protocol may pause reading again
                host.data_received(self._first)

    def send_away(self) -> None:
        if self._transport is not None:
            self._transport.close()
