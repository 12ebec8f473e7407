"""Every page, with content to show, and a Chromium that reaches each as a person would."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from bridge.advice.base import Turn
from bridge.advice.diagnosis import Diagnosis
from bridge.advice.said import said
from bridge.control.contract import AccountState, Finding, Leftover, Outcome, ProtocolCheck, SignOut
from tests.fakes_control import FakeControl, state_of
from tests.servers.axe import SERIOUS
from tests.servers.needed import absent
from tests.servers.packages import axe_core, needs, program
from tests.tokens.fakes import HandClock
from tests.ui.web.conftest import TOKEN, Browser, serving

try:
    from playwright.async_api import Browser as Chromium
    from playwright.async_api import Page, async_playwright
except ImportError:  # pragma: no cover
    absent("playwright")

ALICE = "alice@example.com"
SMTP_OFF = Diagnosis.of("mail.smtp_off_mailbox", "535 5.7.139 <no>", mailbox=ALICE)
LEFT = (Leftover("somebody-who-has-left-the-company@subsidiary.example.com", True, True),)
UNREVOKED = Diagnosis.of(
    "sign_out.unrevoked", said("the provider {provider} does not let programs end a sign-in", provider="office365")
)

ADMINISTRATORS = frozenset(
    {"list", "found", "account", "password", "rotated", "forget", "remove", "forgotten", "check", "findings", "welcome"}
)
"""Pages that only a browser sees that has come by the administrator's link."""

PAGES = {
    "start": "Your mail program, signed in",
    "sign-in": "Sign in",
    "leaving": "Going to the sign-in page",
    "elsewhere": "Sign in on another computer",
    "device": "Sign in with a code",
    "ready": "You are signed in",
    "denied": "The sign-in was declined",
    "nowhere": "There is nothing here",
    "arrived": "mail-bridge",
    "list": "Accounts",
    "found": "Accounts",
    "account": ALICE,
    "password": ALICE,
    "rotated": ALICE,
    "forget": "Sign out?",
    "remove": "Remove?",
    "forgotten": "Removed",
    "check": "Check everything",
    "findings": "Check everything",
    "welcome": "First set-up",
}
"""Each page's name in these tests, and its heading."""

LOOKS: list[dict[str, Any]] = [
    {"color_scheme": "light", "viewport": {"width": 1000, "height": 800}},
    {"color_scheme": "dark", "viewport": {"width": 320, "height": 640}},
]

CONTROLS = "document.querySelectorAll('main a, main button, main input:not([type=hidden]), main textarea').length"

FOCUSED = """() => { const one = document.activeElement;
    return one === document.body ? null : [one.closest('main') !== null, one.matches(':focus-visible'),
        getComputedStyle(one).outlineStyle]; }"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def one_chromium() -> AsyncIterator[Chromium]:
    """One Chromium for all tests of a module: its start takes longer than most of them."""
    needs("chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=str(program("chromium")), args=["--no-sandbox"])
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="module")
async def chromium(one_chromium: Chromium) -> AsyncIterator[Chromium]:
    """A Chromium as if just started: each context has its own cookies, cache and pages, and none outlives its test."""
    assert one_chromium.contexts == []
    yield one_chromium
    for context in one_chromium.contexts:
        await context.close()


@pytest_asyncio.fixture(loop_scope="module")
async def browser(control: FakeControl, clock: HandClock) -> AsyncIterator[Browser]:
    """The console, on the same event loop as the pipes to Chromium."""
    async with serving(control, clock) as browser:
        yield browser


@pytest.fixture
def troubled(control: FakeControl) -> FakeControl:
    """A bridge with an example of everything that the pages can show."""
    control.states |= {
        ALICE: AccountState.TROUBLE,
        "bob@example.com": AccountState.READY,
        "carol.with-a-rather-long-name@subsidiary.example.com": AccountState.PENDING,
        "dave@example.com": AccountState.SIGN_IN,
    }
    control.details = {ALICE: SMTP_OFF.told(), "dave@example.com": "Nobody has signed in yet. Please sign in."}
    control.diagnoses = {ALICE: SMTP_OFF}
    failed = ProtocolCheck("smtp", False, Turn.TENANT_ADMIN, SMTP_OFF.told(), SMTP_OFF)
    control.checks[ALICE] = (ProtocolCheck("imap", True), failed)
    control.warnings = (Diagnosis.of("secret.tomorrow", provider="office365"),)
    control.leftovers = LEFT
    control.sign_out = SignOut((UNREVOKED,), was_left=True)
    control.findings += (Finding("firewall", "", Outcome.SKIPPED, "not tried"),)
    return control


async def arrive(page: Page, base: str) -> None:
    """Follow the administrator's link from a page of another site."""
    other = f"http://127.0.0.1:{urlsplit(base).port}/"  # to a browser this is another site than localhost
    link = f'<a href="{base}/admin/{TOKEN}">the console</a>'
    await page.route(other, lambda route: route.fulfill(content_type="text/html", body=link))
    await page.goto(other)
    await page.click("a")


async def until_it_hears(page: Page) -> None:
    """Wait until the page's stream of events is open. (wait_for_function() polls with eval, which our pages' policy
    forbids: it would fail if its first poll came too early.)"""
    await page.evaluate(
        "new Promise(open => source.readyState === EventSource.OPEN ? open() : source.addEventListener('open', open))"
    )


async def visit(page: Page, base: str, control: FakeControl, name: str) -> None:
    """Go to this page as a person would."""
    account = f"{base}/accounts/{ALICE}"
    if name in ADMINISTRATORS:
        await page.goto(f"{base}/admin/{TOKEN}")
    match name:
        case "start":
            await page.goto(base)
        case "arrived":
            await page.route(f"{base}/", lambda route: route.abort("aborted"))
            await arrive(page, base)
            await page.wait_for_selector("main")
        case "sign-in" | "leaving" | "elsewhere" | "device":
            control.user_code = "ABCD-EFGH" if name == "device" else ""
            await page.route("https://login.provider.example/**", lambda route: route.abort("aborted"))
            await page.goto(f"{base}/sign-in/{ALICE}")
            if name == "elsewhere":
                await page.click("button[name=elsewhere]")
            elif name != "sign-in":
                await page.click("main button:not([name])")
        case "ready" | "denied":
            state = state_of((await control.begin_authorization(ALICE)).url)
            await page.goto(f"{base}/?state={state}&{'code=c' if name == 'ready' else 'error=access_denied'}")
        case "nowhere":
            await page.goto(f"{base}/nowhere")
        case "found":
            await page.goto(f"{base}/?find=example")
        case "welcome":
            await page.goto(f"{base}/welcome")
        case "account":
            await page.goto(account)
        case "password" | "rotated":
            await page.goto(account)
            await page.click("button:text('Show it')" if name == "password" else "button:text('Make a new one')")
        case "forget" | "remove" | "forgotten":
            control.leftovers = LEFT
            await page.goto(f"{account if name == 'forget' else f'{base}/accounts/{LEFT[0].address}'}/forget")
            if name == "forgotten":
                await page.click("main button")
        case "check" | "findings":
            await page.goto(f"{base}/check")
            if name == "findings":
                await page.click("main button")


async def assert_accessible(page: Page) -> None:
    """axe-core finds nothing serious, nothing is wider than the screen, and the keyboard reaches everything."""
    await page.evaluate(axe_core().read_text("utf-8"))  # the page's own policy would forbid it as a <script>
    assert await page.evaluate(SERIOUS) == []
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await reach_all(page)


async def reach_all(page: Page) -> None:
    """Reach every control with the Tab key alone; each one shows that it has the focus."""
    reached = 0
    for _ in range(100):
        await page.keyboard.press("Tab")
        focused = await page.evaluate(FOCUSED)
        if focused is None:  # the focus has gone round once
            break
        assert focused[1:] == [True, "solid"]
        reached += focused[0]
    assert reached == await page.evaluate(CONTROLS)
