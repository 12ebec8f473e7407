"""What a person's tray may ask without the administrator's token: the accounts that this person's programs wait for."""

from __future__ import annotations

import asyncio
from collections import Counter

from aiohttp import web

from bridge.control import wire
from bridge.control.contract import Attendants
from bridge.control.own import HEADER, PATH, PATIENCE, Prompts, tag_of
from bridge.errors import BridgeError
from bridge.observe.logs import report
from bridge.ui.web import guards

WAITING = 512
"""Requests that wait for news; beyond that number a request is answered at once, and the tray asks again."""
SHARE = 8
"""Of these, for one user: trays of several desktop sessions, and of those that were just closed."""


class Mine:
    """GET /mine: the request names no account and no user; the operating system tells who asks.

    A web page must not read the answer, although a browser is a program of the same user: a page of another site can
    neither send our header nor hide its origin, and none hides that a browser asks.
    """

    def __init__(self, attendants: Attendants) -> None:
        self._attendants = attendants
        self._waiting: Counter[str] = Counter()
        self._changes: list[asyncio.Event] = []
        """The events that requests wait for, once for each request: those of one user wait for the same event."""
        self._is_closed = False

    def routes(self) -> list[web.RouteDef]:
        """For the application's router."""
        return [web.get(PATH, self._get, allow_head=False)]

    def close(self) -> None:
        """Let nobody wait any more, so that the server can stop."""
        self._is_closed = True
        for change in self._changes:
            change.set()

    async def _get(self, request: web.Request) -> web.StreamResponse:
        # Our own pages never ask. One that another program left under our address may: it sends no Origin with a GET.
        is_page = "Origin" in request.headers or "Sec-Fetch-Site" in request.headers
        if is_page or request.headers.get(HEADER) != "tray":
            return web.Response(status=404)
        user_id = await self._attendants.user_of(guards.ends_of(request.transport))
        if not user_id:  # an empty list would say that no account waits, which is not known
            return web.Response(status=404)
        try:
            found = await self._news(user_id, request.query.get("seen", ""))
        except BridgeError as problem:
            report("console.mine_unknown", problem)
            return web.Response(status=503)
        return web.Response(text=wire.dumps(wire.encode(found)), content_type="application/json")

    async def _news(self, user_id: str, seen: str) -> Prompts:
        """The answer, at once if it differs from what was seen already; otherwise when it does, or after a while."""
        change, found = await self._look(user_id)
        if found.tag != seen or self._waiting[user_id] >= SHARE or self._waiting.total() >= WAITING:
            return found
        self._waiting[user_id] += 1
        try:
            async with asyncio.timeout(PATIENCE):
                while found.tag == seen and not self._is_closed:
                    self._changes.append(change)
                    try:
                        await change.wait()
                    finally:
                        self._changes.remove(change)
                    change, found = await self._look(user_id)
        except TimeoutError:
            pass  # no news
        finally:
            self._waiting[user_id] -= 1
            self._waiting += Counter()  # drops those that are zero
        return found

    async def _look(self, user_id: str) -> tuple[asyncio.Event, Prompts]:
        change = self._attendants.change_of(user_id)
        prompts = await self._attendants.prompts(user_id)
        return change, Prompts(prompts, tag_of(prompts))
