"""Accepts mail clients on one configured address, and drains their sessions on a stop."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Any

from bridge.model import Protocol, TlsMode
from bridge.observe.logs import event, trouble
from bridge.relay.accept_queue import Whose, nobody_knows
from bridge.relay.accepting import Pace, clients_of
from bridge.relay.welcome import Served, Welcome

DRAIN_SECONDS = 5.0
"""How long sessions may go on after stop(): a message that is being sent gets through, but an idle IMAP session does
not keep the service from stopping."""

_numbers = itertools.count(1)


class Listener:
    """The sockets of one configured address, and the sessions of their clients."""

    def __init__(
        self,
        protocol: Protocol,
        sockets: Sequence[socket.socket],
        welcome: Welcome,
        *,
        tls: TlsMode | None = None,
        gather: float = 0.0,
        whose: Whose = nobody_knows,
        pace: Pace | None = None,
    ) -> None:
        """`sockets` are bound and listening; `tls` is for people who look; the rest, see clients_of()."""
        self.protocol = protocol
        self.tls = tls
        self.address = address_of(sockets)
        self._sockets = sockets
        self._welcome = welcome
        self._gather = gather
        self._whose = whose
        self._pace = pace
        self._sessions: set[Served] = set()
        self._empty = asyncio.Event()
        """Set whenever the last session ends."""
        self._closing = asyncio.Event()
        self._closed = asyncio.Event()
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

    async def closed(self) -> None:
        """Wait until it accepts nothing more. For one that run() serves, and that was told to stop or to retire."""
        await self._closed.wait()

    async def run(self) -> None:
        """Accept and serve until stop()."""
        event("listener.up", protocol=self.protocol.value, address=self.address)
        async with asyncio.TaskGroup() as group:
            async with AsyncExitStack() as accepting:
                begin = partial(self._begin, group)
                for sock in self._sockets:
                    await accepting.enter_async_context(
                        clients_of(sock, begin, self._trouble, self._gather, self._whose, self._pace)
                    )
                await self._closing.wait()
            for sock in self._sockets:
                sock.close()
            self._closed.set()
            await self._drain(group)
        event("listener.down", protocol=self.protocol.value, address=self.address)

    async def _drain(self, group: asyncio.TaskGroup) -> None:
        """Wait for the sessions to end, but only DRAIN_SECONDS once stop() was called."""
        if not self._sessions:
            return
        self._empty.clear()
        waiting = [group.create_task(event.wait()) for event in (self._empty, self._stopping)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                await self._empty.wait()
        for session in list(self._sessions):
            session.cancel()

    def _begin(self, group: asyncio.TaskGroup, client: socket.socket, address: Any) -> None:
        conn = f"{self.protocol.value}-{next(_numbers)}"
        served = self._welcome(conn, client, f"{address[0]}:{address[1]}")
        session = group.create_task(served, name=conn) if isinstance(served, Coroutine) else served
        self._sessions.add(session)
        session.add_done_callback(self._over)

    def _over(self, session: Served) -> None:
        self._sessions.discard(session)
        if not self._sessions:
            self._empty.set()

    def _trouble(self, problem: OSError) -> None:
        trouble("listener.full", address=self.address, reason=str(problem))


def address_of(sockets: Sequence[socket.socket]) -> str:
    """What mail programs connect to: `localhost:1143` where the sockets have both of its addresses, otherwise the name
    of the first."""
    host, port = socket_name(sockets[0]).rsplit(":", 1)
    hosts = {sock.getsockname()[0] for sock in sockets}
    return f"localhost:{port}" if hosts == {"127.0.0.1", "::1"} else f"{host}:{port}"


def socket_name(sock: socket.socket) -> str:
    """`127.0.0.1:1143` or `[::1]:1143`."""
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
