"""/events, for the administrator's pages: says that something has changed, never what; the page then fetches itself."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field

from aiohttp import web

from bridge.control.contract import Control
from bridge.errors import BridgeError
from bridge.observe.logs import trouble
from bridge.ui.web import guards
from bridge.ui.web.rendering import not_found

STREAMS = 50
"""Streams open at once: several administrators with several tabs, of which only visible ones have one (console.js)."""

CHANGED = b"data: changed\n\n"
SILENCE = b":\n\n"
"""A comment (HTML standard, section 9.2.6): tells us whether the browser is still there."""


@dataclass(eq=False, slots=True)
class _Reader:
    news: asyncio.Event = field(default_factory=asyncio.Event)
    """Changes that come while one is being sent are sent as one."""
    is_over: bool = False


class Events:
    """Server-sent events. close() ends them all, so that the server can stop."""

    def __init__(
        self, control: Control, administrators: guards.Administrators, hosts: frozenset[str], keep_alive: float
    ) -> None:
        """`keep_alive`, seconds of silence before a comment; within this time a session's end also ends its streams."""
        self._control = control
        self._administrators = administrators
        self._hosts = hosts
        self._keep_alive = keep_alive
        self._readers: set[_Reader] = set()
        self._is_closing = False

    def routes(self) -> list[web.RouteDef]:
        """For the application's router."""
        return [web.get("/events", self.stream, allow_head=False)]

    def close(self) -> None:
        """End all streams, and open none from now on."""
        self._is_closing = True
        for reader in self._readers:
            _end(reader)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """The stream, until the browser, the session, or the bridge goes."""
        if guards.is_foreign(request, self._hosts) or not self._administrators.is_open(request):
            return not_found()
        if self._is_closing or len(self._readers) >= STREAMS:
            return web.Response(status=503)
        reader = _Reader()
        self._readers.add(reader)
        try:
            return await self._tell(request, reader)
        finally:
            self._readers.discard(reader)

    async def _tell(self, request: web.Request, reader: _Reader) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        try:
            async with asyncio.TaskGroup() as group:
                # Before the head of the answer goes out: a reader who has seen it misses nothing from then on.
                follower = group.create_task(self._follow(reader))
                await response.prepare(request)
                await response.write(SILENCE)  # the head waits for a first byte
                while (line := await self._next(request, reader)) is not None:
                    await response.write(line)
                follower.cancel()
        except* ConnectionError:
            pass  # the browser has gone
        return response

    async def _next(self, request: web.Request, reader: _Reader) -> bytes | None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._keep_alive):
                await reader.news.wait()
        line = CHANGED if reader.news.is_set() else SILENCE  # both may come in the same moment
        reader.news.clear()
        return line if not reader.is_over and self._administrators.is_open(request) else None

    async def _follow(self, reader: _Reader) -> None:
        try:
            async with contextlib.aclosing(self._control.notices()) as notices:
                async for _ in notices:
                    reader.news.set()
        except BridgeError as problem:
            trouble("console.notices_ended", reason=str(problem))
        finally:
            _end(reader)


def _end(reader: _Reader) -> None:
    reader.is_over = True
    reader.news.set()
