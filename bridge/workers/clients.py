"""A mail client as the bridge sees it while a worker serves it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field

from bridge.errors import LimitReached
from bridge.model import Account, Caller, Ends
from bridge.relay.channel import ends_of


@dataclass(slots=True)
class Client:
    """A mail client that a worker serves, or is about to."""

    held: socket.socket
    """Our descriptor of its connection, until it has logged in. The system is asked who is at the other end, and
    whoever has left must not be taken for a program that has got his port since: as long as this is held, and has a
    peer, nobody can have."""
    later: bytes = b""
    """In clear, that it shall come again; empty where TLS comes first."""
    place: AbstractContextManager[None] | None = None
    """Among those that have not logged in."""
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    """When it is over; cancelling ends it."""
    is_direct: bool = True
    """See Channel."""
    origin: Ends | None = None
    """See Channel."""
    caller: Caller | None = None
    """Once somebody has asked."""
    account: Account | None = None
    """Once the local password was right: a worker gets no token for anybody else."""

    def hold(self, place: AbstractContextManager[None]) -> None:
        """Until release(). Raises: LimitReached."""
        place.__enter__()
        self.place = place

    def send_away(self) -> None:
        """Its worker could not take it. What it is told goes out at once, if at all."""
        if self.later:
            with suppress(OSError):
                self.held.send(self.later)

    def release(self) -> None:
        """It has logged in or gone: neither its place nor its descriptor is needed any more. Idempotent."""
        self.held.close()
        if self.place is not None:
            place, self.place = self.place, None
            place.__exit__(None, None, None)

    def end(self) -> None:
        """Its session is over. Idempotent."""
        self.release()
        if not self.done.done():
            self.done.set_result(None)

    @property
    def ends(self) -> Ends | None:
        """See Channel."""
        return ends_of(self.held) if self.is_direct else self.origin


class Places:
    """See limits.Cap, of one client: the bridge has counted, and asked who it is where that matters."""

    is_busy = False

    def __init__(self, no_place: str) -> None:
        """Why there is none for it; empty if there is one."""
        self._no_place = no_place

    @contextmanager
    def place(self, caller: str = "") -> Iterator[None]:
        """See limits.Cap."""
        if self._no_place:
            raise LimitReached(self._no_place)
        yield


@dataclass(slots=True)
class Handed:
    """What a worker is told of a mail client, with its socket."""

    conn: str
    port: int
    peer: str
    named: str = ""
    """What a balancer calls it; its `peer` where there is none."""
    no_place: str = ""
    """Why it is to be sent away, in its protocol; empty if it is not."""
