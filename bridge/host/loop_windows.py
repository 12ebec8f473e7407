"""A loop for Windows whose servers survive a client that has gone before it was accepted.

asyncio's own closes the listening socket then (CPython issue 93821): if one connection is reset at the wrong moment, by
a port scanner or any user's program, the console, and with it every sign-in, is gone until the next start.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from functools import partial
from typing import Any

from bridge.relay.accepting import has_left

assert sys.platform == "win32"  # noqa: S101  for mypy, which otherwise misses completion ports on other systems


class _Accepting(asyncio.Future[Any]):
    """The next client, and its address."""

    attempt: asyncio.Future[Any] | None = None

    def cancel(self, msg: Any = None) -> bool:
        """Cancel the attempt at once, since whoever cancels closes the socket next."""
        if self.attempt is not None:
            self.attempt.cancel()
        return super().cancel(msg)


class _Proactor(asyncio.IocpProactor):
    """asyncio's proactor; but if a client of a server has gone before it was accepted, it tries again."""

    def accept(self, listener: socket.socket) -> asyncio.Future[Any]:
        """Raises: OSError."""
        accepting = _Accepting(loop=asyncio.get_running_loop())
        self._try(accepting, listener)
        return accepting

    def accept_once(self, listener: socket.socket) -> asyncio.Future[Any]:
        """As asyncio does; but the socket prepared for the client is closed if no client comes.

        asyncio leaves it to the garbage collector, and ours runs seldom: each probe of a port scanner would hold a
        handle.
        Raises: OSError.
        """
        attempt = super().accept(listener)
        attempt.add_done_callback(partial(_closed_unless_taken, self._prepared))
        return attempt

    def _get_accept_socket(self, family: int) -> socket.socket:
        made: socket.socket = super()._get_accept_socket(family)  # type: ignore[misc]  # which the stubs leave out
        self._prepared = made
        return made

    def _try(self, accepting: _Accepting, listener: socket.socket) -> None:
        accepting.attempt = self.accept_once(listener)
        accepting.attempt.add_done_callback(partial(self._tried, accepting, listener))

    def _tried(self, accepting: _Accepting, listener: socket.socket, attempt: asyncio.Future[Any]) -> None:
        problem = None if attempt.cancelled() else attempt.exception()
        if accepting.done():
            if not attempt.cancelled() and problem is None:
                attempt.result()[0].close()  # accepted just when it was cancelled
        elif attempt.cancelled():
            accepting.cancel()
        elif problem is None:
            accepting.set_result(attempt.result())
        elif isinstance(problem, OSError) and has_left(problem):
            self._try(accepting, listener)
        else:
            accepting.set_exception(problem)


def _closed_unless_taken(prepared: socket.socket, attempt: asyncio.Future[Any]) -> None:
    if attempt.cancelled() or attempt.exception() is not None:
        prepared.close()


class ServingLoop(asyncio.ProactorEventLoop):
    """asyncio's loop on such a proactor."""

    def __init__(self) -> None:
        self._accepts = _Proactor()
        super().__init__(self._accepts)

    async def sock_accept(self, sock: socket.socket) -> Any:
        """A single attempt, as in asyncio: the relay handles failures itself (bridge.relay.accepting), and this needs
        no further turn of the loop."""
        attempt = self._accepts.accept_once(sock)
        try:
            return await attempt
        except asyncio.CancelledError:
            if attempt.done() and not attempt.cancelled() and attempt.exception() is None:
                attempt.result()[0].close()  # accepted just when we were cancelled: nobody else knows of it
            raise

    async def shutdown_default_executor(self, *arguments: Any) -> None:
        """See asyncio, which waits for the threads in one more; if that cannot start, the process's exit waits for
        them."""
        with contextlib.suppress(RuntimeError):
            await super().shutdown_default_executor(*arguments)
