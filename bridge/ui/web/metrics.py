"""Metrics for monitoring: anybody on this machine may read them, since they are about no particular person."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from bridge.observe.metrics import CONTENT_TYPE
from bridge.ui.web import guards
from bridge.ui.web.rendering import not_found

PATH = "/metrics"


class MetricsPage:
    """The page with the metrics; any answer also shows that the bridge is alive."""

    def __init__(self, read: Callable[[], Awaitable[str]], hosts: frozenset[str]) -> None:
        """`read` gives the page's text; it may be called again and again, because it rarely asks the store."""
        self._read = read
        self._hosts = hosts

    def routes(self) -> list[web.RouteDef]:
        """For the application's router."""
        return [web.get(PATH, self._show)]

    async def _show(self, request: web.Request) -> web.StreamResponse:
        if guards.is_foreign(request, self._hosts):
            return not_found()
        return web.Response(body=(await self._read()).encode(), headers={"Content-Type": CONTENT_TYPE})
