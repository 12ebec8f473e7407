"""What the console's port serves while there is no configuration: the set-up, and a control interface for the tray."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bridge.control.contract import Control
from bridge.control.wire import KEEP_ALIVE
from bridge.secret import Secret
from bridge.ui.setup.installer import Installer
from bridge.ui.web import guards
from bridge.ui.web.api import Api
from bridge.ui.web.connection import Places, UserOf
from bridge.ui.web.console_sockets import ConsoleSockets
from bridge.ui.web.setup import SetupPages
from bridge.ui.web.site import Site


class FirstRun(Site):
    """The set-up's pages. Its administrators are those of the console that follows."""

    def __init__(
        self,
        installer: Installer,
        control: Control,
        *,
        admin_token: Secret[str],
        hosts: frozenset[str],
        places: Places,
        user_of: UserOf,
        administrators: guards.Administrators,
    ) -> None:
        super().__init__(hosts, lambda: "auto", places, user_of)
        self._installer = installer
        self._control = control
        self._token = admin_token
        self._administrators = administrators

    @asynccontextmanager
    async def serving(self, sockets: ConsoleSockets) -> AsyncIterator[None]:
        """Answer at these sockets, until another site takes them over."""
        pages = SetupPages(self._installer, self._administrators, guards.Forms(self._hosts))
        api = Api(
            self._control,
            self._token,
            self._hosts,
            remember=lambda started: None,
            issue_ticket=self._administrators.issue_ticket,
            keep_alive=KEEP_ALIVE,
        )
        async with self.answering([*api.routes(), *pages.routes()], sockets, api.close):
            yield
