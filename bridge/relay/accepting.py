"""Accepts the mail clients of a listening socket, one after the other, as soon as they have connected."""

from __future__ import annotations

import asyncio
import errno
import socket
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

from bridge.relay.accept_queue import AcceptQueue, Take, Whose, nobody_knows
from bridge.relay.connected import has_add_reader
from bridge.relay.watching import watching_of
from bridge.tasks import task_group

Tell = Callable[[OSError], None]
"""Called with the reason why no client can be accepted now."""

Pace = Callable[[Callable[[], None]], object]
"""Calls back, in a turn of the loop of its own, when the sessions begun so far have had their turn."""

PAUSE_SECONDS = 0.5
"""After a failed accept: the process has no file descriptor left until some session ends."""

AT_ONCE = 32
"""How many clients are accepted in one turn of the loop."""
LOOK_EVERY = 8
"""After this many clients, if none waits in the queue, we look whether others wait."""
GROUP = 16
"""How many clients are begun together in another process, see `gather`. If more have come in that time, they
wait in the queue."""
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
    sock: socket.socket,
    take: Take,
    tell: Tell,
    gather: float = 0.0,
    whose: Whose = nobody_knows,
    pace: Pace | None = None,
) -> AsyncIterator[None]:
    """In the body, each client of `sock` goes to `take`. `sock` listens and does not block.

    `whose`: where many come at once, those whom it tells apart take turns. `gather`: seconds that a client may wait for
    the next ones if it comes that soon after another; for a process that has nothing else to do, and would be woken for
    each. `pace`: how fast the sessions of a queue begin; without it, one in each turn of the loop.
    """
    loop = asyncio.get_running_loop()
    pace = pace or loop.call_soon
    if has_add_reader(loop):
        kind = partial(_Gathering, gather=gather) if gather else _InTurns
        watch = kind(loop, sock, take, tell, whose, pace)
        try:
            yield
        finally:
            watch.end()
        return
    completing = _Completing(loop, sock, take, tell, whose, pace)
    async with task_group() as group:
        accepting = group.create_task(completing.run())
        try:
            yield
        finally:
            accepting.cancel()
            completing.end()


@dataclass(eq=False)
class _Accepting(ABC):
    """Normally one client is accepted at a time. Only after every LOOK_EVERY clients, because finding nobody else costs
    a twentieth of a login, the kernel's queue is emptied into ours; as long as somebody waits there, this goes on.

    The sessions of those who wait begin at that pace, so that the sessions under way have their turns in between.
    """

    loop: asyncio.AbstractEventLoop
    sock: socket.socket
    let_in: Take
    tell: Tell
    whose: Whose
    pace: Pace
    _has_seen_many: bool = field(default=False, init=False)
    """True if the last look found more than one, even if all of them have hung up, and none is left: there may be more
    of the kind."""
    _unseen: int = field(default=LOOK_EVERY - 1, init=False)
    """Sessions begun since we last looked who else waits."""
    _is_looking: bool = field(default=False, init=False)
    _is_moving: bool = field(default=False, init=False)

    at_once: ClassVar[int] = 1
    """How many sessions of a queue begin before `pace` is asked."""

    def __post_init__(self) -> None:
        self._queue = AcceptQueue(self.let_in, self.whose)

    def end(self) -> None:
        """Begin the sessions of all who still wait: they are accepted, so no other listener of this port gets them."""
        while len(self._queue):
            self._queue.let_in(WAITING)

    @property
    def _is_crowded(self) -> bool:
        return self._has_seen_many or len(self._queue) > 0

    @property
    def _is_full(self) -> bool:
        return len(self._queue) >= WAITING

    def _is_due(self) -> bool:
        """True if it is time to look who else waits. Called once for each client, or for a group of them."""
        self._unseen = 0 if self._is_crowded else (self._unseen + 1) % LOOK_EVERY
        return not self._unseen

    def _look(self, count: int = 0) -> None:
        """Take those who wait into the queue. `count`: how many this look has found already."""
        self._is_looking = True
        while count < AT_ONCE and not self._is_full and self._accept():
            count += 1
        self._is_looking = False
        self._has_seen_many = count > 1
        if self._is_full:
            self._rest()
            self.loop.call_soon(self._make_room)
        self._go_on()

    def _accept(self) -> bool:
        """False if no client is there, or none can be accepted now."""
        try:
            client, address = self.sock.accept()
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as problem:
            return has_left(problem) or self._cannot(problem)
        if address is None:  # macOS, for a client that has left; others say ECONNABORTED (XNU, accept_nocancel())
            client.close()
            return True
        self._add(client, address)
        return True

    def _add(self, client: socket.socket, address: Any) -> None:
        client.setblocking(False)
        if self._is_looking:
            self._queue.add(client, address)
        else:
            self.let_in(client, address)

    def _go_on(self) -> None:
        """Have _move() called: never in the selector's callback, which must not close descriptors (see Take)."""
        if len(self._queue) and not self._is_moving:
            self._is_moving = True
            self.pace(self._move)

    def _move(self) -> None:
        self._is_moving = False
        if len(self._queue) > self.at_once:
            self._go_on()  # first, so that another process has the next ones at hand when it has begun these
        for _ in range(self.at_once):
            self._queue.let_in(AT_ONCE)
        self._resume()

    def _make_room(self) -> None:
        if self._is_full:
            self._queue.drop_gone()
            self._resume()

    @abstractmethod
    def _cannot(self, problem: OSError) -> bool:
        """No client can be accepted now. Returns False."""

    @abstractmethod
    def _rest(self) -> None:
        """The queue is full: accept nobody until _resume()."""

    @abstractmethod
    def _resume(self) -> None:
        """Accept again, if the queue has room."""


@dataclass(eq=False)
class _InTurns(_Accepting):
    """For a loop that watches descriptors. The loop's own sock_accept() would start watching anew for each client and
    wake a task: 60 of the 230 microseconds that a login cost the main process of a bridge with workers."""

    _pause: asyncio.TimerHandle | None = field(default=None, init=False)
    _is_resting: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._watching = watching_of(self.loop)
        self._begin()

    def end(self) -> None:
        """See _Accepting."""
        self._watching.unwatch(self.sock.fileno())
        self._is_resting = False
        if self._pause is not None:
            self._pause.cancel()
        super().end()

    def _begin(self) -> None:
        self._pause = None
        try:
            self._watching.watch(self.sock.fileno(), self._ready)
        except OSError as problem:  # the kernel has no memory to watch one more descriptor; it may have some soon
            self.tell(problem)
            self._pause = self.loop.call_later(PAUSE_SECONDS, self._begin)

    def _ready(self) -> None:
        """Somebody is there, or was."""
        if self._is_due():
            self._look()
        else:
            self._accept()

    def _cannot(self, problem: OSError) -> bool:
        self.tell(problem)
        self._wait(PAUSE_SECONDS, self._begin)
        return False

    def _wait(self, seconds: float, then: Callable[[], None]) -> None:
        self._watching.unwatch(self.sock.fileno())
        self._pause = self.loop.call_later(seconds, then)

    def _rest(self) -> None:
        self._is_resting = True
        self._watching.rest(self.sock.fileno())

    def _resume(self) -> None:
        if self._is_resting and not self._is_full:
            self._is_resting = False
            if self._pause is None:
                self._begin()


@dataclass(eq=False)
class _Gathering(_InTurns):
    """Takes clients in groups, as a network card coalesces interrupts under load.

    To wake a process whose memory has left the processor's caches costs several times what it then does for a client:
    of 0.10 milliseconds for each login, 0.025 are saved at 500 a second.
    """

    gather: float = 0.0

    at_once = GROUP

    def __post_init__(self) -> None:
        self._last = -self.gather
        super().__post_init__()

    def _ready(self) -> None:
        """The first client of a group does not wait, nor do clients that come one by one."""
        if self._is_crowded:
            self._look()
            return
        now = self.loop.time()
        is_soon, self._last = now - self._last < self.gather, now
        if self._accept() and is_soon:
            self._wait(self.gather, self._take_group)

    def _take_group(self) -> None:
        self._pause = None
        count = 0
        while count < GROUP and self._accept():
            count += 1
        if self._pause is not None:
            return
        self._has_seen_many = count == GROUP
        if count and not self._has_seen_many:
            self._wait(self.gather, self._take_group)
        else:
            self._begin()


@dataclass(eq=False)
class _Completing(_Accepting):
    """For Windows' Proactor loop, which takes one client at a time, and cannot say whether others wait. A plain
    accept(), which does not block, can, once the loop has taken one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._may_accept = asyncio.Event()
        self._may_accept.set()

    async def run(self) -> None:
        """Accept until cancelled."""
        is_new = True
        while True:
            try:
                client, address = await self.loop.sock_accept(self.sock)
            except OSError as problem:
                if not has_left(problem) and not (is_new and _winerror(problem) == _KNOWN_ALREADY):
                    self.tell(problem)
                    await asyncio.sleep(PAUSE_SECONDS)
                continue
            finally:
                is_new = False
            self._is_looking = self._is_due()
            self._add(client, address)
            if self._is_looking:
                self._look(1)
            await self._may_accept.wait()

    def _cannot(self, problem: OSError) -> bool:
        """The loop's next attempt will say the same."""
        return False

    def _rest(self) -> None:
        self._may_accept.clear()

    def _resume(self) -> None:
        if not self._is_full:
            self._may_accept.set()


def has_left(problem: OSError) -> bool:
    """True if accept() raised only because this client had gone before it was accepted; the next one may be there."""
    return problem.errno in _LEFT or _winerror(problem) in _LEFT_WINDOWS


def _winerror(problem: OSError) -> int | None:
    """Windows' own error number; None elsewhere."""
    return getattr(problem, "winerror", None)
