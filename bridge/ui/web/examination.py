"""/check, for the administrator: a button tries everything that mail has to pass; one row for each finding."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from aiohttp import web

from bridge.control.contract import Control, Finding, Outcome
from bridge.errors import BridgeError
from bridge.ui.checks import check_name, outcome_word
from bridge.ui.i18n import say, tell_problem
from bridge.ui.web import guards, wording
from bridge.ui.web.rendering import for_administrators, form_page

_WORST_FIRST = (Outcome.FAILED, Outcome.WARNING, Outcome.OK, Outcome.SKIPPED)


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table."""

    outcome: str
    word: str
    check: str
    subject: str
    sentence: str
    turn: str
    """Empty where nobody has to act."""


class CheckPage:
    """Runs one examination at a time, because each asks the providers for tokens."""

    def __init__(self, control: Control, administrators: guards.Administrators, forms: guards.Forms) -> None:
        self._control = control
        self._administrators = administrators
        self._forms = forms
        self._busy = asyncio.Lock()

    def routes(self) -> list[web.RouteDef]:
        """For the application's router."""
        ask, run = (for_administrators(self._administrators, handler) for handler in (self.ask, self.run))
        return [web.get("/check", ask, allow_head=False), web.post("/check", run)]

    async def ask(self, request: web.Request) -> web.StreamResponse:
        """An explanation and a button: opening the page alone sends nothing to a provider."""
        return self._page(request)

    async def run(self, request: web.Request) -> web.StreamResponse:
        """Answers within a minute, when everything was tried."""
        if await self._forms.sent(request) is None:
            return self._page(request, 403, problem=guards.AGAIN.told(say))
        if self._busy.locked():
            return self._page(request, 409, problem=say("A check is already under way. Please try again in a minute."))
        async with self._busy:
            try:
                findings = await self._control.diagnose()
            except BridgeError as problem:  # the bridge is in another process, and has gone
                return self._page(request, 503, problem=tell_problem(problem))
        return self._page(request, findings=findings)

    def _page(
        self, request: web.Request, status: int = 200, *, problem: str = "", findings: tuple[Finding, ...] = ()
    ) -> web.StreamResponse:
        return form_page(self._forms, request, "check.html", status, problem=problem, rows=findings_of(findings))


def findings_of(findings: tuple[Finding, ...]) -> list[Row]:
    """The table's rows, the worst first."""
    return [_row(finding) for finding in sorted(findings, key=lambda one: _WORST_FIRST.index(one.outcome))]


def _row(finding: Finding) -> Row:
    return Row(
        finding.outcome.value,
        outcome_word(finding.outcome),
        check_name(finding.check),
        finding.subject,
        finding.told(say),
        wording.turn_word(finding.turn) if wording.must_act(finding) else "",
    )
