"""The configured ports: opened all or none, served, and changed while sessions go on."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from bridge.config.diff import ConfiguredListener
from bridge.config.schema import ListenAddress
from bridge.errors import ConfigError
from bridge.model import Protocol, TlsMode
from bridge.relay.limits import ConnectionCap
from bridge.relay.listener import CallerOf, Listener, Serve
from bridge.relay.tls import listener_context

Bind = Callable[[str, int, str], list[socket.socket]]
"""Host, port and what for, to listening sockets. Raises: BridgeError."""

Serving = Callable[[Protocol, ssl.SSLContext | None], Serve]
"""How to serve a mail client of this protocol, with STARTTLS if there is a context."""


@dataclass(frozen=True, slots=True)
class _Port:
    configured: ConfiguredListener
    sockets: list[socket.socket]
    listener: Listener


class Ports:
    """All mail listeners of one bridge."""

    def __init__(
        self,
        bind: Bind,
        serving: Serving,
        *,
        handshakes: ConnectionCap | None = None,
        caller_of: CallerOf | None = None,
    ) -> None:
        """`handshakes` and `caller_of` as for Listener."""
        self._bind = bind
        self._serving = serving
        self._handshakes = handshakes
        self._caller_of = caller_of
        self._ports: list[_Port] = []
        self._retired: list[Listener] = []
        self._group: asyncio.TaskGroup | None = None
        self._stopping = asyncio.Event()

    @property
    def listeners(self) -> list[Listener]:
        """Those that accept mail clients."""
        return [port.listener for port in self._ports]

    def change(self, to_close: Sequence[ConfiguredListener], to_open: Sequence[ConfiguredListener]) -> list[Listener]:
        """Open and close, all or nothing; sessions of a closed port go on until they end.

        Returns: the new listeners. Raises: BridgeError naming port and remedy, ConfigError for a certificate; then
        everything is as it was.
        """
        with ExitStack() as undo:
            opened = [self._open(configured, to_close, undo) for configured in to_open]
            undo.pop_all()
        for port in self._ports:
            if port.configured in to_close:
                port.listener.retire()
                self._retired.append(port.listener)
        self._ports = [port for port in self._ports if port.configured not in to_close] + opened
        if self._group is not None:
            for port in opened:
                self._group.create_task(port.listener.run())
        return [port.listener for port in opened]

    async def run(self) -> None:
        """Serve until stop()."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for listener in self.listeners:
                group.create_task(listener.run())
            await self._stopping.wait()
            self._group = None
            for listener in [*self.listeners, *self._retired]:
                listener.stop()

    def stop(self) -> None:
        """Accept nothing more; run() returns once the sessions have ended, or have had their time."""
        self._stopping.set()

    def close(self) -> None:
        """Give up ports that were never served."""
        for port in self._ports:
            for sock in port.sockets:
                sock.close()
        self._ports = []

    def _open(self, configured: ConfiguredListener, to_close: Sequence[ConfiguredListener], undo: ExitStack) -> _Port:
        protocol, address = configured.protocol, configured.address
        context = _context(address)
        sockets = self._inherited(address, to_close) or self._bind(
            address.host, address.port, f"listeners.{protocol.value}"
        )
        for sock in sockets:
            undo.callback(sock.close)
        serve = self._serving(protocol, context if address.tls is TlsMode.STARTTLS else None)
        listener = Listener(
            protocol,
            sockets,
            serve,
            tls=address.tls,
            context=context,
            handshakes=self._handshakes,
            caller_of=self._caller_of,
        )
        return _Port(configured, sockets, listener)

    def _inherited(self, address: ListenAddress, to_close: Sequence[ConfiguredListener]) -> list[socket.socket]:
        """The sockets of a port that is to be closed at the same address: no client finds it shut in between."""
        for port in self._ports:
            held = port.configured.address
            if port.configured in to_close and (held.host, held.port) == (address.host, address.port):
                return [sock.dup() for sock in port.sockets]
        return []


def _context(address: ListenAddress) -> ssl.SSLContext | None:
    if address.tls is None:
        return None
    try:
        return listener_context(address.certificate or "", address.key or "")
    except (OSError, ssl.SSLError) as problem:
        raise ConfigError(
            (f"listeners: {address.address}: certificate {address.certificate} or its key: {problem}",)
        ) from problem
