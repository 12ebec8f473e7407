"""Every page in a real Chromium: axe-core finds nothing serious, the keyboard reaches everything, nothing overflows."""

from __future__ import annotations

import pytest

from bridge.notices import Reloaded
from bridge.ui.web import guards
from bridge.ui.web.waiting import PAGE_SECONDS
from tests.fakes_control import FakeControl
from tests.servers.needed import absent
from tests.tokens.fakes import HandClock
from tests.ui.web.conftest import TOKEN, Browser, serving
from tests.ui.web.looking import ALICE, LOOKS, PAGES, arrive, assert_accessible, until_it_hears, visit
from tests.ui.web.looking import browser as browser  # the fixture
from tests.ui.web.looking import chromium as chromium  # the fixture
from tests.ui.web.looking import one_chromium as one_chromium  # the fixture
from tests.ui.web.looking import troubled as troubled  # the fixture

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

try:
    from playwright.async_api import Browser as Chromium
    from playwright.async_api import Page
except ImportError:  # pragma: no cover
    absent("playwright")


async def test_the_administrators_link_on_a_page_of_another_site_shows_the_list(
    chromium: Chromium, browser: Browser, troubled: FakeControl
) -> None:
    base = f"http://localhost:{browser.port}"
    page = await (await chromium.new_context(locale="en-GB")).new_page()
    await arrive(page, base)
    await page.wait_for_url(f"{base}/")
    assert await page.inner_text("h1") == PAGES["list"]


@pytest.mark.parametrize("name", PAGES)
async def test_a_page_is_accessible(chromium: Chromium, browser: Browser, troubled: FakeControl, name: str) -> None:
    for look in LOOKS:
        context = await chromium.new_context(**look, locale="en-GB")
        page = await context.new_page()
        await visit(page, f"http://localhost:{browser.port}", troubled, name)
        assert await page.inner_text("h1") == PAGES[name]
        await assert_accessible(page)
        await context.close()


async def test_the_list_follows_what_happens_and_keeps_the_focus(
    chromium: Chromium, browser: Browser, troubled: FakeControl
) -> None:
    page = await chromium.new_page()
    # Not by the page itself: Chromium reports what Clear-Site-Data has dropped, but loses that report at times.
    signed_in = await page.request.get(f"http://localhost:{browser.port}/admin/{TOKEN}", max_redirects=0)
    assert signed_in.headers["clear-site-data"] == '"cache", "storage"'
    troubles: list[str] = []
    page.on("console", lambda message: troubles.append(message.text))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    await page.goto(f"http://localhost:{browser.port}/")
    await troubled.following.wait()
    link = page.locator("a:text('dave@example.com')")
    await link.focus()
    troubled.completed_elsewhere("dave@example.com")
    await page.wait_for_selector("text=2 ready")
    assert await link.evaluate("one => one === document.activeElement")
    assert troubles == []


async def test_what_somebody_is_about_to_copy_stays_selected(
    chromium: Chromium, browser: Browser, troubled: FakeControl
) -> None:
    page = await chromium.new_page()
    await page.goto(f"http://localhost:{browser.port}/admin/{TOKEN}")
    await until_it_hears(page)
    detail = page.locator(".detail.trouble")
    await detail.select_text()
    for address in ("dave@example.com", "carol.with-a-rather-long-name@subsidiary.example.com"):
        async with page.expect_response("**/"):  # once the second request is answered, the first has had its effect
            troubled.completed_elsewhere(address)
    assert await page.evaluate("getSelection().toString()") == await detail.inner_text()
    await page.evaluate("getSelection().empty()")
    await page.wait_for_selector("text=3 ready")


async def test_a_selection_that_was_forgotten_does_not_keep_the_page_as_it_was(
    chromium: Chromium, browser: Browser, troubled: FakeControl
) -> None:
    """Such as a word that was double-clicked by mistake: a "ready" that is selected may no longer be true."""
    page = await chromium.new_page()
    await page.clock.install()
    await page.goto(f"http://localhost:{browser.port}/admin/{TOKEN}")
    await until_it_hears(page)
    await page.locator(".detail.trouble").select_text()
    for address in ("dave@example.com", "carol.with-a-rather-long-name@subsidiary.example.com"):
        async with page.expect_response("**/"):
            troubled.completed_elsewhere(address)
    assert await page.evaluate("getSelection().isCollapsed") is False
    await page.clock.fast_forward(60_000)
    await page.wait_for_selector("text=3 ready")


async def test_the_page_with_a_password_follows_what_happens_too(
    chromium: Chromium, browser: Browser, control: FakeControl
) -> None:
    page = await chromium.new_page()
    base = f"http://localhost:{browser.port}"
    await visit(page, base, control, "password")
    password = await page.inner_text(".password")
    await until_it_hears(page)
    control.completed_elsewhere(ALICE)
    await page.wait_for_selector("#state:text('Ready')")
    assert await page.inner_text(".password") == password


@pytest.mark.parametrize("path", ["/", f"/accounts/{ALICE}#main"])
async def test_a_page_whose_session_is_over_does_not_go_on_showing_what_it_knew(
    chromium: Chromium, browser: Browser, control: FakeControl, clock: HandClock, path: str
) -> None:
    page = await chromium.new_page()
    await page.goto(f"http://localhost:{browser.port}/admin/{TOKEN}")
    await page.goto(f"http://localhost:{browser.port}{path}")
    await until_it_hears(page)
    clock.advance(guards.SESSION_SECONDS + 1)
    control.completed_elsewhere(ALICE)
    await page.wait_for_selector("#live", state="detached")


@pytest.mark.parametrize("path", ["/", f"/accounts/{ALICE}"])
async def test_a_page_says_that_the_bridge_has_gone(
    chromium: Chromium, control: FakeControl, clock: HandClock, path: str
) -> None:
    page = await chromium.new_page()
    async with serving(control, clock) as browser:
        await page.goto(f"http://localhost:{browser.port}/admin/{TOKEN}")
        await page.goto(f"http://localhost:{browser.port}{path}")
        await until_it_hears(page)
        assert not await page.is_visible("[role=alert]")
    await page.wait_for_selector("[role=alert]:text('mail-bridge is not answering at the moment')")
    assert await page.is_visible("#live")


async def assert_told_until_it_is_back(page: Page, unanswered: str) -> None:
    """The page says that the bridge has gone, until requests that match `unanswered` are answered again."""
    await page.wait_for_selector("[role=alert]:text('mail-bridge is not answering at the moment')")
    await page.unroute(unanswered)
    await page.wait_for_selector("[role=alert]", state="hidden")


async def test_what_a_page_says_of_a_bridge_that_has_gone_it_takes_back_by_itself(
    chromium: Chromium, browser: Browser, control: FakeControl
) -> None:
    """Even if its stream of events has gone on: a single request may have found no free place, or no descriptor."""
    page = await chromium.new_page()
    await visit(page, f"http://localhost:{browser.port}", control, "list")
    await until_it_hears(page)
    await page.route("**/", lambda route: route.abort("connectionreset"))
    control.completed_elsewhere(ALICE)
    await assert_told_until_it_is_back(page, "**/")


async def test_the_page_with_a_code_says_that_the_bridge_has_gone_and_that_it_is_back(
    chromium: Chromium, browser: Browser, troubled: FakeControl
) -> None:
    page = await chromium.new_page()
    await visit(page, f"http://localhost:{browser.port}", troubled, "device")
    await page.route("**/waiting/*", lambda route: route.abort("connectionrefused"))
    await assert_told_until_it_is_back(page, "**/waiting/*")


async def test_the_page_of_an_account_that_was_removed_says_so(
    chromium: Chromium, browser: Browser, control: FakeControl
) -> None:
    page = await chromium.new_page()
    await visit(page, f"http://localhost:{browser.port}", control, "account")
    await until_it_hears(page)
    del control.states[ALICE]
    control.bus.publish(Reloaded(f"account {ALICE} removed"))
    await page.wait_for_selector("text=There is nothing here")


@pytest.mark.parametrize("with_script", [True, False])
async def test_the_page_with_a_code_knows_by_itself_that_it_was_entered(
    chromium: Chromium, browser: Browser, troubled: FakeControl, with_script: bool
) -> None:
    context = await chromium.new_context(java_script_enabled=with_script)
    page = await context.new_page()
    await visit(page, f"http://localhost:{browser.port}", troubled, "device")
    await troubled.following.wait()
    troubled.completed_elsewhere(ALICE)
    await page.wait_for_url("**/done/*")
    assert await page.inner_text("h1") == "You are signed in"


async def test_the_page_with_a_code_tells_how_long_it_works_and_when_nobody_waits_for_it_any_more(
    chromium: Chromium, browser: Browser, troubled: FakeControl, clock: HandClock
) -> None:
    page = await chromium.new_page()
    await visit(page, f"http://localhost:{browser.port}", troubled, "device")
    assert "It works for 10 more minutes." in await page.inner_text("main")
    clock.advance(540)
    await page.wait_for_selector("text=It works for 1 more minute.")
    clock.advance(PAGE_SECONDS)  # a restart would have the same effect
    await page.wait_for_selector("h1:text('This sign-in is over')")


async def test_a_link_of_another_site_spoils_no_form_in_another_tab(
    chromium: Chromium, browser: Browser, control: FakeControl
) -> None:
    base = f"http://localhost:{browser.port}"
    context = await chromium.new_context()
    page, chat = await context.new_page(), await context.new_page()
    await visit(page, base, control, "account")
    link = f'<a href="{base}/sign-in/{ALICE}">sign in</a>'
    await chat.route("http://chat.example/", lambda route: route.fulfill(body=link, content_type="text/html"))
    await chat.goto("http://chat.example/")
    await chat.click("a")
    await chat.wait_for_url(f"{base}/sign-in/{ALICE}")
    await page.click("button:text('Show it')")
    assert len(await page.inner_text(".password")) > 10
