"""Caps on connections: on all unauthenticated ones, and on upstream ones for each mailbox."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from typing import Protocol as Interface

from bridge.advice.diagnosis import Diagnosis
from bridge.advice.said import said
from bridge.errors import LimitReached, UpstreamUnavailable
from bridge.model import Protocol
from bridge.observe.logs import event

UNAUTHENTICATED_CONNECTIONS = 500
"""Connections that have not logged in yet; an office that starts all its CRMs at nine stays far below."""
SHARE = 50
"""How many of them one OS user or one other machine may have once half are taken; a CRM opens a handful at a time."""
WHAT = "connections wait for their login"
CONSOLE_CONNECTIONS = 1000
"""A tray icon keeps one open, a browser six: room for the users of the largest terminal server. Without a bound, one
user could take every descriptor of the process, and no mail program would get in."""
TURN_SECONDS = 20.0
"""How long a login waits for one of its mailbox's upstream connections; below a CRM's 30 s patience."""

SPARE = {Protocol.SMTP.value: 7}
"""By protocol, how many logins of a mailbox are let in beyond its limit after they have waited for their turn in vain.
The sessions that hold the turns may be idle, since pools keep their connections, and Exchange counts messages that are
being sent. Together with Exchange's three this is what such pools open (nodemailer 5, vert.x 10); a larger burst is no
faster than before."""


class Place(Interface):
    """One of the places under a Cap, while it is held."""

    @property
    def needs_caller(self) -> bool:
        """True if give_to() must be called to keep the place."""

    def give_to(self, caller: str) -> None:
        """Count the place among this caller's from now on; an empty caller (not known) has no share.

        Raises: LimitReached if this caller has its share already.
        """


class Cap(Interface):
    """How many connections may wait for their login."""

    @property
    def is_busy(self) -> bool:
        """True if the next place needs a caller."""

    def place(self) -> AbstractContextManager[Place]:
        """Hold one place, even while the system is asked who the caller is. Raises: LimitReached."""


class Budget(Interface):
    """How many upstream connections a mailbox may have."""

    def turn(self, key: tuple[str, str], most: int | None) -> AbstractAsyncContextManager[None]:
        """Hold one connection of `key`, a protocol and an address; no limit if `most` is None. Raises:
        UpstreamUnavailable."""


class ConnectionCap:
    """At most so many at once; the next one is refused, not queued.

    While half of the places are free, no caller is identified. Of the other half each caller gets a share: a caller
    that opens connections and says nothing gets half of the places and its share, and the rest is left for everybody
    else. To identify a caller may take seconds, and the connection holds its place meanwhile: otherwise connections
    that come faster than the system answers would be counted nowhere, and could use up all memory and descriptors.
    """

    def __init__(self, most: int = UNAUTHENTICATED_CONNECTIONS, share: int = SHARE, what: str = WHAT) -> None:
        """`what`: for the log, what those who hold a place are doing."""
        self._most = most
        self._share = share
        self._what = what
        self._count = 0
        self._by_caller: Counter[str] = Counter()

    @property
    def count(self) -> int:
        """How many hold a place now."""
        return self._count

    @property
    def is_busy(self) -> bool:
        """True if half of the places are taken: the next place needs a caller."""
        return self._count >= self._most // 2

    def place(self) -> AbstractContextManager[Place]:
        """Hold one place. Raises, on entering: LimitReached."""
        return _Place(self)

    def _take(self) -> None:
        if self._count >= self._most:
            raise LimitReached(f"{self._most} {self._what}")
        self._count += 1

    def _give_to(self, caller: str) -> None:
        if self._by_caller[caller] >= self._share:
            raise LimitReached(f"{self._most // 2} {self._what}, {self._share} more of {caller}")
        self._by_caller[caller] += 1

    def _give_back(self, caller: str) -> None:
        self._count -= 1
        if caller:
            self._by_caller[caller] -= 1
            if not self._by_caller[caller]:
                del self._by_caller[caller]


class _Place:
    """A Place. No generator-based context manager: each login has one, and in a bridge with workers little else."""

    __slots__ = ("_caller", "_cap", "needs_caller")

    def __init__(self, cap: ConnectionCap) -> None:
        self._cap = cap
        self._caller = ""
        self.needs_caller = cap.is_busy

    def __enter__(self) -> Place:
        self._cap._take()
        return self

    def __exit__(self, *_: object) -> None:
        self._cap._give_back(self._caller)

    def give_to(self, caller: str) -> None:
        """See Place."""
        if caller:
            self._cap._give_to(caller)
            self._caller = caller


def console_cap(descriptors: int | None = None) -> ConnectionCap:
    """For the console, which counts apart, so that filling it keeps nobody from mail.

    `descriptors`: how many the process may have, if there is a limit; the console gets a quarter of them at most.
    """
    most = CONSOLE_CONNECTIONS if descriptors is None else min(CONSOLE_CONNECTIONS, descriptors // 4)
    return ConnectionCap(most, SHARE, "connections to the console are open")


class Turns:
    """At most so many upstream connections for each key; others wait for their turn.

    Exchange takes 3 messages of a mailbox at once and answers the fourth with 432 (docs/quirks.md): better that the
    fourth waits here for a moment than that the CRM reports an error.
    """

    def __init__(self, spare: Mapping[str, int] = SPARE) -> None:
        self._spare = spare
        self._lines: dict[tuple[str, str], _Line] = {}

    @asynccontextmanager
    async def turn(self, key: tuple[str, str], most: int | None) -> AsyncIterator[None]:
        """See Budget. Raises: UpstreamUnavailable after TURN_SECONDS.

        If a reload has changed `most`, the new limit applies to all who wait, and counts the connections held already.
        """
        if most is None:
            yield
            return
        line = self._lines.setdefault(key, _Line(most))
        mine = line.queue_up(most)
        try:
            try:
                async with asyncio.timeout(TURN_SECONDS):
                    await mine
            except TimeoutError:
                reason = said(
                    "{mailbox} already has as many {protocol} connections as its provider allows ({number})",
                    mailbox=key[1],
                    number=most,
                    protocol=key[0].upper(),
                )
                if not line.let_in_beyond(mine, self._spare.get(key[0], 0)):
                    raise UpstreamUnavailable(reason, diagnosis=Diagnosis.of("mail.crowded", reason)) from None
                event("turn.waived", account=key[1], reason=str(reason))
            yield
        finally:
            line.leave(mine)
            # A login that gives up just as the last one leaves may find its line removed, or a newer one in its place.
            if line.is_empty and self._lines.get(key) is line:
                del self._lines[key]


class _Line:
    """How many connections of one mailbox are held, and the queue of logins that wait for one."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._beyond: set[asyncio.Future[None]] = set()

    @property
    def is_empty(self) -> bool:
        return not self._held and not self._waiting and not self._beyond

    def queue_up(self, most: int) -> asyncio.Future[None]:
        """Returns a future that is done when it is this login's turn; it must be given to leave() in any case."""
        self._most = most
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(mine)
        self._let_in()
        return mine

    def let_in_beyond(self, mine: asyncio.Future[None], spare: int) -> bool:
        """Let in a login that has waited in vain, unless `spare` of them are in already. It takes nobody's turn."""
        if len(self._beyond) >= spare:
            return False
        self._beyond.add(mine)
        return True

    def leave(self, mine: asyncio.Future[None]) -> None:
        self._beyond.discard(mine)
        if mine.done() and not mine.cancelled():  # even if its owner was cancelled before learning of it
            self._held -= 1
        elif mine in self._waiting:
            self._waiting.remove(mine)
        self._let_in()

    def _let_in(self) -> None:
        while self._waiting and self._held < self._most:
            first = self._waiting.popleft()
            if not first.done():  # otherwise that login has just given up
                self._held += 1
                first.set_result(None)
