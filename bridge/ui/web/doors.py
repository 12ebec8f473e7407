"""The console's listening sockets: open from the start, while what answers is loaded for the first who comes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

from bridge.host.sockets import BACKLOG, PortInUse, explain
from bridge.observe.logs import fault, trouble
from bridge.shortage import is_short
from bridge.tasks import task_group
from bridge.threads import NoThread, in_thread


class Doors:
    """Listening sockets, and the site that they lead to; another one may take them over, and nobody is refused.

    Not two servers on copies of a socket: Windows lets a socket belong to one completion port, and only once.
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
            # Not aiohttp's own site: only so can answers to what is no HTTP have our headers and no echo. One visitor
            # at a time: where no descriptor is left asyncio tries a whole crowd, logs each, and sets a timer for each.
            sock = self._sockets[0]
            try:
                self._servers.append(await loop.create_server(self.greeted, sock=sock, backlog=1))
            except OSError as problem:  # the kernel has no room to watch one more
                host, port, *_ = sock.getsockname()
                raise PortInUse(explain(problem, host, port, what="console")) from problem
            # Again: asyncio made the queue as short as the crowd, and whoever finds it full comes back after seconds.
            sock.listen(BACKLOG)
            del self._sockets[0]

    def close(self, owner: object) -> None:
        """Accept nothing more, if they still lead to this owner."""
        if self._owner not in {owner, None}:
            return
        for server in self._servers:
            server.close()
        for sock in self._sockets:
            sock.close()

    def greeted(self) -> asyncio.Protocol:
        """Who answers to one more connection."""
        assert self._greet is not None  # noqa: S101  lead_to() comes before open()
        return self._greet()


VISITORS = 250
"""Connections that may wait at once while what answers is loaded, a second or two: each is a descriptor that a mail
client has to do without."""
FIRST_WORDS = 64 * 1024
"""Octets that a visitor may say until then: more than any browser's request."""

Load = Callable[[], AbstractAsyncContextManager[None]]
"""Gives what answers at the doors for as long as it is entered; called in a thread, since it may import for long."""


@asynccontextmanager
async def answering_once_asked(doors: Doors, load: Load) -> AsyncIterator[None]:
    """Accept connections now, and load what answers when the first one comes; it waits so long, and no session does.

    What cannot be loaded costs those who wait for it their connection, and is tried again with the next. Leaving ends
    what was loaded, and closes the doors.
    """
    porch = _Porch(doors, load)
    doors.lead_to(porch, porch.greet)
    async with task_group() as group:
        try:
            await doors.open()
            group.create_task(porch.run(), name="console")
            yield
        finally:
            porch.close()


class _Porch:
    """Where visitors wait."""

    def __init__(self, doors: Doors, load: Load) -> None:
        self._doors = doors
        self._load = load
        self._visitors: dict[_Visitor, None] = {}  # in their order
        self._has_come = asyncio.Event()
        self._is_over = asyncio.Event()
        self._is_answering = False

    def greet(self) -> asyncio.Protocol:
        """The protocol of one more visitor."""
        return _Visitor(self._come, self._go)

    async def run(self) -> None:
        """Until close()."""
        while not self._is_over.is_set():
            await self._has_come.wait()
            self._has_come.clear()
            if self._visitors and not self._is_over.is_set():
                await self._answer()
        self._send_away()

    def close(self) -> None:
        """Let nobody in any more, and end what answers."""
        self._doors.close(self)
        self._is_over.set()
        self._has_come.set()

    async def _answer(self) -> None:
        """Until close(), unless it cannot be loaded."""
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(await in_thread(self._load))
            except NoThread as problem:
                trouble("console.cannot_load", reason=str(problem))
                self._send_away()
                return
            except Exception as error:  # noqa: BLE001  as the console's supervisor: those who ask fail, not the bridge
                if is_short(error):
                    trouble("console.cannot_load", reason=str(error))
                else:
                    fault("console.cannot_load", error=error)
                self._send_away()
                return
            for visitor in self._taken():
                try:
                    visitor.let_in(self._doors.greeted())
                except OSError:  # macOS sets no option for one that has gone; what is raised here ends the bridge
                    visitor.send_away()
            self._is_answering = True
            await self._is_over.wait()

    def _come(self, visitor: _Visitor) -> None:
        """The loop greets a turn earlier: by now others may be answering, or nobody any more."""
        if self._is_answering and not self._is_over.is_set():
            visitor.let_in(self._doors.greeted())
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
    """A connection that waits: what it says first is kept, and nothing is read behind that."""

    def __init__(self, come: Callable[[_Visitor], None], go: Callable[[_Visitor], None]) -> None:
        self._come = come
        self._go = go
        self._transport: asyncio.Transport | None = None
        self._first = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  a connection's
        self._transport = transport
        self._come(self)

    def data_received(self, data: bytes) -> None:
        """One piece, as large as the loop reads at once. Not paused before: Python 3.11.2 reads on all the same."""
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
            if self._first:  # behind that: who has heard enough for now may pause it again
                host.data_received(self._first)

    def send_away(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()
