"""A TCP relay in front of a server; it fails on purpose, at the n-th octet of a direction, in one of several ways.

It knows nothing of TLS, so it cuts the stream as a network or a dying machine does: in the middle of a record and
without close_notify.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

POLL: Final = 0.05
"""Seconds within which a connection notices that a fault was set, or that the relay is closed."""
PIECE: Final = 64 * 1024


class Kind(Enum):
    """The kind of fault."""

    STALL = "stall"
    """Nothing passes any more, and both sides stay connected: a black hole."""
    RESET = "reset"
    """RST to the bridge."""
    FIN = "fin"
    """FIN to the bridge, without close_notify."""
    PAUSE = "pause"
    """Nothing passes for half a second."""
    TRICKLE = "trickle"
    """A thousand octets pass one by one."""


class Way(Enum):
    """The direction in which octets are counted."""

    DOWN = "from the server"
    UP = "from the bridge"


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that happens once `at` octets have passed."""

    kind: Kind
    way: Way = Way.DOWN
    at: int = 0


@dataclass(eq=False)
class Link:
    """One connection through the relay."""

    fault: Fault | None
    passed: dict[Way, int] = field(default_factory=lambda: {Way.DOWN: 0, Way.UP: 0})
    counted_from: dict[Way, int] = field(default_factory=lambda: {Way.DOWN: 0, Way.UP: 0})

    def strike(self, fault: Fault) -> None:
        """Set the fault, and count its octets from now."""
        self.counted_from = dict(self.passed)
        self.fault = fault

    def octets_left(self, way: Way) -> int | None:
        """Octets left before the fault; None if no fault is set for this direction."""
        if self.fault is None or self.fault.way is not way:
            return None
        return max(0, self.fault.at - (self.passed[way] - self.counted_from[way]))


class FaultyRelay:
    """Listens at `port`, relays to `target` on this machine. All controls may be used from any thread."""

    def __init__(self, target: int, listener: socket.socket | None = None) -> None:
        self.target = target
        """A change applies to new connections."""
        self._listener = listener or socket.create_server(("127.0.0.1", 0), backlog=200)
        self.port: int = self._listener.getsockname()[1]
        self.links: list[Link] = []
        self._plans: deque[Fault] = deque()
        self._took: threading.Event = threading.Event()
        self._healed = threading.Event()
        self._goes = threading.Event()
        self._goes.set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def plan(self, fault: Fault) -> threading.Event:
        """Plan a fault for the next connection. Returns: an event that is set once a connection has taken it."""
        self._took = threading.Event()
        self._plans.append(fault)
        return self._took

    def strike(self, fault: Fault) -> None:
        """Set the fault for all open connections, counting octets from now."""
        for link in list(self.links):
            link.strike(fault)

    def heal(self) -> None:
        """Drop all plans and faults to come; connections that are stalled now are reset."""
        self._plans.clear()
        self._healed.set()
        self._healed = threading.Event()
        for link in list(self.links):
            if link.fault is not None and link.octets_left(link.fault.way) != 0:
                link.fault = None

    def resume(self) -> None:
        """Let stalled connections go on, and drop the faults of all open connections."""
        for link in list(self.links):
            link.fault = None

    def freeze(self) -> None:
        """Hold everything back until thaw(); nothing is lost."""
        self._goes.clear()

    def thaw(self) -> None:
        """End freeze()."""
        self._goes.set()

    def close(self) -> None:
        """End everything."""
        self._over.set()
        self._goes.set()
        self._healed.set()
        self._listener.close()
        self._thread.join(5)

    # --- its work -----------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                if not select.select([self._listener], [], [], POLL)[0]:
                    continue
                client, _ = self._listener.accept()
            except (OSError, ValueError):
                return
            link = Link(self._plans.popleft() if self._plans else None)
            self.links.append(link)
            self._took.set()
            threading.Thread(target=self._serve, args=(client, link), daemon=True).start()

    def _serve(self, client: socket.socket, link: Link) -> None:
        try:
            with client, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.target)) as server:
                for sock in (client, server):
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._relay(client, server, link)
        finally:
            self.links.remove(link)

    def _relay(self, client: socket.socket, server: socket.socket, link: Link) -> None:
        """Relay until one side ends or a fault has ended the connection."""
        peers = {client: (Way.UP, server), server: (Way.DOWN, client)}
        while not self._over.is_set():
            self._goes.wait()
            fault = link.fault
            if fault is not None and link.octets_left(fault.way) == 0:
                if not self._happens(fault.kind, client, server, link):
                    return None
                continue
            for source in select.select(list(peers), [], [], POLL)[0]:
                way, sink = peers[source]
                left = link.octets_left(way)
                if left == 0:
                    break  # strike() was called meanwhile
                data = source.recv(PIECE if left is None else min(PIECE, left))
                if not data:
                    return self._pass_the_end(source, sink)
                link.passed[way] += len(data)  # before sending: the receiver may count them at once
                sink.sendall(data)
        return None

    def _pass_the_end(self, source: socket.socket, sink: socket.socket) -> None:
        """Pass a FIN on, then relay what the other side still sends until it ends too."""
        sink.shutdown(socket.SHUT_WR)
        sink.settimeout(10)
        while data := sink.recv(PIECE):
            source.sendall(data)

    def _happens(self, kind: Kind, client: socket.socket, server: socket.socket, link: Link) -> bool:
        """Returns: True if the connection goes on."""
        match kind:
            case Kind.STALL:
                healed = self._healed
                while not healed.wait(POLL):
                    if link.fault is None:
                        return True
                    if _has_ended(client):
                        return False
                _reset(client)
                return False
            case Kind.RESET:
                _reset(client)
                return False
            case Kind.FIN:
                client.shutdown(socket.SHUT_WR)
                client.settimeout(10)
                while client.recv(PIECE):
                    pass
                return False
            case Kind.PAUSE:
                self._over.wait(0.5)
            case Kind.TRICKLE:
                self._trickle(client, server, link)
        link.fault = None
        return True

    def _trickle(self, client: socket.socket, server: socket.socket, link: Link) -> None:
        for _ in range(1000):
            ready = select.select([client, server], [], [], POLL)[0]
            for source in ready:
                way, sink = (Way.UP, server) if source is client else (Way.DOWN, client)
                data = source.recv(1)
                if not data:
                    return
                link.passed[way] += 1
                sink.sendall(data)
            if not ready:
                return


def _reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def _has_ended(sock: socket.socket) -> bool:
    """True if the peer has sent a FIN, even behind unread data, or a reset."""
    with contextlib.suppress(BlockingIOError):
        try:
            return bool(select.select([sock], [], [], 0)[0]) and _at_end(sock)
        except (ConnectionError, ValueError):
            return True
    return False


def _at_end(sock: socket.socket) -> bool:
    # A stalled relay reads nothing, and recv() would report a FIN only after the unread data: so ask for the TCP state.
    state = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    return state != 1  # ESTABLISHED


@contextmanager
def faulty_relay(target: int, listener: socket.socket | None = None) -> Iterator[FaultyRelay]:
    """Runs until the context ends."""
    relay = FaultyRelay(target, listener)
    try:
        yield relay
    finally:
        relay.close()
