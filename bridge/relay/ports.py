"""The configured ports: opened all together or not at all, served, and changed while sessions go on."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial

from bridge.advice.said import said
from bridge.advice.system import system_reason
from bridge.config.addresses import ListenAddress
from bridge.config.diff import ConfiguredListener
from bridge.errors import BridgeError, ConfigError
from bridge.model import Protocol
from bridge.observe.logs import report
from bridge.relay.accept_queue import Whose, nobody_knows
from bridge.relay.accepting import Pace
from bridge.relay.listener import Listener
from bridge.relay.tls import ListenerCertificate
from bridge.relay.welcome import Welcome
from bridge.threads import NotDone, NoThread, Threads

Bind = Callable[[str, int, str], list[socket.socket]]
"""Host, port and purpose to listening sockets. Raises: BridgeError."""

Serving = Callable[[ConfiguredListener, ListenerCertificate | None], Welcome]
"""How to serve the mail clients of this port; with TLS if there is a certificate."""

EnsureCertificate = Callable[[Iterable[str]], str]
"""Host names to the PEM file with the current certificate that we made for them, and its key. Raises: BridgeError."""


LOOK_SECONDS = 10.0
"""Between two looks at the certificates' files."""
ANSWER_SECONDS = 5.0
"""For one look at the files of one port; the ports are looked at in parallel."""
CHANGE_SECONDS = 30.0
"""For the certificates of the ports to open: making one takes some seconds on a slow machine."""
CHANGES_AT_ONCE = 4
"""More than one, because a file on a drive that hangs blocks its thread, and the next change may be the remedy."""


@dataclass(frozen=True, slots=True)
class _Port:
    configured: ConfiguredListener
    sockets: list[socket.socket]
    welcome: Welcome
    listener: Listener
    certificate: ListenerCertificate | None
    looks: Threads
    """Where its certificate is read."""


class Ports:
    """All mail listeners of one bridge."""

    def __init__(
        self,
        bind: Bind,
        serving: Serving,
        ensure_certificate: EnsureCertificate,
        on_renewed: Callable[[], None] = lambda: None,
        gather: float = 0.0,
        on_closed: Callable[[Welcome], object] = lambda welcome: None,
        whose: Whose = nobody_knows,
        pace: Pace | None = None,
    ) -> None:
        """`on_renewed`: some port has another certificate now. `on_closed`: what `serving` gave serves nobody any more.
        `gather`, `whose` and `pace`, see accepting.clients_of()."""
        self._bind = bind
        self._serving = serving
        self._ensure_certificate = ensure_certificate
        self._on_renewed = on_renewed
        self._gather = gather
        self._whose = whose
        self._pace = pace
        self._on_closed = on_closed
        self._ports: list[_Port] = []
        self._retired: list[_Port] = []
        """Closed ports whose sessions go on."""
        self._group: asyncio.TaskGroup | None = None
        self._stopping = asyncio.Event()
        # Certificate files are read in threads: on a network drive whose server is gone that takes minutes.
        self._turns = _looks()
        self._changes = Threads("certificates", at_once=CHANGES_AT_ONCE, limit=CHANGE_SECONDS)
        self._making = threading.Lock()
        """Held while a certificate is made: two threads at once would make two authorities."""
        self._has_renewed = False
        """True if some port has another certificate now, and on_renewed has not been called."""

    @property
    def listeners(self) -> list[Listener]:
        """The listeners that accept mail clients."""
        return [port.listener for port in self._ports]

    @property
    def sessions(self) -> Counter[str]:
        """How many connections are served, by protocol; those of closed ports too."""
        sessions = Counter[str]()
        for port in [*self._ports, *self._retired]:
            sessions[port.listener.protocol.value] += port.listener.sessions
        return sessions

    def open(self, listeners: Sequence[ConfiguredListener]) -> None:
        """At the start: open all or none. Raises: BridgeError naming port and remedy, ConfigError for a certificate."""
        self._put_in_place((), listeners, self._certificates(listeners))

    async def change(
        self, to_close: Sequence[ConfiguredListener], to_open: Sequence[ConfiguredListener]
    ) -> list[Listener]:
        """Open and close, all or nothing; sessions of a closed port go on until they end. One change at a time.

        Returns: the new listeners. Raises: as open(); then everything is as it was.
        """
        if _uses_made(to_open) and _uses_made(port.configured for port in self._ports):
            self._try_out(to_close, to_open)
        certificates = await self._read(to_open)
        if self._stopping.is_set():
            return []  # nobody would serve or close a port opened now
        return self._put_in_place(to_close, to_open, certificates)

    async def settled(self) -> None:
        """Wait until the ports that a change has closed accept nothing more. Call it last: meanwhile clients of the new
        ports may be served, so that everything else that has changed must be in force."""
        if self._group is not None:
            for port in list(self._retired):
                await port.listener.closed()

    def _try_out(self, to_close: Sequence[ConfiguredListener], to_open: Sequence[ConfiguredListener]) -> None:
        """Make sure that they can be opened, before anything is changed.

        A certificate made for other names has another authority, which must not take the place of the one that
        everybody trusts for a change that is refused. Raises: as open().
        """
        with ExitStack() as undo:
            for one in to_open:
                for sock in self._sockets(one, to_close):
                    undo.callback(sock.close)

    def _put_in_place(
        self,
        to_close: Sequence[ConfiguredListener],
        to_open: Sequence[ConfiguredListener],
        certificates: Sequence[ListenerCertificate | None],
    ) -> list[Listener]:
        with ExitStack() as undo:
            opened = [
                self._open(configured, certificate, to_close, undo)
                for configured, certificate in zip(to_open, certificates, strict=True)
            ]
            undo.pop_all()
        for port in self._ports:
            if port.configured in to_close:
                port.listener.retire()
                self._retired.append(port)
        self._ports = [port for port in self._ports if port.configured not in to_close] + opened
        self._begin(opened)
        return [port.listener for port in opened]

    async def run(self) -> None:
        """Serve until stop()."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            self._begin(self._ports)
            await self._stopping.wait()
            self._group = None
            for port in [*self._ports, *self._retired]:
                port.listener.stop()

    def _begin(self, ports: Iterable[_Port]) -> None:
        """Serve these ports, if run() is under way."""
        if self._group is not None:
            for port in ports:
                self._group.create_task(self._serve(port))

    async def _serve(self, port: _Port) -> None:
        """Serve until the port is closed and its last session is over."""
        await port.listener.run()
        if port in self._retired:
            self._retired.remove(port)
        self._on_closed(port.welcome)

    def stop(self) -> None:
        """Accept nothing more; run() returns once the sessions have ended, or have had their time."""
        self._stopping.set()

    def close(self) -> None:
        """Give up ports that were never served."""
        for port in self._ports:
            for sock in port.sockets:
                sock.close()
        self._ports = []

    async def follow_certificates(self, pause: Callable[[float], Awaitable[None]]) -> None:
        """look() again and again, until cancelled."""
        while True:
            await pause(LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Take up certificates that were renewed on the disk, and renew the one that we make when it is due.

        If this is cancelled, its threads go on; the next look() calls on_renewed for what they take up.
        """
        with suppress(NotDone):
            await self._turns.run(self._take_turn)
        async with asyncio.TaskGroup() as group:
            for port in self._ports:
                if port.certificate is not None:
                    group.create_task(self._look_at(port, port.certificate))
        if self._has_renewed:
            self._has_renewed = False
            self._on_renewed()

    async def _look_at(self, port: _Port, certificate: ListenerCertificate) -> None:
        def take_up() -> None:
            if certificate.look():
                self._has_renewed = True

        with suppress(NotDone):  # a file that is read too late is taken up all the same, when it is read
            await port.looks.run(take_up)

    def _take_turn(self) -> None:
        """In a thread."""
        try:
            self._made([port.configured for port in self._ports])
        except BridgeError as problem:
            report("certificate.unusable", problem)

    def _made(self, ports: Sequence[ConfiguredListener]) -> str:
        """The file of the certificate that we make; empty where no port uses one."""
        users = [port.address for port in ports if port.address.is_certificate_made]
        if not users:
            return ""
        with self._making:
            return self._ensure_certificate(name for one in users for name in one.certificate_names)

    async def _read(self, to_open: Sequence[ConfiguredListener]) -> Sequence[ListenerCertificate | None]:
        """The certificates of the ports to open. Does not queue behind a look at the files, because this change may be
        what removes the file that the look hangs on.

        Raises: as open(); BridgeError if the files do not answer.
        """
        encrypted = [one.name for one in to_open if one.address.tls is not None]
        if not encrypted:
            return [None] * len(to_open)
        try:
            return await self._changes.run(partial(self._certificates, to_open))
        except NoThread as problem:
            raise BridgeError(problem.said) from problem
        except NotDone as problem:
            sentence = said(
                "listeners: the certificate of {ports} does not answer: is the drive that it is on disconnected?",
                ports=", ".join(encrypted),
            )
            raise BridgeError(sentence) from problem

    def _certificates(self, to_open: Sequence[ConfiguredListener]) -> list[ListenerCertificate | None]:
        """The certificates of the ports to open; the one that we make has the names of all ports open before or after
        the change. This runs in a thread, and a look meanwhile goes by the ports that are still open: it would make
        another authority if their names were missing."""
        before = [port.configured for port in self._ports]
        given = [_given(one.address) for one in to_open]  # first: if one of these is unusable, none must be made
        made = self._made([*before, *to_open]) if _uses_made(to_open) else ""
        return [
            ListenerCertificate(made, made) if one.address.is_certificate_made else certificate
            for one, certificate in zip(to_open, given, strict=True)
        ]

    def _open(
        self,
        configured: ConfiguredListener,
        certificate: ListenerCertificate | None,
        to_close: Sequence[ConfiguredListener],
        undo: ExitStack,
    ) -> _Port:
        sockets = self._sockets(configured, to_close)
        for sock in sockets:
            undo.callback(sock.close)
        welcome = self._serving(configured, certificate)
        undo.callback(self._on_closed, welcome)
        tls = configured.address.tls
        listener = Listener(
            configured.protocol, sockets, welcome, tls=tls, gather=self._gather, whose=self._whose, pace=self._pace
        )
        return _Port(configured, sockets, welcome, listener, certificate, _looks())

    def _sockets(self, configured: ConfiguredListener, to_close: Sequence[ConfiguredListener]) -> list[socket.socket]:
        protocol, address = configured.protocol, configured.address
        return self._inherited(address, to_close) or self._bound(protocol, address, to_close)

    def _bound(
        self, protocol: Protocol, address: ListenAddress, to_close: Sequence[ConfiguredListener]
    ) -> list[socket.socket]:
        try:
            return self._bind(address.host, address.port, f"listeners.{protocol.value}")
        except BridgeError as problem:
            ours = next((port.address for port in to_close if port.address.port == address.port), None)
            if ours is None:
                raise
            # 127.0.0.1 and 0.0.0.0, say: the old port is served until the new one is open, but blocks it.
            sentence = said(
                "mail-bridge cannot listen on {place} while it still has {ours}: restart mail-bridge",
                place=address.address,
                ours=ours.address,
            )
            raise ConfigError([sentence]) from problem

    def _inherited(self, address: ListenAddress, to_close: Sequence[ConfiguredListener]) -> list[socket.socket]:
        """Copies of the sockets of a port at the same address that is to be closed, so that no client finds it shut in
        between.

        Raises: ConfigError if no descriptor is left.
        """
        for port in self._ports:
            held = port.configured.address
            if port.configured in to_close and (held.host, held.port) == (address.host, address.port):
                return _copies(port)
        return []


def _uses_made(listeners: Iterable[ConfiguredListener]) -> bool:
    return any(one.address.is_certificate_made for one in listeners)


def _given(address: ListenAddress) -> ListenerCertificate | None:
    """The administrator's own certificate, if one is configured. Raises: ConfigError."""
    if address.certificate is None or address.key is None:
        return None
    return ListenerCertificate(address.certificate, address.key)


def _looks() -> Threads:
    return Threads("certificates", at_once=1, limit=ANSWER_SECONDS)


def _copies(port: _Port) -> list[socket.socket]:
    with ExitStack() as undo:
        try:
            copies = [undo.enter_context(sock.dup()) for sock in port.sockets]
        except OSError as problem:
            place, reason = port.configured.address.address, system_reason(problem)
            sentence = said("mail-bridge cannot listen on {place}: {reason}", place=place, reason=reason)
            raise ConfigError([sentence]) from problem
        undo.pop_all()
        return copies
