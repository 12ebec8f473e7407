"""/welcome, for the administrator, at the end of the first set-up: sign in, and what to type into the mail program."""

from __future__ import annotations

from aiohttp import web

from bridge.control.contract import Control
from bridge.errors import BridgeError
from bridge.ui.i18n import tell_problem
from bridge.ui.web import guards, wording
from bridge.ui.web.accounts import account_path
from bridge.ui.web.callback import sign_in_path
from bridge.ui.web.rendering import for_administrators, form_page, page, see_other

ROWS = 20
"""Mailboxes; the list of accounts shows the others."""


class WelcomePage:
    """The last step of the set-up, which the running bridge itself shows; and what became of the steps before it."""

    def __init__(self, control: Control, administrators: guards.Administrators, forms: guards.Forms) -> None:
        self._control = control
        self._administrators = administrators
        self._forms = forms

    def routes(self) -> list[web.RouteDef]:
        """For the application's router."""
        show, over = (for_administrators(self._administrators, handler) for handler in (self.show, self.over))
        return [
            web.get("/welcome", show, allow_head=False),
            web.get("/setup", over, allow_head=False),
            web.get("/setup/{step:.*}", over, allow_head=False),
            web.post("/setup/{step:.*}", over),
        ]

    async def show(self, request: web.Request) -> web.StreamResponse:
        """The page; it may be opened again at any time."""
        try:
            status = await self._control.status()
        except BridgeError as problem:
            return page("problem.html", 503, kind="bridge", detail=tell_problem(problem))
        rows = [
            (account.address, account_path(account.address), sign_in_path(account.address))
            for account in status.accounts[:ROWS]
        ]
        return form_page(
            self._forms,
            request,
            "welcome.html",
            rows=rows,
            more=max(0, len(status.accounts) - ROWS),
            patterns=status.patterns,
            settings=[wording.setting(listener) for listener in status.listeners],
            file=status.config_file,
        )

    async def over(self, request: web.Request) -> web.StreamResponse:
        """A page of the set-up that was still open in some browser: it has been finished, here or elsewhere."""
        if request.method == "GET" or request.path == "/setup/start":  # it has started by itself meanwhile
            return see_other("/welcome")
        return page("problem.html", 409, kind="set_up", detail="")
