"""The console on 3017: all of its pages, the redirect target and the control interface of one bridge."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from bridge.clock import Clock, SystemClock
from bridge.control.contract import Attendants, InProcess, Visitors
from bridge.control.wire import KEEP_ALIVE
from bridge.secret import Secret
from bridge.ui.web import guards
from bridge.ui.web.accounts import AccountPages
from bridge.ui.web.api import Api
from bridge.ui.web.callback import Callback
from bridge.ui.web.connection import Places
from bridge.ui.web.console_sockets import ConsoleSockets
from bridge.ui.web.events import Events
from bridge.ui.web.examination import CheckPage
from bridge.ui.web.metrics import MetricsPage
from bridge.ui.web.mine import Mine
from bridge.ui.web.pages import Pages
from bridge.ui.web.site import Site
from bridge.ui.web.waiting import Waiting
from bridge.ui.web.welcome import WelcomePage


class Console(Site):
    """The console, the redirect target and the control interface of one bridge.

    Args: hosts and language as in Site. admin_token opens the list of accounts (/admin/TOKEN) and the control interface
    (/api/). administrators, the sessions that are open already, at the end of a first set-up. keep_alive, seconds of
    silence in the stream of notices before an empty line. places, for connections. visitors, what is known of the mail
    programs that want a mailbox. attendants, the same for the trays of the users who run these programs. metrics, the
    text for monitoring.
    """

    def __init__(
        self,
        control: InProcess,
        *,
        admin_token: Secret[str],
        hosts: frozenset[str],
        places: Places,
        language: Callable[[], str],
        visitors: Visitors,
        attendants: Attendants,
        metrics: Callable[[], Awaitable[str]],
        administrators: guards.Administrators | None = None,
        clock: Clock | None = None,
        keep_alive: float = KEEP_ALIVE,
    ) -> None:
        super().__init__(hosts, language, places, attendants.user_of)
        self._control = control
        self._token = admin_token
        self._clock = clock or SystemClock()
        self._keep_alive = keep_alive
        self._metrics = metrics
        self._visitors = visitors
        self._attendants = attendants
        self._administrators = administrators or guards.Administrators(admin_token, self._clock)

    @asynccontextmanager
    async def serving(self, sockets: ConsoleSockets) -> AsyncIterator[None]:
        """Answer at these sockets, which another site may have opened, and close them at the end."""
        control, administrators, hosts = self._control, self._administrators, self._hosts
        forms = guards.Forms(hosts)
        callback = Callback(control, self._clock, self._visitors, forms)
        waiting = Waiting(control, callback, self._clock)
        pages = Pages(control, callback, waiting, administrators, forms, self._clock, self._visitors)
        api = Api(
            control,
            self._token,
            hosts,
            remember=callback.remember,
            issue_ticket=administrators.issue_ticket,
            keep_alive=self._keep_alive,
        )
        events = Events(control, administrators, hosts, self._keep_alive)
        mine = Mine(self._attendants)

        def close() -> None:
            api.close()
            events.close()
            mine.close()

        routes = [
            web.get("/", pages.root),
            web.post("/", callback.post),
            web.get("/done/{name}", callback.done),
            web.post("/done/{name}", callback.keep),
            web.get("/sign-in", pages.choose, allow_head=False),
            web.get("/sign-in/{address:[^/]+}", pages.sign_in, allow_head=False),
            web.post("/sign-in/{address:[^/]+}", pages.begin),
            web.get("/waiting/{name}", waiting.show, allow_head=False),
            web.get("/paste", pages.paste_again, allow_head=False),
            web.post("/paste", pages.paste),
            web.get("/admin/{token}", pages.administrator, allow_head=False),
            *AccountPages(control, administrators, forms, self._clock).routes(),
            *CheckPage(control, administrators, forms).routes(),
            *WelcomePage(control, administrators, forms).routes(),
            *MetricsPage(self._metrics, hosts).routes(),
            *events.routes(),
            *api.routes(),
            *mine.routes(),
        ]
        async with waiting.running(), self.answering(routes, sockets, close):
            yield
