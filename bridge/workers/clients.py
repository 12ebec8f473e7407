"""A mail client as the bridge sees it while a worker serves it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any

from bridge.errors import LimitReached
from bridge.model import Account, Caller, Ends
from bridge.relay.channel import ends_of
from bridge.relay.limits import Place


@dataclass(slots=True, eq=False)
class Client:
    """A mail client that a worker serves, or is about to; a session for the listener (welcome.Served).

    With several workers this is all that an ordinary login costs the bridge's own process: plain calls, no future.
    """

    conn: str
    port: int
    """The number by which workers know the port."""
    peer: str
    held: socket.socket
    """Our descriptor of its connection, until it has logged in. The system is asked who is at the other end, and
    whoever has left must not be taken for a program that has got his port since: as long as this is held, and has a
    peer, nobody can have."""
    later: bytes = b""
    """In clear, that it shall come again; empty where TLS comes first."""
    named: str = ""
    """What a balancer calls it, or its own name where it speaks for itself; empty where there is none."""
    no_place: str = ""
    """Why it is to be sent away, in its protocol; empty if it is not."""
    place: AbstractContextManager[Place] | None = None
    """Among those that have not logged in."""
    is_direct: bool = True
    """See Channel."""
    origin: Ends | None = None
    """See Channel."""
    caller: Caller | None = None
    """Once somebody has asked."""
    account: Account | None = None
    """Once the local password was right: a worker gets no token for anybody else."""
    end_it: Callable[[str], object] | None = None
    """Tells its worker to end the session of this `conn`; once it has one."""
    _tell: Callable[[Any], object] | None = None

    def hold(self, place: AbstractContextManager[Place]) -> Place:
        """Hold a place until give_back(). Raises: LimitReached."""
        held = place.__enter__()
        self.place = place
        return held

    def send_away(self) -> None:
        """Its worker could not take it. What it is told goes out at once, if at all."""
        if self.later:
            with suppress(OSError):
                self.held.send(self.later)

    def give_back(self) -> None:
        """Give its place back. Idempotent."""
        if self.place is not None:
            place, self.place = self.place, None
            place.__exit__(None, None, None)

    def release(self) -> None:
        """It has logged in or gone: neither its place nor its descriptor is needed any more. Idempotent."""
        self.held.close()
        self.give_back()

    def end(self) -> None:
        """Its session is over. Idempotent."""
        self.release()
        if self._tell is not None:
            tell, self._tell = self._tell, None
            tell(self)

    def add_done_callback(self, tell: Callable[[Any], object], /) -> None:
        """See welcome.Served; for one, who is told in end(), and asks in the turn in which it was handed over."""
        self._tell = tell

    def cancel(self) -> None:
        """See welcome.Served."""
        if self.end_it is not None:
            self.end_it(self.conn)

    async def over(self) -> None:
        """Until it is; cancelling this ends it."""
        over = asyncio.Event()
        self.add_done_callback(lambda _: over.set())
        try:
            await over.wait()
        except asyncio.CancelledError:
            self.cancel()
            raise

    @property
    def ends(self) -> Ends | None:
        """See Channel."""
        return ends_of(self.held) if self.is_direct else self.origin


class Places:
    """See limits.Cap and Place, of one client: the bridge has counted, and asked who it is where that matters."""

    is_busy = needs_caller = False

    def __init__(self, no_place: str) -> None:
        """Why there is none for it; empty if there is one."""
        self._no_place = no_place

    def place(self) -> AbstractContextManager[Place]:
        """See limits.Cap."""
        if self._no_place:
            raise LimitReached(self._no_place)
        return nullcontext(self)

    def give_to(self, caller: str) -> None:
        """See limits.Place: nobody is asked here."""
