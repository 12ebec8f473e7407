"""Loopback HTTP (aiohttp): exact Host, the same headers on each answer, small requests, no URL in any log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from bridge.observe.logs import fault, trouble
from bridge.shortage import lacking, places
from bridge.threads import NoThread
from bridge.ui import i18n
from bridge.ui.web import guards
from bridge.ui.web.connection import HEAD_LIMIT, ROOM, Connection, Places, UserOf
from bridge.ui.web.console_sockets import ConsoleSockets
from bridge.ui.web.rendering import HEADERS, ICON, SCRIPT, STYLE, not_found, once_more, page, worker_that_ends
from bridge.ui.web.turns import Turns

BODY_LIMIT = 64 * 1024
"""Octets of a request's body: a provider's form, or one call of the control interface."""
PARTS = 8
"""Parts of a path; no page of ours has more than three. For each part aiohttp's router does a lookup and copies the
rest of the path: for a head full of slashes that took a second, in which the loop served nobody else."""
KEEP_ALIVE_SECONDS = 75.0
"""For a browser's next click; longer than control.remote keeps a connection."""
LINGER_SECONDS = 1.0
"""After an answer to a request whose body is unwanted, incoming data is discarded for this long, so that the client can
read the answer; no longer, because aiohttp's default of ten seconds would be three gigabytes on loopback."""
STOP_SECONDS = 5.0
"""For answers under way when the console stops."""

_silent = logging.getLogger("bridge.ui.web.http")
_silent.disabled = True  # aiohttp's own log lines quote a request that it could not parse, with the code in it


Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Site:
    """What all our sites for browsers have in common.

    Args: hosts, the exact values of the Host header that mean this site, such as `localhost:3017`; anything else gets
    an empty 404. language, the configured one (en, fr or auto), asked for each request since it may change. places, for
    connections. user_of, for their shares, and for guards.user_of.
    """

    def __init__(self, hosts: frozenset[str], language: Callable[[], str], places: Places, user_of: UserOf) -> None:
        self._hosts = frozenset(host.lower() for host in hosts)
        self._language = language
        self._places = places
        self._user_of = user_of
        self._has_moved = False
        self._turns = Turns()
        self._room = memoryview(bytearray(ROOM))

    @asynccontextmanager
    async def answering(
        self, routes: Iterable[web.RouteDef], sockets: ConsoleSockets, close: Callable[[], None]
    ) -> AsyncIterator[None]:
        """Serve the connections of these sockets from now on; `close` ends answers that would not end by themselves.

        They are closed at the end, unless they lead to another site by then.
        """
        runner = web.AppRunner(self._application(routes, close), shutdown_timeout=STOP_SECONDS)
        try:
            await runner.setup()
            manager = runner.server
            assert manager is not None  # noqa: S101  set up just now
            manager.request_handler = self._before_routing(manager.request_handler)
            loop = asyncio.get_running_loop()
            sockets.lead_to(self, lambda: self._connection(manager, loop))
            await sockets.open()
            yield
        finally:
            sockets.close(self)
            await runner.cleanup()

    def _connection(self, manager: web.Server, loop: asyncio.AbstractEventLoop) -> Connection:
        options: dict[str, Any] = {"access_log": None}  # URLs hold codes; aiohttp's types do not know its own None
        return Connection(
            manager,
            loop=loop,
            places=self._places,
            user_of=self._user_of,
            turns=self._turns,
            room=self._room,
            too_long=self._too_long,
            logger=_silent,
            keepalive_timeout=KEEP_ALIVE_SECONDS,
            lingering_time=LINGER_SECONDS,
            max_line_size=HEAD_LIMIT,
            max_field_size=HEAD_LIMIT,
            auto_decompress=False,  # a small body cannot become a large one
            **options,
        )

    def _too_long(self) -> web.Response:
        """A browser's only header of that length has the cookies. Which language it wants is not known. In plain text,
        because it would ask for a page's style with the same cookies."""
        i18n.speak(i18n.choose(self._language(), ""))
        text = i18n.say(
            "Your browser also sends the cookies of all other programs on this computer, and they have become too "
            "many. Nothing has changed. Please delete the cookies of localhost (and of 127.0.0.1) in this browser, or "
            "use a private window; then reload this page, or start the sign-in again."
        )
        return web.Response(status=400, text=text)

    def _before_routing(self, answer: Answer) -> Answer:
        """Answer each request in its turn, and without routing where no page can match."""

        async def answered(request: web.BaseRequest) -> web.StreamResponse:
            await self._turns.mine()
            if isinstance(request.protocol, Connection):
                request.protocol.request_has_begun()
            if request.raw_path.partition("?")[0].count("/") > PARTS:
                return web.Response(status=404, headers=HEADERS)
            return await answer(request)

        return answered

    def hand_over(self) -> None:
        """Another site has these sockets now: requests on connections that we still have are redirected to it."""
        self._has_moved = True

    def _application(self, routes: Iterable[web.RouteDef], close: Callable[[], None]) -> web.Application:
        async def end(application: web.Application) -> None:
            close()

        application = web.Application(
            middlewares=[self._speak, self._supervise, self._admit], client_max_size=BODY_LIMIT
        )
        application.on_response_prepare.append(_add_headers)
        application.on_shutdown.append(end)
        application.add_routes([*_STATIC, *routes])
        return application

    @web.middleware
    async def _speak(self, request: web.Request, handler: guards.Handler) -> web.StreamResponse:
        i18n.speak(i18n.choose(self._language(), request.headers.get("Accept-Language", "")))
        return await handler(request)

    @web.middleware
    async def _supervise(self, request: web.Request, handler: guards.Handler) -> web.StreamResponse:
        """Turns every error into a page of ours and a log line that names the route, not the URL."""
        try:
            return await handler(request)
        except web.HTTPException as refusal:
            refusal.__traceback__ = None  # aiohttp keeps it with the request, which its frames hold: a reference cycle
            if refusal.status == 413:
                return page("problem.html", 413, kind="too_large", detail="")
            return not_found()  # no route, or not with this method
        except ConnectionError:
            raise  # the client has gone: aiohttp closes its side
        except Exception as error:  # noqa: BLE001  the supervisor of all handlers: one request fails, not the console
            resource = request.match_info.route.resource
            route = resource.canonical if resource else ""
            told = error.said if isinstance(error, NoThread) else lacking(error)
            if told is not None:  # such as an import that the first visitor causes
                trouble("console.request_failed", reason=str(told), places=places(error), route=route)
                return page("problem.html", 503, kind="bridge", detail=told.told(i18n.say))
            fault("console.request_failed", error=error, route=route)
            return page("problem.html", 500, kind="bug", detail="")

    @web.middleware
    async def _admit(self, request: web.Request, handler: guards.Handler) -> web.StreamResponse:
        if not guards.is_ours(request, self._hosts) or guards.is_ahead(request):
            return web.Response(status=404)
        if "Service-Worker" in request.headers:
            return worker_that_ends()
        request[guards.TURNS] = self._turns
        if isinstance(request.protocol, Connection):
            request[guards.USER] = request.protocol.user_id
        is_path = not request.raw_path.startswith("//")  # which would name another host
        if is_path and request.method == "POST" and not guards.is_shown(request):
            return once_more(request)
        if is_path and self._has_moved:
            return _same_again(request)
        return await handler(request)


def _same_again(request: web.Request) -> web.Response:
    """Have the browser repeat the request, with the same method, on a new connection: it keeps several, and uses
    any."""
    response = web.Response(status=307, headers={"Location": request.raw_path})
    response.force_close()
    return response


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)


def _file(text: str, content_type: str) -> guards.Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(text=text, content_type=content_type, charset="utf-8")

    return answer


_STATIC = (
    web.get("/style.css", _file(STYLE, "text/css")),
    web.get("/console.js", _file(SCRIPT, "text/javascript")),  # every page works without it
    web.get("/favicon.ico", _file(ICON, "image/svg+xml")),  # browsers request it by themselves
)
