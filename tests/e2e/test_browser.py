"""What a person does, in a real Chromium: the bridge's page, the provider's page, and back."""

from __future__ import annotations

import json
import re
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.e2e.bridge import Bridge, running
from tests.e2e.clients import curl_send
from tests.e2e.conftest import ALICE, BOB, World, ever_expired
from tests.e2e.logins import replies
from tests.e2e.mailing import found_by_imap, found_by_pop3
from tests.servers.needed import absent

pytestmark = [pytest.mark.servers, pytest.mark.browser]

try:
    from playwright.sync_api import Browser, Page
except ImportError:  # pragma: no cover
    absent("playwright")


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    context = chromium.new_context(ignore_https_errors=True, java_script_enabled=False)
    page = context.new_page()
    page.set_default_timeout(60_000)
    yield page
    context.close()


def sign_in(page: Page, bridge: Bridge, address: str, person: str, answer: str = "accept") -> None:
    """Go from the bridge's page to the provider's, choose a person, and come back."""
    page.goto(f"http://localhost:{bridge.console_port}/sign-in/{address}")
    assert address in page.inner_text("main")
    page.click("main button[type=submit]")
    page.wait_for_selector("#accept")
    page.check(f"input[name=account][value='{person}']")
    page.click(f"#{answer}")
    page.wait_for_url(f"http://localhost:{bridge.console_port}/**")


def administrators_link(bridge: Bridge) -> str:
    """The administrator's link, from the file in which the bridge's own commands find its token."""
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


def first_configuration(world: World, directory: Path) -> Bridge:
    """A configuration from the questions of `init`, plus what only the tests have: ports, an authority, mail servers, a
    script."""
    bridge = world.bridge(directory)
    office = world.providers()["office365"]
    urls, secret = [office["authorization_url"], office["token_url"]], office["client_secret"]
    answers = ["3", office["client_id"], *urls, secret, "", "", "1", ALICE, "", "", ""]
    bridge.environment["PYTHON_KEYRING_BACKEND"] = "keyring.backends.fail.Keyring"
    done = subprocess.run(
        bridge.command("init"),
        input="".join(f"{answer}\n" for answer in answers),
        capture_output=True,
        text=True,
        env=bridge.environ,
        cwd=directory,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    written = yaml.safe_load((directory / "config.yaml").read_text())
    (section,) = written["providers"].values()
    for key in ("discovery", "ca_file", "imap", "pop3", "smtp"):
        section[key] = office[key]
    section["redirect_uri"] = f"http://localhost:{bridge.console_port}/"
    script = directory / "tell.sh"
    script.write_text('#!/bin/sh\necho "$MAIL_BRIDGE_EVENT $MAIL_BRIDGE_ACCOUNT $MAIL_BRIDGE_URL" >> told\n')
    script.chmod(0o700)
    ours = {name: bridge.config[name] for name in ("listeners", "console", "log")}
    bridge.config = {**written, **ours, "notify": {"command": [str(script)]}}
    return bridge


def link_of_a_refusal(bridge: Bridge, *, notices: int) -> str:
    """The CRM is refused by each protocol, with the link to the sign-in page; the script has had so many notices of it
    so far. Returns: the link."""
    answers = replies(bridge.login(ALICE))
    assert answers.keys() == {"imap", "pop3", "smtp"}
    links = re.findall(r"http://localhost:\d+/sign-in/[^\s)\]']+", " ".join(answers.values()))
    assert len(set(links)) == 1, answers
    link = links[0]
    assert all(f"Open {link} ({ALICE} must sign in)" in said for said in answers.values()), answers
    told = bridge.directory / "told"

    def needed() -> list[str]:
        lines = told.read_text().splitlines() if told.exists() else []
        return [line for line in lines if line.startswith("authorization-needed")]

    bridge.wait_until(lambda: len(needed()) >= notices, "the notice")
    assert needed() == [f"authorization-needed {ALICE} {link}"] * notices
    return str(link)


def mail_flows(bridge: Bridge, password: str) -> None:
    """The CRM sends a message to its own mailbox, and reads it by IMAP and by POP3."""
    login = bridge.login(ALICE, password)
    subject = f"story {uuid.uuid4()}"
    message = f"From: {ALICE}\r\nTo: {ALICE}\r\nSubject: {subject}\r\n\r\nHello\r\n".encode()
    curl_send(login, ALICE, message, bridge.directory)
    assert b"Hello" in found_by_imap(login, subject)
    assert b"Hello" in found_by_pop3(login, subject)


def rotated(page: Page, bridge: Bridge) -> tuple[str, str]:
    """The administrator views the local password and makes a new one; neither stays in the browser's history."""
    page.goto(administrators_link(bridge))
    assert "/admin/" not in page.url
    page.click(f"a:text-is('{ALICE}')")
    page.click("text=Show it")
    old = page.inner_text(".password")
    page.click("text=Hide it")
    assert old not in page.content()
    page.click("text=Make a new one")
    new = page.inner_text(".password")
    assert new != old
    page.go_back()
    assert new not in page.content()
    assert old not in page.content()
    return old, new


def state_shown(accounts: Page) -> str:
    """The state that the list shows for its only account."""
    return accounts.inner_text("ul.accounts .state").partition(",")[0]


@pytest.mark.parametrize("with_script", [True, False], ids=["script", "no-script"])
def test_the_whole_story_of_a_mailbox(world: World, chromium: Browser, tmp_path: Path, with_script: bool) -> None:
    """From the first question of `init` to the second sign-in, as the CRM, the person and the administrator see it."""
    bridge = first_configuration(world, tmp_path)
    context = chromium.new_context(ignore_https_errors=True, java_script_enabled=with_script)
    context.set_default_timeout(60_000)
    with running(bridge), ever_expired(world):  # a token works for one login only: the next one asks the provider again
        page = context.new_page()
        assert link_of_a_refusal(bridge, notices=1) == f"http://localhost:{bridge.console_port}/sign-in/{ALICE}"

        sign_in(page, bridge, ALICE, BOB)
        assert page.inner_text("h1").strip() == "Somebody else has signed in"
        link_of_a_refusal(bridge, notices=1)  # still one: the script is not told twice within some minutes

        sign_in(page, bridge, ALICE, ALICE)
        assert page.inner_text("h1").strip() == "You are signed in"
        assert "Tried just now: IMAP, POP3, SMTP" in " ".join(page.inner_text("main").split())
        mail_flows(bridge, bridge.password(ALICE))

        old, new = rotated(page, bridge)
        for password in (old, new):  # the old one works for another week
            mail_flows(bridge, password)

        accounts = context.new_page()
        accounts.goto(administrators_link(bridge))
        assert state_shown(accounts) == "Ready"
        world.provider.revoke_person(ALICE)
        link = link_of_a_refusal(bridge, notices=2)
        if not with_script:
            accounts.reload()
        accounts.wait_for_selector(".dot.sign-in")  # with scripts the page updates itself
        assert state_shown(accounts) == "Sign-in needed"

        page.goto(link)
        sign_in(page, bridge, ALICE, ALICE)
        for password in (old, new):
            mail_flows(bridge, password)
    context.close()
    for secret in (old, new, *world.provider.secrets):
        assert secret not in bridge.log + (tmp_path / "told").read_text()


def test_the_administrator_tries_the_mail_servers_and_signs_somebody_out(
    fresh: Bridge, world: World, page: Page
) -> None:
    fresh.sign_in(world.provider, ALICE)
    page.goto(administrators_link(fresh))
    page.goto(f"http://localhost:{fresh.console_port}/accounts/{ALICE}")
    page.click("text=Try the mail servers now")
    tried = page.inner_text("section[aria-labelledby=servers]")
    assert tried.count("Opens the mailbox.") == len(replies(fresh.login(ALICE)))
    page.click("text=Sign out")
    page.click("main button[type=submit]")
    assert "Sign-in needed" in page.inner_text("main")
    assert "must sign in" in replies(fresh.login(ALICE))["imap"]


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


def test_a_web_page_says_nothing_to_a_mail_port(bridge: Bridge, chromium: Browser) -> None:
    """The browser sends the page's form as a program of the user who views it, and `os_user` checks nothing else."""
    login, first = bridge.login(ALICE), bridge.log.count("session.ready")
    context = chromium.new_context()
    for number, port in enumerate((login.imap, login.pop3, login.smtp), 1):
        page = context.new_page()
        said = f"\na1 LOGIN {ALICE} {login.password}\nUSER {ALICE}\nPASS {login.password}\n"
        page.set_content(
            f'<form method=post enctype="text/plain" action="http://localhost:{port}/"><textarea name="x">{said}'
            "</textarea><button>Win a prize</button></form>"
        )
        page.click("button", no_wait_after=True)
        bridge.wait_until(lambda: bridge.log.count("this is HTTP") >= number, "a word of the port's")  # noqa: B023
    context.close()
    assert bridge.log.count("session.ready") == first
