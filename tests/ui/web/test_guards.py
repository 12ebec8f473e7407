"""Whose browser sends a request: sessions, links and connections belong to an OS user; forms and cookies to one
console."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import re
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from yarl import URL

from bridge.model import Ends
from bridge.relay.limits import ConnectionCap
from bridge.secret import Secret
from bridge.ui.web import guards
from tests.consoles import Console, NoUser
from tests.fakes_control import FakeControl
from tests.ui.web.conftest import TOKEN, Browser, browsing, serving

ALICE, BOB = "alice@example.com", "bob@example.com"
ME, COLLEAGUE, ROOT, NOT_TOLD = "1000", "1001", "0", ""


class Users(NoUser):
    """Every connection belongs to whoever `user` is when it begins."""

    user = ME

    async def user_of(self, ends: Ends | None) -> str:
        return self.user


@pytest.fixture
def users() -> Users:
    return Users()


@pytest.fixture
async def browser(control: FakeControl, users: Users) -> AsyncIterator[Browser]:
    async with serving(control, attendants=users) as browser:
        yield browser


async def sees_all(port: int, cookies: dict[str, str]) -> bool:
    """True if a new browser with these cookies is shown the list of accounts."""
    async with browsing(port) as browser:
        browser.session.cookie_jar.update_cookies(cookies, URL(browser.base))
        return BOB in await browser.text("/")


def cookies_of(browser: Browser) -> dict[str, str]:
    return {cookie.key: cookie.value for cookie in browser.session.cookie_jar}


@pytest.mark.parametrize(
    ("opener", "insiders"), [(ME, [ME, ROOT]), (ROOT, [ROOT]), (NOT_TOLD, [ME, COLLEAGUE, ROOT, NOT_TOLD])]
)
async def test_a_session_is_for_browsers_of_the_user_who_has_opened_it(
    browser: Browser, users: Users, opener: str, insiders: list[str]
) -> None:
    users.user = opener
    await browser.as_administrator()
    (name,) = cookies = cookies_of(browser)
    for users.user in (ME, COLLEAGUE, ROOT, NOT_TOLD):
        assert await sees_all(browser.port, cookies) is (users.user in insiders)
        assert not await sees_all(browser.port, {name: "x" * 43}), "there is no such session"
        assert not await sees_all(browser.port, {})


@pytest.mark.parametrize(("asker", "named"), [(ME, {}), (ROOT, {"user": ME})], ids=["own", "named by root"])
async def test_a_ticket_works_once_and_for_its_user(
    browser: Browser, users: Users, asker: str, named: dict[str, str]
) -> None:
    users.user = asker
    authorized = {"Authorization": f"Bearer {TOKEN}"}
    async with browser.post("/api/console-ticket", json=named, headers=authorized) as response:
        ticket = (await response.json())["ticket"]
    for users.user, opens in ((COLLEAGUE, False), (NOT_TOLD, False), (ME, True), (ME, False)):
        async with browsing(browser.port) as another:
            await another.text(f"/admin/{ticket}")
            assert (BOB in await another.text("/")) is opens


async def test_a_form_is_compared_in_constant_time_and_is_for_its_user_and_browser(
    browser: Browser, users: Users, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared, real = [], hmac.compare_digest

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(other)
        return real(one, other)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    path = f"/sign-in/{ALICE}"
    async with browser.post(path, data={"form": "0" * 64}, headers={"Origin": "null"}) as response:
        assert response.status == 403
    assert compared == [b"0" * 64]
    assert (await browser.press(path))[0] == 200
    users.user = COLLEAGUE
    async with browsing(browser.port) as another:
        await another.text(path)
        another.session.cookie_jar.update_cookies(cookies_of(browser), URL(another.base))
        field = (await browser.text(path)).partition('name="form" value="')[2][:64]
        async with another.post(path, data={"form": field}, headers={"Origin": "null"}) as response:
            assert response.status == 403


async def test_a_session_is_found_among_what_other_programs_on_localhost_keep(browser: Browser) -> None:
    """Cookies of localhost go to every port there."""
    await browser.as_administrator()
    ((name, value),) = cookies_of(browser).items()
    for header, is_found in (
        (f"{name}={value}", True),
        (f'a="x; {name}={value}; b="y', True),
        (f"{';' * 30_000}{name}={value}", True),
        (f"\u3d3d=1;\t{name}={value} ; x", True),
        (f"{name}=x; {name}={value}", True),
        (f"{name}={value}; {name}=x", False),
        (f"a{name}={value}", False),
        (f"a={name}={value}", False),
        (f"{name}={value}x", False),
    ):
        async with browsing(browser.port) as another, another.get("/", headers={"Cookie": header}) as response:
            assert (BOB in await response.text()) is is_found, header[:60]


def test_no_page_has_all_cookies_taken_apart() -> None:
    """aiohttp takes 65 ms to parse 32 KiB of cookies like `a;a;a;`, and any program on this machine can send them again
    and again."""
    pages = Path(guards.__file__).parent
    assert [file.name for file in pages.glob("*.py") if re.search(r"\.cookies\b", file.read_text("utf-8"))] == []


async def test_a_field_is_for_its_cookie_and_its_console_alone(
    browser: Browser, control: FakeControl, users: Users
) -> None:
    """Otherwise a program could fetch a form for itself, and make the browser of anybody who opens the program's page
    send it."""
    path, mark = f"/sign-in/{ALICE}", 'name="form" value="'
    async with serving(control, attendants=users) as another, browsing(browser.port) as mine:
        cookies = {f"mail_bridge_form_{port}": "x" * 43 for port in (browser.port, another.port)}
        for one in (browser, another):
            one.session.cookie_jar.update_cookies(cookies, URL(one.base))
        shown = [(await one.text(path)).partition(mark)[2][:64] for one in (browser, another, mine)]
        assert len(set(shown)) == 3
        for field, status in ((shown[0], 403), (shown[1], 403), (shown[2], 200)):
            async with mine.post(path, data={"form": field}, headers={"Origin": "null"}) as response:
                assert response.status == status


async def test_the_admin_token_is_compared_in_constant_time(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    compared, real = [], hmac.compare_digest

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(other)
        return real(one, other)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    for path, status in (("/api/status", 401), ("/admin/guess-2", 403)):
        async with browser.get(path, headers={"Authorization": "Bearer guess-1"}) as response:
            assert response.status == status
    assert compared == [b"guess-1", b"guess-2"]


async def test_cookies_name_the_port_and_are_out_of_reach(browser: Browser) -> None:
    """Cookies of localhost go to every port. A link in a mail may lead to the sign-in page, but not to an
    administrator's."""
    set_cookies = []
    for path in (f"/sign-in/{ALICE}", f"/admin/{TOKEN}"):
        async with browser.get(path, allow_redirects=False) as response:
            set_cookies.append(response.headers["Set-Cookie"])
    for kind, said, policy in zip(("form", "admin"), set_cookies, ("Lax", "Strict"), strict=True):
        assert said.startswith(f"mail_bridge_{kind}_{browser.port}=")
        assert f"SameSite={policy}" in said
        assert "HttpOnly" in said


async def test_a_form_that_does_not_arrive_is_waited_for_only_so_long(
    browser: Browser, control: FakeControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert guards.BODY_SECONDS == 10
    monkeypatch.setattr(guards, "BODY_SECONDS", 0.05)
    for path, kind, begun, status in (
        ("/", "application/x-www-form-urlencoded", "code=c&state=s", b"404"),
        ("/api/complete", "application/json", '{"parameters":', b"400"),
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", browser.port)
        writer.write(
            f"POST {path} HTTP/1.1\r\nHost: localhost:{browser.port}\r\nContent-Type: {kind}\r\n"
            f"Authorization: Bearer {TOKEN}\r\nContent-Length: 100\r\n\r\n{begun}".encode()
        )
        async with asyncio.timeout(20):
            assert (await reader.readline()).split()[1] == status
        writer.close()
        await writer.wait_closed()
    assert control.completions == []


async def test_a_sign_in_is_counted_for_the_user_who_has_begun_it(
    browser: Browser, control: FakeControl, users: Users
) -> None:
    """So a colleague who begins hundreds of sign-ins leaves room for others."""
    for user in (ME, COLLEAGUE):
        users.user = user
        async with browsing(browser.port) as own:
            await own.press(f"/sign-in/{ALICE}")
    assert control.askers == [ME, COLLEAGUE]


async def test_one_user_has_half_of_the_places_and_a_share(control: FakeControl, users: Users) -> None:
    sock = socket.create_server(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    console = Console(
        control,
        admin_token=Secret(TOKEN),
        places=ConnectionCap(6, share=1),
        hosts=frozenset({f"127.0.0.1:{port}"}),
        attendants=users,
    )
    async with console.serving([sock]), AsyncExitStack() as held:
        for users.user, gets_in in (
            *[(ME, True)] * 4,
            *[(ME, False)] * 2,
            (COLLEAGUE, True),
            (COLLEAGUE, False),
            (NOT_TOLD, True),
            (NOT_TOLD, False),
        ):
            assert await held.enter_async_context(connected(port)) is gets_in


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[bool]:
    """A connection that stays open. Yields: whether its request was answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        status = b""
        with contextlib.suppress(ConnectionError):
            writer.write(f"GET /style.css HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
            status = await reader.readline()
        yield status.endswith(b" 200 OK\r\n")
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_what_a_script_asks_for_in_the_browsers_place_is_not_done(browser: Browser, control: FakeControl) -> None:
    """A service worker, or a page that is still open, of a program that had the port for a while."""
    script = {"Sec-Fetch-Dest": "empty", "Sec-Fetch-Site": "same-origin", "Origin": "null"}
    form = await browser.form(f"/sign-in/{ALICE}")
    state = (await control.begin_authorization(ALICE)).url.rpartition("state=")[2]
    for method, path, data in (
        ("GET", f"/admin/{TOKEN}", None),
        ("GET", f"/?code=CANARY-c&state={state}", None),
        ("POST", "/", {"code": "CANARY-c", "state": state}),
        ("POST", f"/sign-in/{BOB}", {"form": form}),
    ):
        asked = browser.session.request(method, browser.base + path, data=data, headers=script, allow_redirects=False)
        async with asked as response:
            assert (response.status, response.headers["Location"]) == (307, path)
            assert response.headers["Clear-Site-Data"] == '"cache", "storage"'
            assert "Set-Cookie" not in response.headers
    assert control.completions == []
    assert control.askers == [""], "only the one above was begun"
    async with browser.post("//evil.example/", headers=script, allow_redirects=False) as response:
        assert response.status == 404
    preload = {"Sec-Fetch-Dest": "document", "Service-Worker-Navigation-Preload": "true"}
    async with browser.get(f"/admin/{TOKEN}", headers=preload, allow_redirects=False) as response:
        assert (response.status, "Set-Cookie" in response.headers) == (307, False)
    async with browser.get("/worker.js", headers={"Service-Worker": "script"}) as response:
        assert (response.status, "Clear-Site-Data" in response.headers) == (200, False)
        assert (response.content_type, response.headers["Service-Worker-Allowed"]) == ("text/javascript", "/")
        assert "registration.unregister()" in await response.text()


async def test_an_open_link_and_a_sign_in_have_the_browser_drop_what_it_keeps(
    browser: Browser, control: FakeControl
) -> None:
    state = (await control.begin_authorization(ALICE)).url.rpartition("state=")[2]
    shown = {"Sec-Fetch-Dest": "document"}
    for path in (f"/admin/{TOKEN}", f"/?code=CANARY-c&state={state}"):
        async with browser.get(path, headers=shown, allow_redirects=False) as response:
            assert (response.status, response.headers["Clear-Site-Data"]) == (303, '"cache", "storage"')
    assert len(control.completions) == 1
