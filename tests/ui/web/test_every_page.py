"""Every page is looked at: each template, each kind of content that a template can show, each route of the console."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from bridge.errors import (
    AuthorizationFailed,
    BridgeError,
    LimitReached,
    ProviderNotAsked,
    ProviderRefused,
    ProviderUnavailable,
    SignInUnsaved,
    StoreUnavailable,
    UpstreamRefused,
    UpstreamUnavailable,
)
from bridge.relay.limits import console_cap
from bridge.secret import Secret
from bridge.ui.web import rendering
from tests.consoles import Console
from tests.fakes_control import FakeControl, state_of
from tests.servers.needed import absent
from tests.ui.web.conftest import TOKEN, Browser
from tests.ui.web.looking import ALICE, LOOKS, PAGES, assert_accessible, visit
from tests.ui.web.looking import browser as browser  # the fixture
from tests.ui.web.looking import chromium as chromium  # the fixture
from tests.ui.web.looking import one_chromium as one_chromium  # the fixture
from tests.ui.web.looking import troubled as troubled  # the fixture

try:
    from playwright.async_api import Browser as Chromium
    from playwright.async_api import Page, Route
except ImportError:  # pragma: no cover
    absent("playwright")

TEMPLATES = {
    "start.html": "start",
    "sign_in.html": "sign-in",
    "leaving.html": "leaving",
    "elsewhere.html": "elsewhere",
    "device.html": "device",
    "done.html": "ready",
    "problem.html": "nowhere",
    "arrived.html": "arrived",
    "accounts.html": "list",
    "account.html": "account",
    "forget.html": "forget",
    "forgotten.html": "forgotten",
    "check.html": "findings",
    "welcome.html": "welcome",
}
"""Each template, and the name in PAGES under which it is looked at."""

SET_UP = {
    f"setup_{step}.html" for step in ("provider", "settings", "accounts", "summary", "start", "stranger", "again")
}
"""Pages from before there is a console: tests/e2e/test_first_run.py looks at each step, test_setup.py at the rest."""

ROUTES = {
    "/": {"start", "list", "found", "ready", "denied"},
    "/done/{name}": {"ready", "denied"},
    "/sign-in": "leads to /sign-in/{address}",
    "/sign-in/{address}": {"sign-in", "leaving", "elsewhere"},
    "/waiting/{name}": {"device"},
    "/paste": {"elsewhere"},
    "/admin/{token}": {"arrived"},
    "/accounts/{address}": {"account"},
    "/accounts/{address}/forget": {"forget", "remove"},
    "/accounts/{address}/{action}": {"password", "rotated", "forgotten"},
    "/check": {"check", "findings"},
    "/welcome": {"welcome"},
    "/setup": "leads to /welcome",
    "/setup/{step}": "leads to /welcome",
    "/events": "a stream",
    "/style.css": "no page",
    "/console.js": "no page",
    "/favicon.ico": "no page",
    "/metrics": "no page",
    "/mine": "no page",
}
"""Each route outside /api/, and the names in PAGES under which it is looked at."""

WRONG_PERSON = AuthorizationFailed("bob@example.com has signed in, not alice@example.com.", code="wrong_person")
ENDED: dict[str, BridgeError | None] = {
    "ready": None,
    "denied": AuthorizationFailed("It was declined.", code="denied"),
    "wrong_person": WRONG_PERSON,
    "failed": AuthorizationFailed("Leave every box ticked.", code="missing_scope"),
    "unavailable": ProviderUnavailable("timed out"),
    "registration": ProviderRefused("AADSTS7000222 secret expired"),
    "mail_server": UpstreamUnavailable("no route"),
    "mailbox": UpstreamRefused("IMAP is disabled"),
    "unsaved": SignInUnsaved("the disk is full"),
    "store": StoreUnavailable("locked keyring"),
    "other": LimitReached("too many"),
}
BEGUN: dict[str, BridgeError | None] = {
    "unknown": None,
    "again": None,
    "unattended": AuthorizationFailed("Nobody signs in for this account.", code="unattended"),
    "registration": ProviderRefused("AADSTS700016 no such app"),
    "unavailable": ProviderUnavailable("timed out"),
}


async def ended(page: Page, base: str, control: FakeControl, kind: str) -> None:
    """Go to the page of a sign-in that has ended like this."""
    state = state_of((await control.begin_authorization(ALICE)).url)
    control.problem = ENDED[kind]
    await page.goto(f"{base}/?code=c&state={state}")


async def begun(page: Page, base: str, control: FakeControl, kind: str) -> None:
    """Go to the page of a sign-in that could not begin."""
    await page.goto(f"{base}/sign-in/{'nobody@example.com' if kind == 'unknown' else ALICE}")
    if kind == "again":
        await page.context.clear_cookies()
    control.problem = BEGUN[kind]
    await page.click("main button:not([name])")


async def broken(page: Page, base: str, control: FakeControl, kind: str) -> None:
    """Go to the page of a request that the console cannot answer as asked."""

    async def too_much(route: Route) -> None:
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        await route.continue_(method="POST", post_data="x" * 70_000, headers=form)

    async def late(route: Route) -> None:
        await route.continue_(method="POST", post_data="form=x")

    match kind:
        case "not_found":
            await page.goto(f"{base}/nowhere")
        case "too_late":
            await page.goto(f"{base}/?code=c&state=of-another-day")
        case "stateless":
            await page.goto(f"{base}/?error=invalid_scope")
        case "reload":
            state = state_of((await control.begin_authorization(ALICE)).url)
            control.problem = ProviderNotAsked("no network")
            await page.goto(f"{base}/?code=c&state={state}")
        case "administrator":
            await page.goto(f"{base}/admin/wrong")
        case "session":
            cookie = f"mail_bridge_admin_{urlsplit(base).port}"
            await page.context.add_cookies([{"name": cookie, "value": "of-yesterday", "url": base}])
            await page.goto(f"{base}/check")
        case "bridge":
            await page.goto(f"{base}/admin/{TOKEN}")
            control.problem = StoreUnavailable("locked keyring")
            await page.goto(f"{base}/accounts/{ALICE}")
        case "too_large":
            await page.route(f"{base}/", too_much)
            await page.goto(f"{base}/")
        case "set_up":
            await page.goto(f"{base}/admin/{TOKEN}")
            await page.route(f"{base}/setup/write", late)
            await page.goto(f"{base}/setup/write")
        case "bug":
            control.bug = RuntimeError("a bug")
            await page.goto(f"{base}/")
            control.bug = None


KINDS: dict[str, tuple[set[str], Callable[[Page, str, FakeControl, str], Awaitable[None]]]] = {
    "done.html": (set(ENDED), ended),
    "sign_in.html": (set(BEGUN), begun),
    "problem.html": (
        {
            "not_found",
            "too_late",
            "stateless",
            "reload",
            "administrator",
            "session",
            "bridge",
            "too_large",
            "bug",
            "set_up",
        },
        broken,
    ),
}


def source(template: str) -> str:
    return resources.files("bridge.ui.web").joinpath(f"templates/{template}").read_text("utf-8")


def test_every_template_is_looked_at() -> None:
    names = {file.name for file in resources.files("bridge.ui.web").joinpath("templates").iterdir()}
    parts = {name for name in names if name.startswith("_") or name in {"base.html", "setup.html"}}
    assert names - parts == TEMPLATES.keys() | SET_UP
    assert set(TEMPLATES.values()) <= PAGES.keys()


def test_every_kind_that_a_template_can_show_is_looked_at() -> None:
    for template, (kinds, _) in KINDS.items():
        text = source(template)
        titles = re.search(r"set titles = {(.*?)}", text, re.DOTALL)
        named = re.findall(r'^\s*"(\w+)":', titles[1], re.MULTILINE) if titles is not None else []
        assert set(named or re.findall(r'problem == "(\w+)"', text)) == kinds, template


def test_nothing_has_a_name_that_has_no_role_for_one() -> None:
    """ARIA 1.2 forbids names for paragraphs and preformatted text; screen readers skip such a name, or read nothing
    else."""
    templates = [file.name for file in resources.files("bridge.ui.web").joinpath("templates").iterdir()]
    named = [
        tag
        for name in templates
        for tag in re.findall(r"<(?:p|pre|div|span|code)\b[^>]* aria-label=[^>]*>", source(name))
    ]
    assert named
    assert [tag for tag in named if " role=" not in tag] == []


class Routed(Console):
    """Keeps the application that it serves."""

    def _application(self, routes: Iterable[web.RouteDef], close: Callable[[], None]) -> web.Application:
        self.application = super()._application(routes, close)
        return self.application


async def test_every_route_is_looked_at(control: FakeControl) -> None:
    console = Routed(control, admin_token=Secret(TOKEN), places=console_cap(), hosts=frozenset())
    async with console.serving([]):
        found = {resource.canonical for resource in console.application.router.resources()}
    assert {path for path in found if not path.startswith("/api/")} == ROUTES.keys()
    looked_at = set().union(*(names for names in ROUTES.values() if isinstance(names, set)))
    assert looked_at == PAGES.keys() - {"nowhere"}


@pytest.mark.browser
@pytest.mark.asyncio(loop_scope="module")
async def test_each_name_shows_the_template_that_it_stands_for(
    chromium: Chromium, browser: Browser, troubled: FakeControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered: list[str] = []
    get_template = rendering._templates().get_template

    def noted(name: str, parent: str | None = None, **more: Any) -> object:
        if parent is None:  # otherwise it is the layout that a page extends
            rendered.append(name)
        return get_template(name, parent, **more)

    monkeypatch.setattr(rendering._templates(), "get_template", noted)
    for template, name in TEMPLATES.items():
        troubled.user_code = ""
        context = await chromium.new_context(locale="en-GB")
        await visit(await context.new_page(), f"http://localhost:{browser.port}", troubled, name)
        assert rendered[-1] == template
        await context.close()


@pytest.mark.browser
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("template", KINDS)
async def test_each_kind_of_a_page_is_accessible(
    chromium: Chromium, browser: Browser, troubled: FakeControl, template: str
) -> None:
    kinds, show = KINDS[template]
    base = f"http://localhost:{browser.port}"
    texts = set()
    for number, kind in enumerate(sorted(kinds)):
        context = await chromium.new_context(**LOOKS[number % 2], locale="en-GB")  # both: test_a_page_is_accessible
        page = await context.new_page()
        await show(page, base, troubled, kind)
        texts.add(await page.inner_text("main"))
        await assert_accessible(page)
        await context.close()
    assert len(texts) == len(kinds)  # each kind has a text of its own
