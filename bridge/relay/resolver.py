"""Name lookups beside the event loop, few at a time: one that hangs holds up neither the others nor the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from bridge.dialing import AddressInfo, look_up
from bridge.threads import Threads

AT_ONCE = 16
"""Lookups under way; a name server that hangs then delays only those who need it."""

REMEMBERED_SECONDS = 5.0
"""How long an answer is good for the next login: below every provider's TTL, and a login storm asks once."""

Lookup = Callable[[str, int], Sequence[AddressInfo]]
"""Host and port to addresses; blocks. Raises: OSError, UnicodeError."""


class Resolver:
    """Asks in threads; a name server that does not answer takes 20 s and more."""

    def __init__(self, lookup: Lookup = look_up) -> None:
        self._lookup = lookup
        self._threads = Threads("resolver", at_once=AT_ONCE)
        self._remembered: dict[tuple[str, int], tuple[float, Sequence[AddressInfo]]] = {}

    async def addresses(self, host: str, port: int) -> Sequence[AddressInfo]:
        """Where `host` is. Raises: OSError (gaierror), UnicodeError; NotDone where the system has
        no more threads. A lookup that is given up ends by itself."""
        loop = asyncio.get_running_loop()
        until, found = self._remembered.get((host, port), (0.0, ()))
        if loop.time() >= until:
            found = await self._ask(host, port)
            self._remembered[host, port] = (loop.time() + REMEMBERED_SECONDS, found)
        return found

    def forget(self, host: str, port: int) -> None:
        """None of the addresses answers: ask again the next time."""
        self._remembered.pop((host, port), None)

    async def _ask(self, host: str, port: int) -> Sequence[AddressInfo]:
        return await self._threads.run(lambda: self._lookup(host, port))
