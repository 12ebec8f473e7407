"""The console, and a colleague on the same machine who uses their own program instead of a browser."""

from __future__ import annotations

import html
import json
import re
import subprocess
from contextlib import closing
from http.client import HTTPConnection
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from bridge.tokens.sign_in_limits import SHARE
from tests.e2e.bridge import Bridge
from tests.e2e.conftest import ALICE, BOB, World
from tests.e2e.logins import log_in
from tests.forms import form_of
from tests.servers.os_user import OsUser

pytestmark = pytest.mark.servers

FORM = {"Content-Type": "application/x-www-form-urlencoded", "Origin": "null"}


def ask(
    user: OsUser | None, bridge: Bridge, path: str, fields: dict[str, str] | None = None, **headers: str
) -> tuple[int, str, str]:
    """One request by a program of this user; None is the user who runs the tests. Returns: status, page, cookie."""
    with closing(HTTPConnection("localhost", bridge.console_port, timeout=60)) as connection:
        if user is not None:
            connection.sock = user.connect(bridge.console_port)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if fields is None:
            connection.request("GET", path, headers=named)
        else:
            connection.request("POST", path, urlencode(fields), named | FORM)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), (answer.headers["Set-Cookie"] or "").partition(";")[0]


def press(user: OsUser | None, bridge: Bridge, address: str) -> tuple[int, str, str]:
    """This user presses the sign-in button. Returns: the same as ask()."""
    _, page, cookie = ask(user, bridge, f"/sign-in/{address}")
    return ask(user, bridge, f"/sign-in/{address}", {"form": form_of(page)}, Cookie=cookie)


def begun(user: OsUser | None, bridge: Bridge, address: str) -> str:
    """Press the sign-in button. Returns: the URL of the provider's page."""
    leaving = press(user, bridge, address)[1]
    link = re.search(r'http-equiv="refresh" content="0; url=([^"]+)"', leaving)
    assert link is not None, leaving
    return html.unescape(link[1])


def state_in(url: str) -> str:
    return parse_qs(urlsplit(url).query)["state"][0]


def where(user: OsUser | None, bridge: Bridge, answer: dict[str, str]) -> str:
    """The browser comes back from the provider. Returns: the path of the page with the result."""
    with closing(HTTPConnection("localhost", bridge.console_port, timeout=60)) as connection:
        if user is not None:
            connection.sock = user.connect(bridge.console_port)
        connection.request("GET", f"/?{urlencode(answer)}")
        with connection.getresponse() as given:
            path = given.headers["Location"]
        assert path is not None
        return path


def test_a_colleague_cannot_end_my_sign_in(fresh: Bridge, world: World, colleague: OsUser) -> None:
    mine = begun(None, fresh, ALICE)
    theirs = begun(colleague, fresh, ALICE)
    hostile = {"state": state_in(theirs), "error": "access_denied", "error_description": "CANARY-hostile"}
    assert ask(colleague, fresh, f"/?{urlencode(hostile)}")[0] == 303
    assert state_in(begun(None, fresh, ALICE)) == state_in(mine), "mine is under way"
    stranger = begun(colleague, fresh, ALICE)
    status, page = fresh.redirect(world.provider.consent(mine, ALICE))
    assert (status, "You are signed in" in page) == (200, True), page
    # That also ends the colleague's sign-in, silently.
    late = {"state": state_in(stranger), "error": "access_denied"}
    assert ask(colleague, fresh, f"/?{urlencode(late)}")[0] == 404


def test_the_command_that_waits_is_not_ended_by_a_colleague(fresh: Bridge, world: World, colleague: OsUser) -> None:
    def act(line: str, command: subprocess.Popen[str]) -> None:
        if (match := re.match(r"\s+(https://\S+)", line)) is not None:
            hostile = {"state": state_in(begun(colleague, fresh, ALICE)), "error": "access_denied"}
            assert ask(colleague, fresh, f"/?{urlencode(hostile)}")[0] == 303
            fresh.redirect(world.provider.consent(match[1], ALICE))

    assert f"{ALICE} is signed in" in fresh.dialogue("authorize", ALICE, "--no-browser", act=act)


def test_a_colleague_cannot_keep_my_icon_quiet(fresh: Bridge, colleague: OsUser) -> None:
    """The icon says nothing about an account whose sign-in is under way."""

    def is_pending() -> bool:
        _, answer, _ = ask(None, fresh, "/mine", X_Mail_Bridge="tray")
        (prompt,) = json.loads(answer)["accounts"]
        return bool(prompt["is_pending"])

    assert "must sign in" in log_in(None, fresh, "imap", ALICE, fresh.password(ALICE))
    begun(colleague, fresh, ALICE)
    assert not is_pending()
    begun(None, fresh, ALICE)
    assert is_pending()


def admin_token(bridge: Bridge) -> str:
    (published,) = bridge.directory.glob("data/mail-bridge/run/*/control.json")
    return str(json.loads(published.read_text())["token"])


def test_the_administrators_cookie_is_of_no_use_to_a_colleague(fresh: Bridge, colleague: OsUser) -> None:
    """The administrator's browser sends the cookie to a colleague's page on another port of localhost if it opens that
    page."""
    status, _, cookie = ask(None, fresh, f"/admin/{admin_token(fresh)}")
    assert status == 303
    path = f"/accounts/{ALICE}"
    own, page, form = ask(None, fresh, path, Cookie=cookie)
    both = f"{cookie}; {form}"
    for user, expected in ((None, 200), (colleague, 404)):
        assert ask(user, fresh, path, Cookie=both)[0] == expected
        assert ask(user, fresh, f"{path}/password", {"form": form_of(page)}, Cookie=both)[0] == expected
    assert own == 200
    assert ALICE not in ask(colleague, fresh, "/", Cookie=both)[1]


def test_a_form_that_a_colleague_was_shown_is_of_no_use_in_the_administrators_browser(
    fresh: Bridge, colleague: OsUser
) -> None:
    """A colleague's page on another port of localhost can set the form's cookie in the browser, and an old browser does
    not say from which page it sends a form."""
    _, _, session = ask(None, fresh, f"/admin/{admin_token(fresh)}")
    path = f"/accounts/{ALICE}"
    for user, expected in ((colleague, 403), (None, 200)):
        _, page, form = ask(user, fresh, f"/sign-in/{ALICE}")
        fields, both = {"form": form_of(page), "at_once": "on"}, f"{session}; {form}"
        assert ask(None, fresh, f"{path}/rotate", fields, Cookie=both)[0] == expected


def test_a_ticket_that_a_colleague_reads_in_the_list_of_processes_opens_nothing(
    fresh: Bridge, colleague: OsUser
) -> None:
    token = {"Authorization": f"Bearer {admin_token(fresh)}", "Content-Type": "application/json"}
    with closing(HTTPConnection("localhost", fresh.console_port, timeout=60)) as tray:
        tray.request("POST", "/api/console-ticket", "{}", token)
        ticket = json.loads(tray.getresponse().read())["ticket"]
    assert ask(colleague, fresh, f"/admin/{ticket}")[0] == 403
    assert ask(None, fresh, f"/admin/{ticket}")[0] == 303, "the colleague has not used it up either"
    assert ask(None, fresh, f"/admin/{ticket}")[0] == 403


def test_a_colleagues_failures_are_bounded_and_cost_nobody_else_theirs(
    fresh: Bridge, world: World, colleague: OsUser
) -> None:
    """Each failure costs a request to the provider, a notice to the administrator, and a page that is kept."""
    mine = where(None, fresh, world.provider.consent(begun(None, fresh, ALICE), ALICE))
    for _ in range(SHARE):
        hostile = {"state": state_in(begun(colleague, fresh, BOB)), "error": "access_denied"}
        where(colleague, fresh, hostile)
    status, page, _ = press(colleague, fresh, BOB)
    assert (status, "The sign-in cannot start at the moment" in page) == (503, True)
    assert "You are signed in" in ask(None, fresh, mine)[1]
    assert begun(None, fresh, BOB)
