"""Accepts the mail clients of a listening socket, one after the other, as soon as they have connected."""

from __future__ import annotations

import asyncio
import errno
import socket
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from bridge.relay.connected import has_add_reader
from bridge.relay.crowd import Crowd, Take, Whose, nobody_knows
from bridge.relay.watching import watching_of
from bridge.tasks import task_group

Tell = Callable[[OSError], None]
"""Called with the reason why no client can be accepted now."""

PAUSE_SECONDS = 0.5
"""After a failed accept: the process has no file descriptor left until some session ends."""

AT_ONCE = 32
"""How many clients are accepted in one turn of the loop."""
LOOK_EVERY = 8
"""After this many clients without a crowd we look whether others wait."""
WAITING = 64
"""How many clients of one listening socket may wait for their turn; more stay in the kernel's queue. Each holds a
descriptor: with 256 at each of six sockets, a process with 1,024 had none left to connect to a mail server."""

_LEFT = {errno.ECONNABORTED, errno.ECONNRESET, errno.ENOTCONN}
_LEFT_WINDOWS = {59, 64, 1236}
"""ERROR_UNEXP_NET_ERR (wine), ERROR_NETNAME_DELETED and ERROR_CONNECTION_ABORTED: the client was gone before it was
accepted; errno is EINVAL then (CPython issue 93821)."""
_KNOWN_ALREADY = 87
"""ERROR_INVALID_PARAMETER: Windows lets a socket join a completion port only once, and a copy of the socket (made when
a port is reopened at the same address) counts as the same. asyncio notes the copy as joined before it tries, so it does
not try again: only the first accept fails."""


@asynccontextmanager
async def clients_of(
    sock: socket.socket, take: Take, tell: Tell, gather: float = 0.0, whose: Whose = nobody_knows
) -> AsyncIterator[None]:
    """In the body, each client of `sock` goes to `take`. `sock` listens and does not block.

    `whose`: where many come at once, those whom it tells apart take turns. `gather`: seconds that a client may wait for
    the next ones if it comes that soon after another; for a process that has nothing else to do, and would be woken for
    each.
    """
    loop = asyncio.get_running_loop()
    if has_add_reader(loop):
        watch = _Gathering(loop, sock, take, tell, gather) if gather else _InTurns(loop, sock, take, tell, whose=whose)
        try:
            yield
        finally:
            watch.end()
        return
    async with task_group() as group:
        accepting = group.create_task(_accept(loop, sock, take, tell))
        try:
            yield
        finally:
            accepting.cancel()


class _Watch(ABC):
    """For a loop that watches descriptors. The loop's own sock_accept() would start watching anew for each client and
    wake a task: 60 of the 230 microseconds that a login cost the main process of a bridge with workers."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, take: Take, tell: Tell) -> None:
        self._loop = loop
        self._watching = watching_of(loop)
        self._sock = sock
        self._take = take
        self._tell = tell
        self._pause: asyncio.TimerHandle | None = None
        self._begin()

    def end(self) -> None:
        self._watching.unwatch(self._sock.fileno())
        if self._pause is not None:
            self._pause.cancel()

    def _begin(self) -> None:
        self._pause = None
        try:
            self._watching.watch(self._sock.fileno(), self._ready)
        except OSError as problem:  # the kernel has no memory to watch one more descriptor; it may have some soon
            self._tell(problem)
            self._pause = self._loop.call_later(PAUSE_SECONDS, self._begin)

    @abstractmethod
    def _ready(self) -> None:
        """Somebody is there, or was."""

    def _accept(self) -> bool:
        """False if no client is there, or none can be accepted now."""
        try:
            client, address = self._sock.accept()
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as problem:
            if has_left(problem):
                return True
            self._tell(problem)
            self._rest(PAUSE_SECONDS, self._begin)
            return False
        if address is None:  # macOS, for a client that has left; others say ECONNABORTED (XNU, accept_nocancel())
            client.close()
            return True
        client.setblocking(False)
        self._take(client, address)
        return True

    def _rest(self, seconds: float, then: Callable[[], None]) -> None:
        self._watching.unwatch(self._sock.fileno())
        self._pause = self._loop.call_later(seconds, then)


class _InTurns(_Watch):
    """Begins one session for each turn of the loop, so that the sessions under way have their turns in between.

    Normally one client is accepted at a time. Only after every LOOK_EVERY clients, because finding nobody else costs a
    twentieth of a login, the kernel's queue is emptied into the crowd; as long as there is a crowd, this goes on.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, take: Take, tell: Tell, whose: Whose
    ) -> None:
        self._let_in = take
        self._crowd = Crowd(take, whose)
        self._is_moving = False
        self._unseen = LOOK_EVERY - 1
        """Sessions begun since we last looked who else waits; 0 during such a look."""
        super().__init__(loop, sock, self._add, tell)

    def end(self) -> None:
        """Begin the sessions of all who still wait: they are accepted, so no other listener of this port gets them."""
        super().end()
        while len(self._crowd):
            self._crowd.let_in(WAITING)

    def _add(self, client: socket.socket, address: Any) -> None:
        if self._unseen:
            self._let_in(client, address)
        else:
            self._crowd.add(client, address)

    def _ready(self) -> None:
        self._unseen = 0 if len(self._crowd) else (self._unseen + 1) % LOOK_EVERY
        if self._unseen:
            self._accept()
            return
        count = 0
        while count < AT_ONCE and len(self._crowd) < WAITING and self._accept():
            count += 1
        if count > 1:  # even if all of them have hung up, and none is left: there may be more of the kind
            self._unseen = LOOK_EVERY - 1
        self._go_on()

    def _go_on(self) -> None:
        """Call _move() soon, outside of the selector's callback, which must not close descriptors (see Take)."""
        if len(self._crowd) and not self._is_moving:
            self._is_moving = True
            self._loop.call_soon(self._move)

    def _move(self) -> None:
        self._is_moving = False
        if len(self._crowd) >= WAITING:
            self._crowd.drop_gone()
        self._crowd.let_in(AT_ONCE)
        self._go_on()


class _Gathering(_Watch):
    """Takes clients in groups, as a network card coalesces interrupts under load.

    To wake a process whose memory has left the processor's caches costs several times what it then does for a client:
    of 0.10 milliseconds for each login, 0.025 are saved at 500 a second.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, take: Take, tell: Tell, gather: float
    ) -> None:
        self._gather = gather
        self._last = -gather
        super().__init__(loop, sock, take, tell)

    def _ready(self) -> None:
        """The first client of a crowd does not wait, nor do clients that come one by one."""
        now = self._loop.time()
        is_soon, self._last = now - self._last < self._gather, now
        if self._accept() and is_soon:
            self._rest(self._gather, self._take_all)

    def _take_all(self) -> None:
        self._pause = None
        count = 0
        while count < AT_ONCE and self._accept():
            count += 1
        if count and self._pause is None:
            self._rest(self._gather, self._take_all)
        elif self._pause is None:
            self._begin()


async def _accept(loop: asyncio.AbstractEventLoop, sock: socket.socket, take: Take, tell: Tell) -> None:
    """For Windows' Proactor loop; accepts until cancelled."""
    is_new = True
    while True:
        try:
            client, address = await loop.sock_accept(sock)
        except OSError as problem:
            if not has_left(problem) and not (is_new and _winerror(problem) == _KNOWN_ALREADY):
                tell(problem)
                await asyncio.sleep(PAUSE_SECONDS)
            continue
        finally:
            is_new = False
        take(client, address)


def has_left(problem: OSError) -> bool:
    """True if accept() raised only because this client had gone before it was accepted; the next one may be there."""
    return problem.errno in _LEFT or _winerror(problem) in _LEFT_WINDOWS


def _winerror(problem: OSError) -> int | None:
    """Windows' own error number; None elsewhere."""
    return getattr(problem, "winerror", None)
