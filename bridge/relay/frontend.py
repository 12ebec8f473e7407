"""The Frontend interface, and the one that drives a server machine over a Channel."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator
from typing import Protocol

from bridge.errors import BridgeError, BridgeStops, LimitReached, PeerGone, ProtocolViolation, TlsFailed
from bridge.model import Login
from bridge.observe.logs import detail, is_detailed
from bridge.protocols import missteps
from bridge.protocols.base import Event, Hangup, LoginRequested, Ready, Send, ServerMachine, StartTLS
from bridge.relay.channel import Channel
from bridge.relay.tls import client_reason

LOGIN_SECONDS = 120.0
"""From accept to a complete login, not counting our own work. Dovecot gives 180 s; a CRM needs a few milliseconds."""
FAREWELL_SECONDS = 5.0
"""For the answer to a login, and for our last words to a client that took too long: it may not be reading any more."""

_TAG = re.compile(r"(?m)^[^\s*+]\S*(?= (?:OK|NO|BAD)\b)")
"""Tags are left out of the log: the client chooses them, and one that has lost its place in the dialogue may have sent
its password there."""


@contextlib.asynccontextmanager
async def answering() -> AsyncIterator[None]:
    """Around the answer to a login: the login's own time limit no longer runs then, and a client that does not read
    must not hold a place for ever.

    Raises: PeerGone after FAREWELL_SECONDS.
    """
    try:
        async with asyncio.timeout(FAREWELL_SECONDS):
            yield
    except TimeoutError:
        raise PeerGone("the client does not read its answer") from None


async def start_tls(channel: Channel, context: ssl.SSLContext | None) -> None:
    """TLS with a mail client that has been told to begin. Raises: PeerGone."""
    assert context is not None  # noqa: S101  STARTTLS is offered only with a context
    try:
        await channel.start_tls(context)
    except TlsFailed as problem:
        raise PeerGone(f"TLS with the mail client failed: {client_reason(problem)}") from problem


class Patience:
    """How long a client may take for its logins, not counting our own work; a stop ends it."""

    __slots__ = ("_limit", "_seconds_left", "has_ended")

    def __init__(self, seconds: float) -> None:
        self._seconds_left = seconds
        self._limit: asyncio.Timeout | None = None
        self.has_ended = False
        """True where a stop ended it, and not the time limit."""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Around one login. Raises: TimeoutError."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            async with asyncio.timeout(self._seconds_left) as self._limit:
                yield
        finally:
            self._limit = None
            self._seconds_left -= loop.time() - started

    def end(self) -> None:
        """End the login that is running, or the next one at once."""
        self.has_ended = True
        self._seconds_left = 0
        if self._limit is not None and not self._limit.expired():  # an expired one cannot be rescheduled
            self._limit.reschedule(asyncio.get_running_loop().time())


class Frontend(Protocol):
    """Our side of one connection from a mail client, until its login is accepted."""

    async def login(self) -> Login:
        """The next complete login.

        Raises: PeerGone when the client has left or was sent away (politely), ProtocolViolation, LimitReached.
        """

    @property
    def has_more(self) -> bool:
        """True if the client has already sent something after its login."""

    async def refuse(self, problem: BridgeError) -> None:
        """Say no in the protocol's words; login() may be called again. Raises: PeerGone."""

    async def accept(self, ready: Ready) -> bytes:
        """Say yes with the upstream's words; returns what the client sent after its login. Raises: PeerGone."""

    def stop(self) -> None:
        """The bridge stops: login(), now or the next time, tells the client and raises PeerGone. Does not wait."""

    def close(self) -> None:
        """Release what the frontend holds besides the channel, however the session ended. Idempotent."""


class MachineFrontend:
    """Drives a ServerMachine (IMAP, POP3)."""

    __slots__ = ("_can_speak", "_channel", "_context", "_events", "_is_unheard", "_machine", "_patience")

    def __init__(
        self,
        channel: Channel,
        machine: ServerMachine,
        context: ssl.SSLContext | None,
        *,
        login_seconds: float = LOGIN_SECONDS,
    ) -> None:
        self._channel = channel
        self._machine = machine
        self._context = context
        self._events: list[Event] = list(machine.greet())  # no deque, which takes 600 octets for each session
        self._patience = Patience(login_seconds)
        self._can_speak = True
        """False while sending or shaking hands: if that is cancelled, the channel can only be closed."""
        self._is_unheard = channel.tls is not None
        """The client has said nothing since its handshake."""

    async def login(self) -> Login:
        """See Frontend."""
        try:
            async with self._patience.running():
                return await self._next_login()
        except PeerGone as gone:
            misstep = missteps.MISTRUST if self._is_unheard else self._machine.misstep
            if not misstep:
                raise
            raise PeerGone(f"{gone}; {misstep}") from gone
        except TimeoutError:
            if self._patience.has_ended:
                await self._say_goodbye(self._machine.send_away(BridgeStops()))
                raise PeerGone("mail-bridge stops") from None
            await self._say_goodbye(self._machine.time_out())
            raise LimitReached("no login in time") from None

    @property
    def has_more(self) -> bool:
        """See Frontend."""
        return self._machine.has_more

    async def refuse(self, problem: BridgeError) -> None:
        """See Frontend. What the client pipelined after its login is left to login() and its time limit."""
        self._events.extend(self._machine.refuse(problem))
        async with answering():
            while self._events and isinstance(self._events[0], Send | Hangup):
                await self._do(self._events.pop(0))

    async def accept(self, ready: Ready) -> bytes:
        """See Frontend."""
        for event in self._machine.accept(ready):
            match event:
                case Send(data):
                    async with answering():
                        await self._send(data)
                case Ready(leftover):
                    return leftover
        raise AssertionError("accept() ends with Ready")

    def stop(self) -> None:
        """See Frontend."""
        self._patience.end()

    def close(self) -> None:
        """See Frontend. A machine holds nothing to release."""

    async def _next_login(self) -> Login:
        while True:
            if (login := await self._carry_out()) is not None:
                return login
            data = await self._channel.receive()
            self._is_unheard = self._is_unheard and not data
            self._events.extend(self._machine.receive(data) if data else self._machine.closed())
            if not data and not self._events:
                raise PeerGone("the client has left")

    async def _carry_out(self) -> Login | None:
        """Do what the machine wants; stops at a login, which must be answered first."""
        while self._events:
            if (login := await self._do(self._events.pop(0))) is not None:
                return login
        return None

    async def _do(self, event: Event) -> Login | None:
        match event:
            case Send(data):
                await self._send(data)
            case StartTLS(farewell):
                await self._start_tls(farewell)
            case LoginRequested(login):
                return login
            case Hangup(farewell, violation):
                with contextlib.suppress(PeerGone):  # a client that has left cannot be told why, but the log is
                    await self._send(farewell)
                raise ProtocolViolation(violation) if violation else PeerGone("the client has taken its leave")
            case other:
                raise AssertionError(f"a server machine does not say {other!r}")
        return None

    async def _send(self, data: bytes) -> None:
        if is_detailed():
            text = _TAG.sub("(tag)", data.decode("ascii", "replace").rstrip("\r\n"))
            detail("client.sent", client=self._channel.peer, text=text)
        self._can_speak = False
        await self._channel.send(data)
        self._can_speak = True

    async def _start_tls(self, farewell: bytes) -> None:
        await self._send(farewell)
        self._can_speak = False
        await start_tls(self._channel, self._context)
        self._can_speak = self._is_unheard = True
        self._events.extend(self._machine.tls_started())

    async def _say_goodbye(self, last: list[Event]) -> None:
        """To a client that took too long, or because the bridge stops."""
        if not self._can_speak:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_SECONDS):
                for event in last:
                    if isinstance(event, Hangup):
                        await self._send(event.farewell)
