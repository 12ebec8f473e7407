"""/accounts/ADDRESS, for the administrator: what is wrong and who must act, settings to copy, password, sign out."""

from __future__ import annotations

from functools import partial
from typing import Literal
from urllib.parse import quote

from aiohttp import web

from bridge.clock import Clock
from bridge.control.contract import AccountStatus, Control, Leftover, Status
from bridge.errors import BridgeError, LoginRefused
from bridge.model import PASSWORD_OVERLAP
from bridge.observe.logs import event
from bridge.secret import Secret
from bridge.ui.i18n import forwarding, say, spoken, tell, tell_problem
from bridge.ui.leftovers import removed
from bridge.ui.web import guards, wording
from bridge.ui.web.callback import sign_in_path
from bridge.ui.web.rendering import for_administrators, form_page, not_found, page, see_other

Action = Literal["password", "rotate", "check", "forget"]


class AccountPages:
    """One account's page and its buttons. Everybody but administrators gets the answer of a page that does not
    exist."""

    def __init__(
        self, control: Control, administrators: guards.Administrators, forms: guards.Forms, clock: Clock
    ) -> None:
        self._control = control
        self._administrators = administrators
        self._forms = forms
        self._clock = clock

    def routes(self) -> list[web.RouteDef]:
        """For the application's router."""
        own = partial(for_administrators, self._administrators)
        return [
            web.get("/accounts/{address:[^/]+}", own(self._page), allow_head=False),
            web.get("/accounts/{address:[^/]+}/forget", own(self.ask_to_forget), allow_head=False),
            web.post("/accounts/{address:[^/]+}/{action:password|rotate|check|forget}", own(self.act)),
            web.get("/accounts/{address:[^/]+}/{action:password|rotate|check}", own(self.again), allow_head=False),
        ]

    async def ask_to_forget(self, request: web.Request) -> web.StreamResponse:
        """Asks for confirmation, because we cannot undo a sign-out."""
        return await self._page(request, template="forget.html")

    async def again(self, request: web.Request) -> web.StreamResponse:
        """GET for the URL of a button's answer: a browser requests it without the form after a restart, for a discarded
        tab, and from its address bar."""
        return see_other(account_path(request.match_info["address"]))

    async def act(self, request: web.Request) -> web.StreamResponse:
        """A button was pressed. A password is in the answer itself, never at a URL of its own."""
        action: Action = request.match_info["action"]  # type: ignore[assignment]  # the route allows no other
        fields = await self._forms.sent(request)
        if fields is None:
            return await self._page(request, 403, problem=guards.AGAIN.told(say))
        if action in {"password", "rotate", "forget"} and not self._administrators.is_fresh(request):
            return await self._page(request, 403, is_stale=True)
        address = request.match_info["address"]
        try:
            return await self._do(request, action, address, at_once="at_once" in fields)
        except LoginRefused:
            return not_found()
        except BridgeError as problem:
            turn = forwarding(problem.diagnosis.advice.turn) if problem.diagnosis is not None else ""
            return await self._page(request, 503, problem=tell_problem(problem), forward=turn)

    async def _do(self, request: web.Request, action: Action, address: str, *, at_once: bool) -> web.StreamResponse:
        match action:
            case "password":
                password = await self._control.local_password(address)
                event("console.local_password_shown", account=address)
                return await self._page(request, password=password)
            case "rotate":
                password = await self._control.rotate_local_password(address, at_once=at_once)
                event("console.local_password_rotated", account=address, at_once=at_once)
                until = "" if at_once else wording.moment(self._clock.now() + PASSWORD_OVERLAP)
                return await self._page(request, password=password, is_new=True, until=until)
            case "check":
                await self._control.check_account(address)
            case "forget":
                return await self._forget(address)
        return see_other(account_path(address))

    async def _forget(self, address: str) -> web.StreamResponse:
        """Shows a page of its own if there is something to report: grants that may still be valid at the provider."""
        done = await self._control.forget(address)
        # An account of a `*@domain` line is not in the status any more once it is signed out.
        is_there = _find(await self._control.status(), address) is not None
        if not done.unrevoked:
            return see_other(account_path(address) if is_there else "/")
        return page(
            "forgotten.html",
            address=address,
            path=account_path(address) if is_there else "",
            is_left=done.was_left,
            sentence=removed(address, done),
            unrevoked=[one.told(say) for one in done.unrevoked],
        )

    async def _page(
        self,
        request: web.Request,
        status: int = 200,
        *,
        template: str = "account.html",
        password: Secret[str] | None = None,
        is_new: bool = False,
        until: str = "",
        problem: str = "",
        forward: str = "",
        is_stale: bool = False,
    ) -> web.StreamResponse:
        try:
            bridge = await self._control.status()
        except BridgeError as trouble:
            return page("problem.html", 503, kind="bridge", detail=tell_problem(trouble))
        address = request.match_info["address"]
        account, left = _find(bridge, address), _find_left(bridge, address)
        if account is None and left is not None and (template == "forget.html" or status != 200):
            fields: dict[str, object] = {"address": left.address, "path": account_path(left.address), "is_left": True}
            fields |= {"problem": problem, "forward": forward, "is_stale": is_stale}
            return form_page(self._forms, request, "forget.html", status, **fields)  # its only page
        if account is None:
            return not_found()
        return form_page(
            self._forms,
            request,
            template,
            status,
            **_fields(account),
            is_left=False,
            settings=[wording.setting(listener) for listener in bridge.listeners],
            password="" if password is None else password.reveal(),
            is_new=is_new,
            until=until,
            problem=problem,
            forward=forward,
            is_stale=is_stale,
        )


def account_path(address: str) -> str:
    """The administrator's page about an account."""
    return f"/accounts/{quote(address, safe='@', errors='replace')}"


def _find(bridge: Status, address: str) -> AccountStatus | None:
    return next((account for account in bridge.accounts if account.address.lower() == address.lower()), None)


def _find_left(bridge: Status, address: str) -> Leftover | None:
    return next((left for left in bridge.leftovers if left.address.lower() == address.lower()), None)


def _fields(account: AccountStatus) -> dict[str, object]:
    diagnosis = account.diagnosis
    return {
        "address": account.address,
        "path": account_path(account.address),
        "sign_in": sign_in_path(account.address),
        "state": account.state.value,
        "word": wording.state_word(account.state),
        "sentence": wording.state_sentence(account),
        "subject": account.subject,
        "provider": account.provider,
        "is_signed_in": account.state in wording.SIGNED_IN,
        "detail": tell(account.detail, diagnosis),
        "detail_language": spoken() if diagnosis is not None else "en",
        "detail_forward": forwarding(diagnosis.advice.turn) if diagnosis is not None else "",
        "checks": [wording.check_line(check) for check in account.checks],
    }
