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
    """Our descriptor of its connection, until it has logged in. When the system is asked who is at the other end, a
    client that has left must not be mistaken for another program that got its port since. As long as this socket is
    held and has a peer, no other program can have the port."""
    later: bytes = b""
    """A plaintext line that tells it to try again later; empty if TLS comes first."""
    named: str = ""
    """The address that a balancer gives for it, or the balancer's own if it speaks for itself; empty without one."""
    no_place: str = ""
    """Why it is to be sent away (the worker says so, in its protocol); empty if it is not."""
    place: AbstractContextManager[Place] | None = None
    """Its place among the unauthenticated."""
    is_direct: bool = True
    """See Channel."""
    origin: Ends | None = None
    """See Channel."""
    caller: Caller | None = None
    """Whose program it is; None until the system was asked."""
    account: Account | None = None
    """The account, once the local password was right: the worker gets no token for any other."""
    end_it: Callable[[str], object] | None = None
    """Tells the worker to end the session of this `conn`; None until it has a worker."""
    _tell: Callable[[Any], object] | None = None

    def hold(self, place: AbstractContextManager[Place]) -> Place:
        """Hold a place until give_back(). Raises: LimitReached."""
        held = place.__enter__()
        self.place = place
        return held

    def send_away(self) -> None:
        """Tell it to try again later, because its worker could not take it. The line is sent at once, if at all."""
        if self.later:
            with suppress(OSError):
                self.held.send(self.later)

    def give_back(self) -> None:
        """Give its place back. Idempotent."""
        if self.place is not None:
            place, self.place = self.place, None
            place.__exit__(None, None, None)

    def release(self) -> None:
        """The client has logged in or gone: give up its place and our descriptor. Idempotent."""
        self.held.close()
        self.give_back()

    def end(self) -> None:
        """Its session is over. Idempotent."""
        self.release()
        if self._tell is not None:
            tell, self._tell = self._tell, None
            tell(self)

    def add_done_callback(self, tell: Callable[[Any], object], /) -> None:
        """See welcome.Served. For one callback, called in end(); it must be added in the turn of the loop in which the
        client was handed over."""
        self._tell = tell

    def cancel(self) -> None:
        """See welcome.Served."""
        if self.end_it is not None:
            self.end_it(self.conn)

    async def over(self) -> None:
        """Wait until the session is over; cancelling this ends the session."""
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
    """See limits.Cap and Place, for one client: the bridge has counted it and, if that mattered, identified its
    caller."""

    is_busy = needs_caller = False

    def __init__(self, no_place: str) -> None:
        """`no_place`: why there is no place for the client; empty if there is one."""
        self._no_place = no_place

    def place(self) -> AbstractContextManager[Place]:
        """See limits.Cap."""
        if self._no_place:
            raise LimitReached(self._no_place)
        return nullcontext(self)

    def give_to(self, caller: str) -> None:
        """See limits.Place; does nothing, because the bridge has done it."""
