"""Requests that others may send to the console's port while a sign-in is pending: none of them changes anything."""

from __future__ import annotations

import base64
import html
import http.client
import json
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlencode

import pytest

from tests.e2e.bridge import Bridge
from tests.e2e.conftest import ALICE, BOB, World
from tests.e2e.test_made_certificate import address_of_this_machine
from tests.forms import form_of

pytestmark = pytest.mark.servers

STRAY = (
    "/favicon.ico",
    "/metrics",
    "/robots.txt",
    "/?code=x&state=stray",
    "/done/x",
    "/?error=access_denied",
    "/.env",
    "/",
    "/paste",
)
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def ask(
    bridge: Bridge, method: str, path: str, body: str | None = None, **headers: str
) -> tuple[int, str, http.client.HTTPMessage]:
    """One request with these headers. Returns: status, page, headers."""
    connection = http.client.HTTPConnection("127.0.0.1", bridge.console_port, timeout=30)
    try:
        named = {"Host": f"localhost:{bridge.console_port}"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        connection.request(method, path, body, named | (FORM if body is not None else {}))
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer.headers
    finally:
        connection.close()


def state_of(bridge: Bridge, address: str) -> str:
    return str({account["address"]: account["state"] for account in bridge.json("accounts", "list")}[address])


def test_only_the_providers_answer_ends_a_pending_sign_in_and_only_once(fresh: Bridge, world: World) -> None:
    page = fresh.browser().press(f"/sign-in/{ALICE}")
    link = re.search(r'http-equiv="refresh" content="0; url=([^"]+)"', page)
    assert link is not None, page
    answer = world.provider.consent(html.unescape(link[1]), ALICE)
    redeemed = world.provider.count("authorization_code")
    right, forged = urlencode(answer), urlencode({**answer, "state": answer["state"][::-1]})

    for host in ("evil.example", f"evil.example:{fresh.console_port}", "localhost", f"localhost.:{fresh.console_port}"):
        assert ask(fresh, "GET", f"/?{right}", Host=host)[:2] == (404, "")
        assert ask(fresh, "POST", "/", right, Host=host)[:2] == (404, "")
    assert ask(fresh, "HEAD", f"/?{right}")[0] == 404
    assert ask(fresh, "GET", f"/?{right}", Sec_Purpose="prefetch")[0] == 404
    assert ask(fresh, "GET", f"/?{forged}")[0] == 404
    assert ask(fresh, "POST", "/", forged, Origin="https://evil.example")[0] == 404
    assert ask(fresh, "POST", "/", urlencode({"error": "access_denied", "state": "stray"}))[0] == 404
    with ThreadPoolExecutor(16) as pool:
        strays = pool.map(lambda number: ask(fresh, "GET", STRAY[number % len(STRAY)])[0], range(1000))
        assert set(strays) == {200, 404}
    assert state_of(fresh, ALICE) == "pending"
    assert world.provider.count("authorization_code") == redeemed

    status, page = fresh.redirect(answer)
    assert (status, "You are signed in" in page) == (200, True)
    before = fresh.json("accounts", "list")
    assert ask(fresh, "GET", f"/?{right}")[0] == 404
    assert ask(fresh, "POST", "/", right)[0] == 404
    assert fresh.json("accounts", "list") == before
    assert state_of(fresh, ALICE) == "ready"
    assert world.provider.count("authorization_code") == redeemed + 1


def test_another_machine_reaches_neither_the_console_nor_a_port(fresh: Bridge) -> None:
    """Nothing listens at an address of this machine that others can reach: that has to be configured (`exposed`)."""
    outside = address_of_this_machine()
    ports = [int(str(where).rpartition(":")[2]) for where in fresh.config["listeners"].values()]
    for port in (fresh.console_port, *ports):
        socket.create_connection(("localhost", port), timeout=30).close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((outside, port), timeout=30)


def test_a_form_that_another_page_sends_begins_nothing(fresh: Bridge, world: World) -> None:
    """The form even has the right cookie and the right field, as if that page had found a way to learn them."""
    _, page, headers = ask(fresh, "GET", f"/sign-in/{BOB}")
    body, cookie = urlencode({"form": form_of(page)}), headers["Set-Cookie"].partition(";")[0]
    for foreign in (
        {"Origin": "https://evil.example"},
        {"Origin": "http://localhost:9"},
        {"Origin": "null", "Sec_Fetch_Site": "cross-site"},
        {"Origin": "null", "Sec_Fetch_Site": "same-site"},
    ):
        assert ask(fresh, "POST", f"/sign-in/{BOB}", body, Cookie=cookie, **foreign)[0] == 403
    assert ask(fresh, "POST", f"/sign-in/{BOB}", body, Origin="null")[0] == 403  # without the cookie
    assert state_of(fresh, BOB) == "sign-in"
    own = {"Origin": "null", "Sec_Fetch_Site": "same-origin"}
    assert ask(fresh, "POST", f"/sign-in/{BOB}", body, Cookie=cookie, **own)[0] == 200
    assert state_of(fresh, BOB) == "pending"


def token_of(bridge: Bridge) -> str:
    """The administrator's token, from the file in which the bridge's own commands find it."""
    published = next(bridge.directory.glob("data/mail-bridge/run/*/control.json"))
    return str(json.loads(published.read_text())["token"])


def test_the_administrators_link_has_256_bits_of_its_own_at_each_start(fresh: Bridge) -> None:
    tokens = [token_of(fresh)]
    fresh.stop()
    fresh.start()
    tokens.append(token_of(fresh))
    assert len(set(tokens)) == 2
    for token in tokens:
        assert len(base64.urlsafe_b64decode(token + "=")) == 32
    assert ask(fresh, "GET", f"/admin/{tokens[0]}")[0] == 403
    assert ask(fresh, "GET", f"/admin/{tokens[1]}")[0] == 303
