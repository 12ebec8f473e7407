"""Start page, list of accounts, sign-in page."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from bridge.clock import Clock
from bridge.control.contract import AccountState, AccountStatus, InProcess, SignInStarted, StartPage, Status, Visitors
from bridge.control.redirect import pasted
from bridge.errors import AuthorizationFailed, BridgeError, LoginRefused, ProviderRefused
from bridge.ui.i18n import say, spoken, tell, tell_problem
from bridge.ui.leftovers import what_is_left
from bridge.ui.web import guards, wording
from bridge.ui.web.accounts import account_path
from bridge.ui.web.callback import Callback, sign_in_path
from bridge.ui.web.rendering import admitted, form_page, not_found, page, see_other
from bridge.ui.web.waiting import Waiting
from bridge.ui.web.waiting_programs import program_lines

ROWS = 40
"""Accounts on one page: below 50 KB even with a long error text for each."""
TEXT_LIMIT = 300
"""Characters of an address in the list."""
DETAIL_LIMIT = 400
"""Characters of a problem in the list: the longest sentence of ours, in French, and some of the provider's words."""
ADDRESS_LIMIT = 254
"""Characters (RFC 5321 section 4.5.3.1.3, without its brackets)."""

GLANCE_SECONDS = 2.0
"""How old the content of the public start page may be, because anybody may request that page, as often as they like,
and many times at once."""

_URGENT_FIRST = (AccountState.TROUBLE, AccountState.SIGN_IN, AccountState.PENDING, AccountState.READY)


@dataclass(frozen=True, slots=True)
class _Row:
    state: str
    word: str
    address: str
    subject: str
    detail: str
    language: str
    """The language of the detail: English if the table of advice has no row for it."""
    account_link: str
    sign_in_link: str


class Pages:
    """The pages that people see, besides the redirect target."""

    def __init__(
        self,
        control: InProcess,
        callback: Callback,
        waiting: Waiting,
        administrators: guards.Administrators,
        forms: guards.Forms,
        clock: Clock,
        visitors: Visitors,
    ) -> None:
        self._control = control
        self._visitors = visitors
        self._callback = callback
        self._waiting = waiting
        self._administrators = administrators
        self._forms = forms
        self._clock = clock
        self._glance: tuple[float, StartPage] | None = None
        self._glancing = asyncio.Lock()

    async def root(self, request: web.Request) -> web.StreamResponse:
        """`/` is the registered redirect target; without a provider's answer in it, it is the start page."""
        if self._callback.is_callback(request):
            return await self._callback.get(request)
        return await self._start(request)

    async def _start(self, request: web.Request) -> web.StreamResponse:
        is_administrator = self._administrators.is_open(request)
        try:
            if not is_administrator:
                start_page = await self._start_page()
                settings = [wording.setting(listener) for listener in start_page.listeners]
                is_over = guards.was_open(request)
                return page("start.html", is_demo=start_page.is_demo, settings=settings, is_over=is_over)
            status = await self._control.status()
        except BridgeError as problem:
            detail = tell_problem(problem) if is_administrator else say(problem.public_text)
            return page("problem.html", 503, kind="bridge", detail=detail)
        settings = [wording.setting(listener) for listener in status.listeners]
        listed = _list_fields(status, request.query.get("page"), request.query.get("find", ""))
        return page(
            "accounts.html",
            bridge=status,
            warnings=[one.told(say) for one in status.warnings],
            settings=settings,
            leftovers=[
                (left.address[:TEXT_LIMIT], what_is_left(left), account_path(left.address))
                for left in status.leftovers[:ROWS]
            ],
            **listed,
        )

    async def _start_page(self) -> StartPage:
        async with self._glancing:  # requests that come while the bridge is asked wait for the same answer
            if self._glance is None or self._clock.monotonic() - self._glance[0] >= GLANCE_SECONDS:
                start_page = await self._control.start_page()
                self._glance = self._clock.monotonic(), start_page
            return self._glance[1]

    async def administrator(self, request: web.Request) -> web.StreamResponse:
        """The administrator's link, or one that works once: from now on this browser shows the list."""
        return admitted(request, self._administrators, "/")

    async def choose(self, request: web.Request) -> web.StreamResponse:
        """The start page's form: leads to the sign-in page of that address."""
        address = request.query.get("address", "").strip()
        return see_other(sign_in_path(address)) if _is_plausible(address) else see_other("/")

    async def sign_in(self, request: web.Request) -> web.StreamResponse:
        """Who should sign in, and a button. It is the same for every address, so as not to reveal which ones exist.
        Only a user who has run a mail program is told that this program has asked for the mailbox."""
        address = request.match_info["address"]
        if not _is_plausible(address):
            return not_found()
        lines = await program_lines(self._visitors, address, request)
        return self._sign_in_page(request, address, programs=lines)

    async def begin(self, request: web.Request) -> web.StreamResponse:
        """The button was pressed.

        The answer is a page that leads on by itself and holds a link, not a redirect: see rendering.HEADERS.
        """
        address = request.match_info["address"]
        if not _is_plausible(address):
            return not_found()
        fields = await self._forms.sent(request)
        if fields is None:
            return self._sign_in_page(request, address, 403, "again")
        try:
            started = await self._control.begin_authorization(address, guards.user_of(request))
        except LoginRefused:
            return self._sign_in_page(request, address, 404, "unknown")
        except AuthorizationFailed as problem:  # an account for which nobody has to sign in
            return self._sign_in_page(request, address, 409, "unattended", tell_problem(problem))
        except ProviderRefused as problem:
            return self._sign_in_page(request, address, 503, "registration", tell_problem(problem))
        except BridgeError as problem:
            return self._sign_in_page(request, address, 503, "unavailable", tell_problem(problem))
        if "elsewhere" in fields and not started.user_code:
            self._callback.remember(started, guards.user_of(request))
            return self._elsewhere_page(request, address=started.address, url=started.url)
        return self._leave(request, started)

    async def paste_again(self, request: web.Request) -> web.StreamResponse:
        """The form alone: after a restart, for example, a browser requests the URL of the form's answer with GET."""
        return self._elsewhere_page(request)

    async def paste(self, request: web.Request) -> web.StreamResponse:
        """Takes the URL at which a browser on another computer has ended."""
        fields = await self._forms.sent(request)
        if fields is None:
            return self._elsewhere_page(request, 403, problem="again")
        try:
            parameters = pasted(fields.get("address", ""))
        except ValueError as problem:
            return self._elsewhere_page(request, 400, problem=say(str(problem)))
        return await self._callback.complete(request, parameters)

    def _elsewhere_page(
        self, request: web.Request, status: int = 200, *, address: str = "", url: str = "", problem: str = ""
    ) -> web.StreamResponse:
        return form_page(self._forms, request, "elsewhere.html", status, address=address, url=url, problem=problem)

    def _leave(self, request: web.Request, started: SignInStarted) -> web.StreamResponse:
        target = urlsplit(started.url)
        if target.scheme not in {"http", "https"} or not target.hostname:
            return self._sign_in_page(
                request,
                started.address,
                503,
                "registration",
                say("The address of the sign-in page is not a web address."),
            )
        if started.user_code:
            return self._waiting.open(started, guards.user_of(request))
        self._callback.remember(started, guards.user_of(request))
        return page("leaving.html", address=started.address, url=started.url, host=target.hostname)

    def _sign_in_page(
        self,
        request: web.Request,
        address: str,
        status: int = 200,
        problem: str = "",
        detail: str = "",
        programs: Sequence[str] = (),
    ) -> web.StreamResponse:
        fields: dict[str, object] = {"address": address, "action": sign_in_path(address), "problem": problem}
        fields |= {"detail": detail, "programs": programs}
        return form_page(self._forms, request, "sign_in.html", status, **fields)


def _is_plausible(address: str) -> bool:
    """True for what may be a user name: our pages must not show a sentence that somebody has put into a link."""
    return 0 < len(address) <= ADDRESS_LIMIT and address.isprintable() and " " not in address


def _list_fields(status: Status, asked: str | None, wanted: str) -> dict[str, Any]:
    """One page of the list, or of the accounts that contain this text; those that need somebody come first."""
    find = wanted.strip()[:ADDRESS_LIMIT]
    found = [
        account for account in status.accounts if find.casefold() in f"{account.address}\n{account.subject}".casefold()
    ]
    ordered = sorted(found, key=lambda account: (_URGENT_FIRST.index(account.state), account.address))
    last = max(1, -(-len(ordered) // ROWS))
    number = min(int(asked), last) if asked and asked.isascii() and asked.isdigit() and len(asked) < 9 else 1
    number = max(number, 1)
    rows = [_row(account) for account in ordered[(number - 1) * ROWS : number * ROWS]]
    numbers = {state: sum(account.state is state for account in ordered) for state in _URGENT_FIRST}
    counts = [(state.value, wording.state_count(state, number)) for state, number in numbers.items() if number]
    has_find = bool(find) or last > 1
    return {"rows": rows, "number": number, "last": last, "counts": counts, "find": find, "has_find": has_find}


def _row(account: AccountStatus) -> _Row:
    return _Row(
        account.state.value,
        wording.state_word(account.state),
        account.address[:TEXT_LIMIT],
        wording.somebody_else(account)[:TEXT_LIMIT],
        tell(account.detail, account.diagnosis)[:DETAIL_LIMIT],
        spoken() if account.diagnosis is not None else "en",
        account_path(account.address),
        sign_in_path(account.address),  # not its sign_in_url: the link stays at the host that the browser is at
    )
