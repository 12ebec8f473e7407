"""Numbers for whoever watches the bridge: anybody on this machine may have them, since they are about nobody."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from bridge.observe.metrics import CONTENT_TYPE
from bridge.ui.web import guards
from bridge.ui.web.rendering import not_found

PATH = "/metrics"


class MetricsPage:
    """One page, and the same answer tells that the bridge lives."""

    def __init__(self, read: Callable[[], str], hosts: frozenset[str]) -> None:
        """`read` gives the page's text; it asks no store, so that it may be asked for again and again."""
        self._read = read
        self._hosts = hosts

    def routes(self) -> list[web.RouteDef]:
        """For the application's router."""
        return [web.get(PATH, self._show)]

    async def _show(self, request: web.Request) -> web.StreamResponse:
        if guards.is_foreign(request, self._hosts):
            return not_found()
        return web.Response(body=self._read().encode(), headers={"Content-Type": CONTENT_TYPE})
