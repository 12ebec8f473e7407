"""Name lookups in threads, few at a time: a lookup that hangs holds up neither the others nor the process's end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from bridge.dialing import AddressInfo, look_up
from bridge.threads import Threads

AT_ONCE = 16
"""The most lookups under way; a name server that hangs delays only the logins that need it."""

REMEMBERED_SECONDS = 5.0
"""How long an answer is reused: below every provider's TTL, and a storm of logins asks only once."""

JOINED_SECONDS = 10.0
"""How old a lookup may be for another login to wait for it, too. An older one may be asking a name server of a network
that this machine has left, so a second lookup is started beside it. A system's resolver gives up after 20 to 30 s, so a
name whose server hangs takes a few of the places, and never all."""

Lookup = Callable[[str, int], Sequence[AddressInfo]]
"""Host and port to addresses; blocks. Raises: OSError, UnicodeError."""

Place = tuple[str, int]


@dataclass(slots=True)
class _Asked:
    """A lookup for all logins that want the same name: its thread goes on even if they give up."""

    until: float
    """By the loop's clock; no login joins later."""
    answer: asyncio.Future[Sequence[AddressInfo]]
    has_thread: bool = False


class Resolver:
    """Asks in threads; a name server that does not answer takes 20 s and more."""

    def __init__(self, lookup: Lookup = look_up) -> None:
        self._lookup = lookup
        self._threads = Threads("resolver", at_once=AT_ONCE)
        self._remembered: dict[Place, tuple[float, Sequence[AddressInfo]]] = {}
        self._asked: dict[Place, _Asked] = {}

    async def addresses(self, host: str, port: int) -> Sequence[AddressInfo]:
        """The addresses of `host`. Raises: OSError (gaierror), UnicodeError; NotDone if the system has no more threads.
        A lookup that nobody waits for any more ends by itself."""
        place, loop = (host, port), asyncio.get_running_loop()
        while True:
            until, found = self._remembered.get(place, (0.0, ()))
            if loop.time() < until:
                return found
            asked = self._asked.get(place)
            if asked is None or loop.time() >= asked.until:
                return await self._ask(place)
            await asyncio.wait([asked.answer])
            if not asked.answer.cancelled():
                return asked.answer.result()

    def forget(self, host: str, port: int) -> None:
        """Forget the addresses, because none of them answers, so that the next login looks the name up again."""
        self._remembered.pop((host, port), None)

    async def _ask(self, place: Place) -> Sequence[AddressInfo]:
        loop = asyncio.get_running_loop()
        asked = self._asked[place] = _Asked(loop.time() + JOINED_SECONDS, loop.create_future())
        try:
            await self._threads.run(partial(self._look, place, asked, loop))
        except BaseException:
            if not asked.has_thread:  # nor will it get one: the next caller starts a new lookup
                self._over(place, asked, asked.answer.cancel)
            raise
        return asked.answer.result()

    def _look(self, place: Place, asked: _Asked, loop: asyncio.AbstractEventLoop) -> None:
        """The lookup itself; in the thread."""
        asked.has_thread = True
        try:
            settle = partial(asked.answer.set_result, self._lookup(*place))
        except Exception as problem:  # noqa: BLE001  not swallowed: raised again by all who wait
            settle = partial(asked.answer.set_exception, problem)
        try:
            loop.call_soon_threadsafe(self._over, place, asked, settle)
        except RuntimeError:
            return  # the loop has been closed: nobody is left to tell

    def _over(self, place: Place, asked: _Asked, settle: Callable[[], object]) -> None:
        if self._asked.get(place) is asked:
            del self._asked[place]
        if asked.answer.done():  # it was withdrawn at the moment when its thread started
            return
        settle()
        if not asked.answer.cancelled() and asked.answer.exception() is None:
            self._remembered[place] = (asyncio.get_running_loop().time() + REMEMBERED_SECONDS, asked.answer.result())
