"""A provider that others have written: what docs/providers.md says about a server of your own is enough to sign in, and
each refresh token is presented only once, because a second time would revoke it and everything derived from it."""

from __future__ import annotations

import imaplib
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.e2e.bridge import Bridge, configuration, running
from tests.e2e.conftest import ALICE, BOB
from tests.servers import openid_provider
from tests.servers.ca import Authority
from tests.servers.dovecot import dovecot
from tests.servers.needed import absent
from tests.servers.openid_provider import CLIENT, SECRET, OpenIDProvider

pytestmark = [pytest.mark.servers, pytest.mark.browser]

try:
    from playwright.sync_api import Browser, Page
except ImportError:  # pragma: no cover
    absent("playwright")

PAGE = (Path(__file__).parents[2] / "docs" / "providers.md").read_text("utf-8")
AT_ONCE = 8
"""Logins of one account at the same time."""


@contextmanager
def world_of(directory: Path, authority: Authority, *, tells_email: bool) -> Iterator[tuple[Bridge, OpenIDProvider]]:
    """A bridge configured as that page says, plus what only the tests have: an authority, ports, one mail server."""
    _, _, section = PAGE.partition("\n## A server of your own, in the browser\n")
    block = re.search(r"^```yaml\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert block is not None
    (provider,) = yaml.safe_load(block[1])["providers"].values()
    del provider["smtp"]
    accounts = [{"address": address, "provider": "company"} for address in (ALICE, BOB)]
    bridge = Bridge(directory, configuration(directory, {"company": provider}, accounts))
    redirect_uri = f"http://localhost:{bridge.console_port}/"
    with openid_provider.running(directory / "idp", authority, redirect_uri, tells_email=tells_email) as idp:
        for name in ("authorization", "token", "revocation"):
            assert provider[f"{name}_url"]
            provider[f"{name}_url"] = idp.discovered[f"{name}_endpoint"]
        provider |= {"client_id": CLIENT, "client_secret": SECRET, "ca_file": str(authority.ca_file)}
        certificate, key = directory / "idp" / "server.pem", directory / "idp" / "server.key"
        with dovecot(directory / "mail", certificate, key, idp.introspection_url, (ALICE, BOB)) as mail:
            provider["imap"] = {"host": "localhost", "port": mail.imap_tls}
            with running(bridge):
                yield bridge, idp


def signed_in(bridge: Bridge, browser: Browser, address: str, person: str, *, declines: bool = False) -> str:
    """From the bridge's page through the provider's two pages, and back. Returns: the text of the last page."""
    context = browser.new_context(ignore_https_errors=True, java_script_enabled=False)
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.goto(f"http://localhost:{bridge.console_port}/sign-in/{address}")
    words = come_back(bridge, page, person, declines=declines)
    context.close()
    return words


def come_back(bridge: Bridge, page: Page, person: str, *, declines: bool = False) -> str:
    """The same from that page on, in a browser that may be signed in at the provider."""
    page.click("main button[type=submit]")
    page.fill("input[name=login]", person)
    page.fill("input[name=password]", "any")
    page.click("button[type=submit]")
    page.wait_for_selector("input[name=prompt][value=consent]", state="attached")
    page.click("a[href$='/abort']" if declines else "button[type=submit]")
    page.wait_for_url(f"http://localhost:{bridge.console_port}/**")
    return page.inner_text("main")


def logins(bridge: Bridge, count: int = AT_ONCE) -> set[str]:
    """The answers to so many logins at once."""
    login = bridge.login(ALICE)

    def log_in(_: int) -> str:
        with imaplib.IMAP4("localhost", login.imap, timeout=30) as session:
            try:
                return session.login(login.username, login.password)[0]
            except imaplib.IMAP4.error as problem:
                return str(problem)

    with ThreadPoolExecutor(count) as threads:
        return set(threads.map(log_in, range(count)))


def test_a_sign_in_lives_on_by_refresh_tokens_each_shown_once_until_it_is_given_up(
    tmp_path: Path, authority: Authority, chromium: Browser
) -> None:
    """As the standard has it: the id_token has no address (OpenID Connect Core section 5.4), so the login to the
    mailbox proves who has signed in."""
    with world_of(tmp_path, authority, tells_email=False) as (bridge, idp):
        with idp.stale():
            assert f"{ALICE} is signed in" in signed_in(bridge, chromium, ALICE, ALICE)
            assert logins(bridge, 1) == {"OK"}
            before = idp.refreshes()
            assert before
        assert logins(bridge) == {"OK"}
        assert idp.refreshes() == before + 1
        assert idp.refresh_tokens() == 1
        assert "has been removed" in bridge.run("accounts", "forget", ALICE, "--yes")
        assert idp.refresh_tokens() == 0
        (answer,) = logins(bridge, 1)
        assert f"{ALICE} must sign in" in answer


def test_a_person_may_say_no_and_the_wrong_one_comes_out_by_the_id_token_where_it_has_the_address(
    tmp_path: Path, authority: Authority, chromium: Browser
) -> None:
    with world_of(tmp_path, authority, tells_email=True) as (bridge, _):
        assert "The sign-in was declined" in signed_in(bridge, chromium, ALICE, ALICE, declines=True)
        assert f"{BOB} has signed in, but {ALICE} was asked to" in signed_in(bridge, chromium, ALICE, BOB)
        assert bridge.json("accounts", "list")[0]["state"] == "sign-in"


def test_who_signed_in_as_somebody_else_is_asked_who_they_are_when_they_try_again(
    tmp_path: Path, authority: Authority, chromium: Browser
) -> None:
    """The browser is still signed in at the provider, as the wrong person, until a script of the provider ends that
    session. Only the mail server knows that it is the wrong one."""
    with world_of(tmp_path, authority, tells_email=False) as (bridge, _):
        page = chromium.new_context(ignore_https_errors=True).new_page()
        page.set_default_timeout(60_000)
        page.goto(f"http://localhost:{bridge.console_port}/sign-in/{ALICE}")
        assert f"{ALICE} is signed in" not in come_back(bridge, page, BOB)
        page.click(f"text=Try again for {ALICE}")
        assert f"{ALICE} is signed in" in come_back(bridge, page, ALICE)
        page.context.close()
