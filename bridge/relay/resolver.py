"""Name lookups beside the event loop, few at a time: one that hangs holds up neither the others nor the end."""

from __future__ import annotations

import asyncio
import functools
import socket
import threading
from collections.abc import Callable, Sequence

AT_ONCE = 16
"""Lookups under way; a name server that hangs then delays only those who need it."""

REMEMBERED_SECONDS = 5.0
"""How long an answer is good for the next login: below every provider's TTL, and a login storm asks once."""

AddressInfo = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[str, int] | tuple[str, int, int, int]]
"""As getaddrinfo gives it."""
Lookup = Callable[[str, int], Sequence[AddressInfo]]
"""Host and port to addresses; blocks. Raises: OSError, UnicodeError."""


def look_up(host: str, port: int) -> Sequence[AddressInfo]:
    """Ask the operating system: hosts file, DNS and what else it is configured for."""
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)  # type: ignore[return-value]  # stubs allow bytes


class Resolver:
    """A daemon thread for each lookup, not a pool: the interpreter waits for a pool's threads when it ends, and a name
    server that does not answer takes 20 s and more."""

    def __init__(self, lookup: Lookup = look_up) -> None:
        self._lookup = lookup
        self._free = asyncio.Semaphore(AT_ONCE)
        self._remembered: dict[tuple[str, int], tuple[float, Sequence[AddressInfo]]] = {}

    async def addresses(self, host: str, port: int) -> Sequence[AddressInfo]:
        """Where `host` is. Raises: OSError (gaierror), UnicodeError. A lookup that is given up ends by itself."""
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
        await self._free.acquire()
        answer: asyncio.Future[Sequence[AddressInfo]] = asyncio.get_running_loop().create_future()
        thread = threading.Thread(target=self._work, args=(host, port, answer), name="resolver", daemon=True)
        try:
            thread.start()
        except RuntimeError as problem:  # out of threads
            self._free.release()
            raise OSError(str(problem)) from problem
        return await answer

    def _work(self, host: str, port: int, answer: asyncio.Future[Sequence[AddressInfo]]) -> None:
        try:
            settle = functools.partial(answer.set_result, self._lookup(host, port))
        except BaseException as problem:  # noqa: BLE001  not swallowed: raised again where the lookup is awaited
            settle = functools.partial(answer.set_exception, problem)
        try:
            answer.get_loop().call_soon_threadsafe(self._finish, answer, settle)
        except RuntimeError:
            return  # the loop has been closed: nobody is left to tell

    def _finish(self, answer: asyncio.Future[Sequence[AddressInfo]], settle: Callable[[], None]) -> None:
        self._free.release()  # only now: a thread that nobody waits for still counts
        if not answer.done():
            settle()
