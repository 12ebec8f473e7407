"""Passes GET or POST / with code and state to control.complete_authorization; a page of its own shows the result."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import parse_qs, urlsplit

from aiohttp import web

from bridge.advice.diagnosis import Diagnosis
from bridge.advice.provider import REGISTRATION
from bridge.clock import Clock
from bridge.config import console
from bridge.control.contract import Control, ProtocolCheck, SignInStarted, Visitors
from bridge.control.redirect import accepted, fields_of
from bridge.errors import (
    AuthorizationFailed,
    BridgeError,
    LoginRefused,
    ProviderNotAsked,
    ProviderRefused,
    ProviderUnavailable,
    SignInUnsaved,
    StoreCorrupt,
    StoreUnavailable,
    UpstreamRefused,
    UpstreamUnavailable,
)
from bridge.model import WaitingProgram
from bridge.observe.logs import event, report
from bridge.ui.i18n import forwarding, say, tell, tell_problem
from bridge.ui.web import guards
from bridge.ui.web.expiring import Expiring
from bridge.ui.web.rendering import FORGET, form_page, not_found, once_more, page, see_other, sign_in_over
from bridge.ui.web.waiting_programs import only_own, sentence, shown_programs, waiting_programs_of, with_password

RESULTS = 100
RESULT_SECONDS = 600.0
"""Long enough to call somebody over and to reload the page in front of them."""

_ERRORS = {**REGISTRATION, "access_denied": "oauth.declined"}
"""Rows of the table of advice, by the provider's error code."""

REMEMBERED = 1000
REMEMBERED_SECONDS = 3600.0
"""Longer than a sign-in may take: somebody who comes back too late still gets a link to try again."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a sign-in ended; done.html has the words for each kind."""

    kind: str
    """ready, denied, wrong_person, failed, unavailable, registration, mail_server, mailbox, unsaved, store or other."""
    address: str
    """Empty where a sign-in that we did not begin has failed."""
    detail: str
    """English; `diagnosis` is told in the reader's language."""
    diagnosis: Diagnosis | None = None
    checks: tuple[ProtocolCheck, ...] = ()
    """How the mail servers answered with the new sign-in."""
    may_keep: bool = False
    """This browser brought back the sign-in, so the person in front of it may say which program's password is kept on
    first use. A device code may have been entered by somebody other than the person who asked for it."""
    is_asked: bool = False
    """The page asks whose password it is; until that is answered, the mail program cannot log in."""
    kept: str = ""
    """The program whose password was kept, in words."""


class Callback:
    """The redirect target."""

    def __init__(self, control: Control, clock: Clock, visitors: Visitors, forms: guards.Forms) -> None:
        self._control = control
        self._visitors = visitors
        self._forms = forms
        self._results: Expiring[Outcome] = Expiring(clock, limit=RESULTS, life=RESULT_SECONDS)
        self._addresses: Expiring[str] = Expiring(clock, limit=REMEMBERED, life=REMEMBERED_SECONDS)
        self._under_way: dict[frozenset[tuple[str, str]], asyncio.Future[str | ProviderNotAsked]] = {}
        """By all parameters, including the code: somebody who knows only the state gets no result."""

    def remember(self, started: SignInStarted, owner: str = "") -> None:
        """Remember whose sign-in this is, by the state in its URL, which comes back even if it fails. `owner` began
        it."""
        for state in parse_qs(urlsplit(started.url).query).get("state", [])[:1]:
            self._addresses.add(state, started.address, owner)

    @staticmethod
    def is_callback(request: web.Request) -> bool:
        """True if the query of `/` is a provider's answer, not a request for the start page."""
        names = {name for name, _ in fields_of(request.raw_path.partition("?")[2]) or []}
        return not names.isdisjoint({"code", "error", "state"})

    async def get(self, request: web.Request) -> web.StreamResponse:
        """The parameters came in the URL. HEAD is somebody's link check, not a person's browser."""
        if request.method != "GET":
            return not_found()
        if not guards.is_shown(request):
            return once_more(request)
        return await self._complete(request, fields_of(request.raw_path.partition("?")[2]))

    async def post(self, request: web.Request) -> web.StreamResponse:
        """The parameters came as a form (response_mode=form_post), sent by the provider's page: so the state, and not
        the origin, decides whether it is accepted."""
        return await self._complete(request, await guards.form_fields(request))

    async def _complete(self, request: web.Request, fields: list[tuple[str, str]] | None) -> web.StreamResponse:
        parameters = accepted(fields)
        return _stateless(fields) if parameters is None else await self.complete(request, parameters)

    async def complete(self, request: web.Request, parameters: Mapping[str, str]) -> web.StreamResponse:
        """Finish the sign-in that these belong to; the answer leads to the page with the result.

        That may take half a minute: a page that is reloaded meanwhile makes the same request, and gets the same answer.
        If the code could not be sent to the provider, the answer is no redirect: this page is to be reloaded.
        """
        key = frozenset(parameters.items())
        end: str | ProviderNotAsked = ""
        if (known := self._under_way.get(key)) is not None:
            end = await asyncio.shield(known)
        else:
            known = asyncio.get_running_loop().create_future()
            self._under_way[key] = known
            try:
                end = await self._completed(request, parameters)
            finally:
                del self._under_way[key]
                known.set_result(end)
        if isinstance(end, ProviderNotAsked):
            return page("problem.html", 503, kind="reload", detail=tell_problem(end))
        if end:
            response = see_other(end)
            response.headers.update(FORGET)
            return response
        return sign_in_over(sign_in_path(self._addresses.get(parameters["state"]) or ""))

    async def _completed(self, request: web.Request, parameters: Mapping[str, str]) -> str | ProviderNotAsked:
        """The path of the page with the result; empty if no such sign-in is under way; or the reason why it still
        is."""
        address = self._addresses.get(parameters["state"]) or ""
        try:
            address = await self._control.complete_authorization(parameters)
            outcome = Outcome("ready", address, "", checks=await self.checks(address), may_keep=True)
            outcome = await self._keep_own(request, outcome)
        except ProviderNotAsked as problem:
            return problem
        except BridgeError as problem:
            if isinstance(problem, AuthorizationFailed) and problem.code in {"unknown_state", "expired"}:
                return ""
            outcome = Outcome(_kind(problem), address, str(problem), problem.diagnosis)
        return self.result(outcome, guards.user_of(request))

    async def _keep_own(self, request: web.Request, outcome: Outcome) -> Outcome:
        """The usual case of first-use: only the person's own mail program has asked, and its password is kept."""
        choice = with_password(await waiting_programs_of(self._visitors, outcome.address, request))
        own = only_own(choice)
        if own is not None:
            try:
                return await self._kept(outcome, own)
            except BridgeError as problem:  # the sign-in is stored all the same; the page asks, if it still can
                report("console.password_not_kept", problem, account=outcome.address)
        return replace(outcome, is_asked=bool(choice))

    async def _kept(self, outcome: Outcome, program: WaitingProgram) -> Outcome:
        await self._visitors.keep(outcome.address, program.key)
        return replace(outcome, kept=sentence(program))

    async def keep(self, request: web.Request) -> web.StreamResponse:
        """The person who has signed in says which program is theirs; only this browser knows the page's name."""
        name = request.match_info["name"]
        outcome = self._results.get(name)
        fields = await self._forms.sent(request)
        if outcome is None:
            return sign_in_over()
        if not outcome.may_keep:
            return not_found()
        if fields is None:
            return await self._result_page(request, outcome, 403, problem=guards.AGAIN.told(say))
        status, problem = await self._keep_chosen(request, name, outcome, fields.get("program", ""))
        after = self._results.get(name) or outcome
        if after.kept:  # by this request, or by the same one a moment before, if the button was pressed twice
            return see_other(f"/done/{name}")
        return await self._result_page(request, replace(outcome, is_asked=True), status, problem=problem)

    async def _keep_chosen(self, request: web.Request, name: str, outcome: Outcome, key: str) -> tuple[int, str]:
        """Returns: the page's status, and what to say on it if nothing was kept and there is a choice."""
        try:
            choice = with_password(await shown_programs(self._visitors, outcome.address, request))
            chosen = next((one for one in choice if one.key == key), None)
            if chosen is not None:
                self._results.add(name, await self._kept(outcome, chosen), guards.user_of(request))
                return 200, ""
        except BridgeError as problem:
            return 503, tell_problem(problem)
        return (400, say("Please choose one of the programs.")) if choice else (503, "")

    def result(self, outcome: Outcome, owner: str) -> str:
        """The path of a page that shows this for a while, under a name that only this browser, of `owner`, learns."""
        event("console.sign_in_returned", outcome=outcome.kind, account=outcome.address)
        name = secrets.token_urlsafe(16)
        self._results.add(name, outcome, owner)
        return f"/done/{name}"

    async def checks(self, address: str) -> tuple[ProtocolCheck, ...]:
        """What the bridge found when it tried the mailbox; a page without it is better than none."""
        try:
            status = await self._control.status()
        except BridgeError:
            return ()
        return next((account.checks for account in status.accounts if account.address == address), ())

    async def done(self, request: web.Request) -> web.StreamResponse:
        """What happened; the page may be reloaded until it expires."""
        outcome = self._results.get(request.match_info["name"])
        if outcome is None:
            return sign_in_over()
        return await self._result_page(request, outcome)

    async def _choice(self, request: web.Request, outcome: Outcome) -> tuple[Sequence[WaitingProgram], str]:
        """The programs whose password may be kept; and, if the question is still open, why there is none any more."""
        if not outcome.may_keep:
            return (), ""
        is_unanswered = outcome.is_asked and not outcome.kept
        try:
            choice = with_password(await shown_programs(self._visitors, outcome.address, request))
            if choice or not is_unanswered:
                return choice, ""
            return (), (await self._visitors.why_none(outcome.address)).told(say)
        except BridgeError as problem:
            report("console.programs_unknown", problem, account=outcome.address)
            return (), tell_problem(problem) if is_unanswered else ""

    async def _result_page(
        self, request: web.Request, outcome: Outcome, status: int = 200, problem: str = ""
    ) -> web.StreamResponse:
        retry = sign_in_path(outcome.address) if outcome.kind not in {"ready", "unsaved"} else ""
        choice, missing = await self._choice(request, outcome)
        fields: dict[str, object] = {
            "problem": problem or missing,
            "kept": outcome.kept,
            "programs": [(program.key, sentence(program), program.is_own) for program in choice],
            "action": request.path,
            "kind": outcome.kind,
            "address": outcome.address,
            "detail": tell(outcome.detail, outcome.diagnosis),
            "forwarding": forwarding(outcome.diagnosis.advice.turn) if outcome.diagnosis is not None else "",
            "retry": retry,
            "checks": [
                (check.protocol, check.is_ok, tell(check.sentence, check.diagnosis), forwarding(check.turn))
                for check in outcome.checks
            ],
        }
        if not choice:
            return page("done.html", status, field="", **fields)
        return form_page(self._forms, request, "done.html", status, **fields)


def _stateless(fields: list[tuple[str, str]] | None) -> web.Response:
    """The answer to parameters without a valid state. Some servers omit the state with an error, and people who come
    from there should read more than "not found": a sentence of our own, with none of the text that came in."""
    given = dict(fields or [])
    row = _ERRORS.get(given.get("error", "")) if "state" not in given else None
    if row is None:
        return not_found()
    return page("problem.html", 404, kind="stateless", detail=tell("", Diagnosis.of(row, given["error"])))


def sign_in_path(address: str) -> str:
    """The page that starts a sign-in; empty for an empty address."""
    return f"/{console.sign_in_path(address)}" if address else ""


def _kind(problem: BridgeError) -> str:
    match problem:
        case AuthorizationFailed(code="denied" | "wrong_person" as code):
            return str(code)
        case AuthorizationFailed() | LoginRefused():
            return "failed"
        case ProviderRefused():
            return "registration"
        case ProviderUnavailable():
            return "unavailable"
        case UpstreamUnavailable():
            return "mail_server"
        case UpstreamRefused():
            return "mailbox"
        case SignInUnsaved():
            return "unsaved"
        case StoreUnavailable() | StoreCorrupt():
            return "store"
    return "other"
