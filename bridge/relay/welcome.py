"""A mail client from accept to close in this process: PROXY header, implicit TLS, its session."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from typing import Protocol as Interface

from bridge.errors import LimitReached, PeerGone, ProtocolViolation, TlsFailed
from bridge.model import Caller, Ends
from bridge.observe.logs import detail, event
from bridge.observe.supervisor import tell_of_end
from bridge.relay.balancers import Balancers
from bridge.relay.channel import Channel
from bridge.relay.connected import open_channel
from bridge.relay.limits import Cap
from bridge.relay.tls import client_reason, has_hung_up

HANDSHAKE_SECONDS = 20.0
"""For the handshake of implicit TLS with a mail client."""

SPEAKS_PLAIN = "is SSL/TLS switched on in the mail program? (it is not STARTTLS here)"
PLAIN_REASONS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "RECORD_LAYER_FAILURE"})
"""OpenSSL's reasons, depending on its version, for octets that are not TLS at all."""

Context = Callable[[], ssl.SSLContext]
"""Gives the current TLS context: certificates are renewed while the bridge runs."""
Serve = Callable[[str, Channel], Awaitable[None]]
"""Connection id and channel: serves one mail client, closes the channel, raises nothing but bugs."""
CallerOf = Callable[[Ends | None], Awaitable[Caller]]
"""Whose program is at the other end of a connection."""


class Served(Interface):
    """A mail client's session, here or in another process. An asyncio.Task fits."""

    def add_done_callback(self, tell: Callable[[Any], object], /) -> object:
        """`tell` gets this object when the session is over."""

    def cancel(self) -> object:
        """End it, soon."""


class Welcome(Interface):
    """Serves one mail client."""

    def __call__(self, conn: str, client: socket.socket, peer: str) -> Coroutine[Any, Any, None] | Served:
        """Returns the coroutine that serves the client, or the session if another process serves it.

        `client` is closed in the end. Raises nothing; neither does the coroutine.
        """


@contextmanager
def supervised(conn: str, peer: Callable[[], str]) -> Iterator[None]:
    """Around one mail client's connection: errors in it, even bugs, are logged and end no other session."""
    try:
        yield
    except (PeerGone, LimitReached) as gone:
        detail("session.gone", conn=conn, reason=str(gone))
    except (TlsFailed, ProtocolViolation) as problem:
        event("session.refused", conn=conn, client=peer(), reason=str(problem))
    except Exception as bug:  # noqa: BLE001  a supervisor: a bug ends one session
        tell_of_end("session", bug, conn=conn)


async def nobody_knows(ends: Ends | None) -> Caller:
    """For a bridge that cannot find out whose program it is."""
    return Caller(unknown="nobody was asked")


async def caller_at(ends: Callable[[], Ends | None], caller_of: CallerOf) -> Caller:
    """Whose program is at the other end, as the system says while the connection stands.

    While the system is asked, the client may hang up and another program may get its port; the answer would then be
    about that program. As long as our socket still has its peer, no other program can have got the port.
    """
    asked = ends()
    caller = await caller_of(asked)
    return caller if ends() == asked else await caller_of(None)


@dataclass(frozen=True, slots=True)
class Service:
    """A Welcome in this process."""

    serve: Serve
    handshakes: Cap
    """A handshake takes a place of this cap, as a login does."""
    context: Context | None = None
    """For implicit TLS, which is up before `serve` is called."""
    caller_of: CallerOf = nobody_knows
    """Identifies the caller for `handshakes`."""
    balancers: Balancers | None = None
    """If given, only they may connect, each time with a PROXY header."""
    is_check: bool = False
    """See Channel; for a client whose PROXY header was read before."""

    async def __call__(self, conn: str, client: socket.socket, peer: str) -> None:
        """See Welcome."""
        channel: Channel | None = None
        try:
            with supervised(conn, lambda: peer if channel is None else channel.peer):
                channel = open_channel(client, asyncio.get_running_loop(), peer)
                channel.is_check = self.is_check
                if self.balancers is not None:
                    await self.balancers.introduce(conn, channel)
                if self.context is not None:
                    await self._start_tls(channel, self.context)
                await self.serve(conn, channel)
        finally:
            (client if channel is None else channel).close()

    async def _start_tls(self, channel: Channel, context: Context) -> None:
        with self.handshakes.place() as place:
            if place.needs_caller:
                place.give_to((await caller_at(lambda: channel.ends, self.caller_of)).key)
            await _shake_hands(channel, context())


async def _shake_hands(channel: Channel, context: ssl.SSLContext) -> None:
    try:
        async with asyncio.timeout(HANDSHAKE_SECONDS):
            await channel.start_tls(context)
    except TimeoutError:
        raise TlsFailed(f"no TLS within {HANDSHAKE_SECONDS:.0f} s; {SPEAKS_PLAIN}") from None
    except TlsFailed as problem:
        if getattr(problem.__cause__, "reason", None) in PLAIN_REASONS:
            raise TlsFailed(f"{problem}; {SPEAKS_PLAIN}") from problem
        if has_hung_up(problem) and not channel.has_begun_handshake:  # it waited for a greeting, and saw no certificate
            if channel.is_check:
                raise PeerGone(f"{channel.peer}: the balancer has seen that the port is open") from problem
            raise TlsFailed(f"the mail program hung up before TLS began; {SPEAKS_PLAIN}") from problem
        raise TlsFailed(client_reason(problem)) from problem
