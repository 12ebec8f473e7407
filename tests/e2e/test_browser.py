"""The person's part, by a real Chromium: the bridge's page, the provider's page, and back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.e2e.bridge import Bridge
from tests.e2e.conftest import ALICE, BOB, World
from tests.e2e.test_faults import replies
from tests.servers.needed import absent
from tests.servers.packages import needs, program

pytestmark = [pytest.mark.servers, pytest.mark.browser]

try:
    from playwright.sync_api import Browser, Page, sync_playwright
except ImportError:  # pragma: no cover
    absent("playwright")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    needs("chromium")
    with sync_playwright() as playwright:
        # The certificate of the tests' provider is of an authority that only the bridge is told of.
        browser = playwright.chromium.launch(executable_path=str(program("chromium")), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    context = chromium.new_context(ignore_https_errors=True, java_script_enabled=False)
    page = context.new_page()
    page.set_default_timeout(15_000)
    yield page
    context.close()


def sign_in(page: Page, bridge: Bridge, address: str, person: str, answer: str = "accept") -> None:
    """From the bridge's page to the provider's, choose, and come back."""
    page.goto(f"http://localhost:{bridge.console_port}/sign-in/{address}")
    assert address in page.inner_text("main")
    page.click("main button[type=submit]")
    page.wait_for_selector("#accept")
    page.check(f"input[name=account][value='{person}']")
    page.click(f"#{answer}")
    page.wait_for_url(f"http://localhost:{bridge.console_port}/**")


def administrators_link(bridge: Bridge) -> str:
    """As its own commands find it."""
    published = next(bridge.directory.glob("data/mail-bridge/run/*/control.json"))
    token = json.loads(published.read_text())["token"]
    return f"http://localhost:{bridge.console_port}/admin/{token}"


@pytest.mark.parametrize("address", [ALICE, BOB])
def test_a_person_signs_in_and_the_mail_program_gets_in(fresh: Bridge, world: World, page: Page, address: str) -> None:
    assert "must sign in" in replies(fresh.login(address))["imap"]
    sign_in(page, fresh, address, address)
    assert f"{address} is signed in" in page.inner_text("main")
    assert "code=" not in page.url
    assert "state=" not in page.url
    assert replies(fresh.login(address))["imap"] == "OK"
    page.reload()
    assert page.url.startswith(f"http://localhost:{fresh.console_port}/done/")


def test_the_wrong_person_is_told_whom_to_choose_and_may_try_again(fresh: Bridge, world: World, page: Page) -> None:
    sign_in(page, fresh, ALICE, BOB)
    words = page.inner_text("main")
    assert ALICE in words
    assert BOB in words
    assert fresh.json("accounts", "list")[0]["state"] == "sign-in"
    sign_in(page, fresh, ALICE, ALICE)
    assert fresh.json("accounts", "list")[0]["state"] == "ready"


def test_the_whole_story_of_a_mailbox(fresh: Bridge, world: World, page: Page) -> None:
    """Refused with a link, the wrong person, the right one; then the administrator makes a new password."""
    refusal = replies(fresh.login(ALICE))["imap"]
    link = re.search(r"http://localhost:\d+/sign-in/[^ )\]]+", refusal)
    assert link is not None, refusal
    page.goto(link[0])
    assert ALICE in page.inner_text("main")
    sign_in(page, fresh, ALICE, BOB)
    assert page.inner_text("h1").strip() == "Somebody else has signed in"
    assert "must sign in" in replies(fresh.login(ALICE))["imap"]
    sign_in(page, fresh, ALICE, ALICE)
    assert page.inner_text("h1").strip() == "You are signed in"

    page.goto(administrators_link(fresh))
    assert "/admin/" not in page.url
    page.click(f"a:text-is('{ALICE}')")
    page.click("text=Show it")
    old = page.inner_text(".password")
    assert replies(fresh.login(ALICE, old))["imap"] == "OK"
    page.click("text=Hide it")
    assert old not in page.content()
    page.click("text=Make a new one")
    new = page.inner_text(".password")
    assert new != old
    for password in (old, new):  # the old one for a week longer
        assert replies(fresh.login(ALICE, password))["imap"] == "OK"
    page.go_back()
    assert new not in page.content()
    assert old not in page.content()

    page.goto(f"http://localhost:{fresh.console_port}/accounts/{ALICE}")
    page.click("text=Try the mail servers now")
    tried = page.inner_text("section[aria-labelledby=servers]")
    assert tried.count("Opens the mailbox.") == len(replies(fresh.login(ALICE)))
    page.click("text=Sign out")
    page.click("main button[type=submit]")
    assert "Sign-in needed" in page.inner_text("main")
    assert "must sign in" in replies(fresh.login(ALICE, new))["imap"]
    for secret in (old, new):
        assert secret not in fresh.log


def test_a_person_who_declines_is_told_that_nothing_happened(fresh: Bridge, world: World, page: Page) -> None:
    sign_in(page, fresh, BOB, BOB, answer="deny")
    assert "is signed in" not in page.inner_text("main")
    assert fresh.json("accounts", "list")[1]["state"] == "sign-in"


def test_the_console_has_no_error_of_its_own_content_policy(fresh: Bridge, chromium: Browser) -> None:
    context = chromium.new_context()
    page = context.new_page()
    troubles: list[str] = []
    page.on("console", lambda message: troubles.append(message.text))
    page.on("requestfailed", lambda request: troubles.append(request.url))
    page.goto(f"http://localhost:{fresh.console_port}/")
    page.goto(f"http://localhost:{fresh.console_port}/sign-in/{ALICE}")
    context.close()
    assert troubles == []
