"""Loopback HTTP on 3017 (aiohttp): exact Host, the same headers on each answer, small requests, no URL in any log."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from bridge.clock import Clock, SystemClock
from bridge.control.contract import Control, Visitors
from bridge.control.wire import KEEP_ALIVE
from bridge.observe.logs import fault, trouble
from bridge.secret import Secret
from bridge.ui import i18n
from bridge.ui.web import guards
from bridge.ui.web.accounts import AccountPages
from bridge.ui.web.api import Api
from bridge.ui.web.callback import Callback
from bridge.ui.web.events import Events
from bridge.ui.web.examination import CheckPage
from bridge.ui.web.pages import Pages
from bridge.ui.web.rendering import HEADERS, not_found, page
from bridge.ui.web.waiting import Waiting
from bridge.ui.web.wishing import Nobody

BODY_LIMIT = 64 * 1024
"""Octets of a request's body: a provider's form, or one call of the control interface."""
HEAD_LIMIT = 32 * 1024
"""Octets of the request line and of each header: a long code, and the cookies that every program on localhost sets."""
KEEP_ALIVE_SECONDS = 75.0
LINGER_SECONDS = 1.0
"""After an answer to a body that nobody wants: what still comes is thrown away for so long, so that the answer can be
read, and no longer: aiohttp's ten seconds are three gigabytes on loopback."""
"""For a browser's next click; longer than control.remote keeps a connection."""
STOP_SECONDS = 5.0
"""For answers under way when the console stops."""

_silent = logging.getLogger("bridge.ui.web.http")
_silent.disabled = True  # aiohttp's own lines quote the request that it could not read, with the code in it


class Console:
    """The console, the redirect target and the control interface of one bridge.

    Args: hosts, the exact values of the Host header that mean this console, such as `localhost:3017`; anything else
    gets an empty 404. admin_token opens the list of accounts (/admin/TOKEN) and the control interface (/api/).
    keep_alive, seconds of silence in the stream of notices before an empty line. language, the configured one (en, fr
    or auto), asked for each request since the configuration may change. visitors, what is known of the mail
    programs that want a mailbox.
    """

    def __init__(
        self,
        control: Control,
        *,
        admin_token: Secret[str],
        hosts: frozenset[str],
        clock: Clock | None = None,
        keep_alive: float = KEEP_ALIVE,
        language: Callable[[], str] = lambda: "auto",
        visitors: Visitors | None = None,
    ) -> None:
        self._control = control
        self._token = admin_token
        self._hosts = frozenset(host.lower() for host in hosts)
        self._clock = clock or SystemClock()
        self._keep_alive = keep_alive
        self._language = language
        self._visitors = visitors or Nobody()

    @asynccontextmanager
    async def serving(self, sockets: Sequence[socket.socket]) -> AsyncIterator[None]:
        """Answer on these listening sockets, which are closed at the end."""
        forms = guards.Forms(self._hosts)
        callback = Callback(self._control, self._clock, self._visitors, forms)
        waiting = Waiting(self._control, callback, self._clock)
        async with waiting.running(), self._answering(self._application(callback, waiting, forms), sockets):
            yield

    @asynccontextmanager
    async def _answering(self, application: web.Application, sockets: Sequence[socket.socket]) -> AsyncIterator[None]:
        runner = web.AppRunner(application, shutdown_timeout=STOP_SECONDS)
        servers: list[asyncio.Server] = []
        try:
            await runner.setup()
            manager = runner.server
            assert manager is not None  # noqa: S101  set up just now
            loop = asyncio.get_running_loop()
            for sock in sockets:
                # Not aiohttp's own site: only so can answers to what is no HTTP have our headers and no echo.
                servers.append(await loop.create_server(lambda: _connection(manager, loop), sock=sock))
            yield
        finally:
            for server in servers:
                server.close()
            for sock in sockets[len(servers) :]:
                sock.close()
            await runner.cleanup()

    def _application(self, callback: Callback, waiting: Waiting, forms: guards.Forms) -> web.Application:
        administrators = guards.Administrators(self._token, self._clock)
        pages = Pages(self._control, callback, waiting, administrators, forms, self._clock, self._visitors)
        accounts = AccountPages(self._control, administrators, forms, self._clock)
        api = Api(
            self._control,
            self._token,
            self._hosts,
            remember=callback.remember,
            issue_ticket=administrators.issue_ticket,
            keep_alive=self._keep_alive,
        )
        events = Events(self._control, administrators, self._hosts, self._keep_alive)
        application = web.Application(
            middlewares=[self._speak, self._supervise, self._admit], client_max_size=BODY_LIMIT
        )
        application.on_response_prepare.append(_add_headers)
        application.on_shutdown.append(_closer(api, events))
        application.add_routes(
            [
                web.get("/", pages.root),
                web.post("/", callback.post),
                web.get("/done/{name}", callback.done),
                web.post("/done/{name}", callback.keep),
                web.get("/sign-in", pages.choose, allow_head=False),
                web.get("/sign-in/{address}", pages.sign_in, allow_head=False),
                web.post("/sign-in/{address}", pages.begin),
                web.get("/waiting/{name}", waiting.show, allow_head=False),
                web.post("/paste", pages.paste),
                web.get("/admin/{token}", pages.administrator, allow_head=False),
                web.get("/style.css", pages.style),
                web.get("/console.js", pages.script),
                web.get("/favicon.ico", pages.icon),
                *events.routes(),
                *accounts.routes(),
                *CheckPage(self._control, administrators, forms).routes(),
                *api.routes(),
            ]
        )
        return application

    @web.middleware
    async def _speak(self, request: web.Request, handler: guards.Handler) -> web.StreamResponse:
        i18n.speak(i18n.choose(self._language(), request.headers.get("Accept-Language", "")))
        return await handler(request)

    @web.middleware
    async def _supervise(self, request: web.Request, handler: guards.Handler) -> web.StreamResponse:
        """Whatever goes wrong gets a page of ours and a line that names the route, not the URL."""
        try:
            return await handler(request)
        except web.HTTPException as refusal:
            if refusal.status == 413:
                return page("problem.html", 413, kind="too_large", detail="")
            return not_found()  # no route, or not with this method
        except ConnectionError:
            raise  # the client has gone: aiohttp closes its side
        except Exception as error:  # noqa: BLE001  the supervisor of all handlers: one request fails, not the console
            resource = request.match_info.route.resource
            fault("console.request_failed", error=error, route=resource.canonical if resource else "")
            return page("problem.html", 500, kind="bug", detail="")

    @web.middleware
    async def _admit(self, request: web.Request, handler: guards.Handler) -> web.StreamResponse:
        if not guards.is_ours(request, self._hosts) or guards.is_ahead(request):
            return web.Response(status=404)
        return await handler(request)


class _Connection(web.RequestHandler):
    """aiohttp's connection; what it could not read is neither sent back nor logged."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """An empty answer: `exc` and `message` quote the request line."""
        trouble("console.request_unreadable", status=status, problem=type(exc).__name__)
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun already")  # as aiohttp does: there is no second one
        response = web.Response(status=status, headers=HEADERS)
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """The kind of the error, without its text."""
        error = kw.get("exc_info")
        trouble("console.connection_failed", problem=type(error).__name__)


def _connection(manager: web.Server, loop: asyncio.AbstractEventLoop) -> _Connection:
    options: dict[str, Any] = {"access_log": None}  # URLs hold codes; aiohttp's types do not know its own None
    return _Connection(
        manager,
        loop=loop,
        logger=_silent,
        keepalive_timeout=KEEP_ALIVE_SECONDS,
        lingering_time=LINGER_SECONDS,
        max_line_size=HEAD_LIMIT,
        max_field_size=HEAD_LIMIT,
        auto_decompress=False,  # a small body cannot become a large one
        **options,
    )


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)


def _closer(api: Api, events: Events) -> Callable[[web.Application], Awaitable[None]]:
    async def close(application: web.Application) -> None:
        api.close()
        events.close()

    return close
