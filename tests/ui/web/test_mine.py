"""What the console says about a person's own accounts without a token: to whose programs, and how much."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from bridge.accounts.sign_in_prompts import SignInPrompts
from bridge.clock import SystemClock
from bridge.control import own, wire
from bridge.control.contract import AccountState
from bridge.control.own import HEADER, REST_SECONDS, OwnView, Prompts, connect_own
from bridge.control.remote import BridgeNotRunning, loopback_session
from bridge.model import Account, Caller, Ends, SignInPrompt
from bridge.notices import Notice
from bridge.ui.tray.tray import Administered
from bridge.ui.web import mine
from bridge.ui.web.mine import SHARE
from tests.clocks import ManualClock
from tests.fakes_control import FakeControl
from tests.ui.web.conftest import Browser, serving

ALICE, BOB, HASH = "alice@example.com", "bob@example.com", "a#b+c@example.com"
ME, COLLEAGUE = "1000", "1001"
ASKING = {HEADER: "tray"}


class Counted(SignInPrompts):
    """Calls `on_asked` for each request about somebody's accounts."""

    on_asked: Callable[[], None]

    def change_of(self, user_id: str) -> asyncio.Event:
        self.on_asked()
        return super().change_of(user_id)


class House:
    """A console that takes every connection for one from `caller`."""

    def __init__(self) -> None:
        self.control = FakeControl(ALICE, BOB, HASH)
        self.caller = Caller("me", ME)
        self.asked, self.came = 0, asyncio.Event()
        self.prompts = Counted(self.find, self.is_pending, self.caller_of, SystemClock())
        self.prompts.on_asked = self.note
        self.control.bus.on_notice(lambda notice: self.prompts.heard(getattr(notice, "address", "")))

    def find(self, address: str) -> Account | None:
        return Account(address, "own", address, {}) if address in self.control.states else None

    async def is_pending(self, account: Account, asker: str) -> bool | None:
        state = self.control.states[account.address]
        return None if state is AccountState.READY else state is AccountState.PENDING

    async def caller_of(self, ends: Ends | None) -> Caller:
        assert ends is not None
        return self.caller

    def note(self) -> None:
        self.asked += 1
        self.came.set()

    async def until_asked(self, times: int) -> None:
        while self.asked < times:
            self.came.clear()
            await self.came.wait()

    def sign_in(self, address: str) -> None:
        self.control.states[address] = AccountState.READY
        self.prompts.heard(address)


@pytest.fixture
def house() -> House:
    return House()


@pytest.fixture
async def browser(house: House) -> AsyncIterator[Browser]:
    async with serving(house.control, attendants=house.prompts) as found:
        yield found


@asynccontextmanager
async def view_of(browser: Browser) -> AsyncIterator[OwnView]:
    async with connect_own(browser.base) as found:
        assert found is not None
        yield found


async def waiting(browser: Browser) -> list[tuple[str, str, str]]:
    async with view_of(browser) as view:
        status = await view.status()
    return [(account.address, account.state.value, account.sign_in_url) for account in status.accounts]


# --- whose ----------------------------------------------------------------------------------------------------------


async def test_only_what_my_own_programs_asked_for(house: House, browser: Browser) -> None:
    assert await waiting(browser) == []
    house.prompts.note(ME, ALICE, "crm")
    house.prompts.note(COLLEAGUE, BOB, "crm")
    assert await waiting(browser) == [(ALICE, "sign-in", f"http://localhost:{browser.port}/sign-in/{ALICE}")]
    async with browser.get("/mine", headers=ASKING) as response:
        assert BOB not in await response.text()
        (told,) = (await response.json())["accounts"]
        assert set(told) == {"address", "is_pending", "program", "seconds"}
        assert not {name.lower() for name in response.headers} & {"set-cookie", "location"}
    house.caller = Caller("colleague", COLLEAGUE)
    assert [address for address, _, _ in await waiting(browser)] == [BOB]
    house.caller = Caller("stranger", "1002")
    assert await waiting(browser) == []
    house.caller, house.control.states[ALICE] = Caller("me", ME), AccountState.PENDING
    assert [state for _, state, _ in await waiting(browser)] == ["pending"]


async def test_who_is_not_known_gets_no_answer(house: House, browser: Browser) -> None:
    house.prompts.note(ME, ALICE, "crm")
    house.caller = Caller(unknown="the system does not tell whose it is")
    async with browser.get("/mine", headers=ASKING) as response:
        assert (response.status, await response.text()) == (404, "")
    async with connect_own(browser.base) as found:
        assert found is None
    async with loopback_session() as session:
        with pytest.raises(BridgeNotRunning):
            await OwnView(session, browser.base, SystemClock(), lambda: False).status()


async def test_a_console_without_mail_programs_gives_none() -> None:
    async with serving(FakeControl(ALICE)) as browser, browser.get("/mine", headers=ASKING) as response:
        assert response.status == 404


# --- who may not, though it is my program ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {HEADER: "other"},
        ASKING | {"Origin": "http://evil.example"},
        ASKING | {"Origin": "null"},
        ASKING | {"Sec-Fetch-Site": "cross-site"},
        ASKING | {"Sec-Fetch-Site": "same-site"},
        ASKING | {"Sec-Fetch-Site": "same-origin"},
        ASKING | {"Host": "evil.example:3017"},
        ASKING | {"Host": "localhost"},
    ],
)
async def test_a_page_in_my_browser_cannot_read_it(house: House, browser: Browser, headers: dict[str, str]) -> None:
    house.prompts.note(ME, ALICE, "crm")
    async with browser.get("/mine", headers=headers) as response:
        assert (response.status, await response.text()) == (404, "")
        assert "Access-Control-Allow-Origin" not in response.headers


async def test_no_page_is_allowed_to_send_our_header(browser: Browser) -> None:
    asked = {"Origin": "http://evil.example", "Access-Control-Request-Headers": HEADER}
    asked["Access-Control-Request-Method"] = "GET"
    async with browser.session.options(browser.base + "/mine", headers=asked) as response:
        assert response.status == 404
        assert not [name for name in response.headers if name.lower().startswith("access-control")]


async def test_it_is_only_read(browser: Browser) -> None:
    async with browser.post("/mine", headers=ASKING) as response:
        assert response.status == 404


# --- news -----------------------------------------------------------------------------------------------------------


async def next_of(notices: AsyncIterator[Notice]) -> Notice:
    return await anext(notices)


async def test_news_arrive_when_they_happen(house: House, browser: Browser) -> None:
    clock = ManualClock()
    async with loopback_session() as session:
        notices = OwnView(session, browser.base, clock, lambda: False).notices()
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            following = group.create_task(next_of(notices))
            await clock.until_asleep()
            clock.advance(2)
            await house.until_asked(2)
            house.prompts.note(COLLEAGUE, BOB, "crm")
            house.prompts.note(ME, HASH, "crm")
            await following
            assert await waiting(browser) == [
                (HASH, "sign-in", f"http://localhost:{browser.port}/sign-in/a%23b%2Bc@example.com")
            ]
            following = group.create_task(next_of(notices))
            await clock.until_asleep()
            house.sign_in(HASH)
            clock.advance(2)
            await following
            assert await waiting(browser) == []
        assert isinstance(notices, AsyncGenerator)
        await notices.aclose()


async def test_a_sign_in_that_begins_or_is_given_up_is_news(house: House, browser: Browser) -> None:
    house.prompts.note(ME, ALICE, "crm")
    async with view_of(browser) as view:
        tags = []
        for state in (AccountState.SIGN_IN, AccountState.PENDING, AccountState.SIGN_IN):
            house.control.states[ALICE] = state
            tags.append((await view._ask("")).tag)
    assert tags[0] != tags[1]
    assert tags[0] == tags[2]


async def test_no_news_are_no_notice(house: House, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mine, "PATIENCE", 0.0)
    clock = ManualClock()
    async with loopback_session() as session, asyncio.timeout(60), asyncio.TaskGroup() as group:
        notices = OwnView(session, browser.base, clock, lambda: False).notices()
        following = group.create_task(next_of(notices))
        for _ in range(3):
            await clock.until_asleep()
            assert not following.done()
            clock.advance(REST_SECONDS)
        await clock.until_asleep()
        house.prompts.note(ME, ALICE, "crm")
        clock.advance(REST_SECONDS)
        await following
        assert isinstance(notices, AsyncGenerator)
        await notices.aclose()


async def test_the_trays_patience_is_longer_than_the_consoles(
    house: House, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with view_of(browser) as view:
        tag = (await view._ask("")).tag
        monkeypatch.setattr(own, "HELLO_SECONDS", 0.01)
        monkeypatch.setattr(mine, "PATIENCE", 0.1)
        assert (await view._ask(tag)).tag == tag
    assert not house.prompts._changes, "nothing is left of who has waited"


async def test_who_asks_too_often_does_not_wait(house: House, browser: Browser) -> None:
    tag = ""

    async def ask() -> str:
        async with browser.get(f"/mine?seen={tag}", headers=ASKING) as response:
            return str((await response.json())["tag"])

    assert SHARE == 8
    for address in (ALICE, BOB):  # twice, because requests that were answered must free their places
        tag = await ask()
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            asked = [group.create_task(ask()) for _ in range(SHARE + 1)]
            done, waiting_on = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            assert [task.result() for task in done] == [tag]
            assert len(waiting_on) == SHARE
            house.prompts.note(ME, address, "crm")
        assert {task.result() for task in waiting_on} != {tag}


async def test_all_users_together_let_no_more_than_so_many_questions_wait(
    house: House, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert mine.WAITING == 512
    monkeypatch.setattr(mine, "WAITING", 2)
    async with loopback_session() as session, asyncio.timeout(20), asyncio.TaskGroup() as group:
        view = OwnView(session, browser.base, SystemClock(), lambda: False)
        tag = (await view._ask("")).tag
        waiting_on = []
        for number in range(2):
            house.caller = Caller("somebody", str(number))
            waiting_on.append(group.create_task(view._ask(tag)))
            await house.until_asked(2 + number)
        house.caller = Caller("one more", "2")
        assert (await view._ask(tag)).tag == tag, "at once: nothing has happened"
        assert not any(task.done() for task in waiting_on)
        for number in range(2):
            house.prompts.note(str(number), ALICE, "crm")


async def test_a_console_that_stops_lets_nobody_wait(house: House) -> None:
    async with loopback_session() as session, asyncio.timeout(20), asyncio.TaskGroup() as group:
        async with serving(house.control, attendants=house.prompts) as browser:
            view = OwnView(session, browser.base, SystemClock(), lambda: False)
            tag = (await view._ask("")).tag
            asked = group.create_task(view._ask(tag))
            await house.until_asked(2)
        assert (await asked).tag == tag


async def test_a_console_that_stops_forgets_nobody_who_waits_beside_one_that_has_gone(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two trays of one person wait for the same event."""
    monkeypatch.setattr(mine, "PATIENCE", 30.0)
    async with loopback_session() as session, asyncio.TaskGroup() as group:
        async with serving(house.control, attendants=house.prompts) as browser:
            view = OwnView(session, browser.base, SystemClock(), lambda: False)
            tag = (await view._ask("")).tag
            asked = group.create_task(view._ask(tag))
            await house.until_asked(2)
            monkeypatch.setattr(mine, "PATIENCE", 0.0)
            assert (await view._ask(tag)).tag == tag
        assert (await asked).tag == tag  # otherwise the server would cut the connection at the end of PATIENCE


# --- the tray's side ------------------------------------------------------------------------------------------------


async def test_it_is_no_administrators_view_and_ends_when_there_is_a_better_one(browser: Browser) -> None:
    is_over = False
    async with connect_own(browser.base, lambda: is_over) as view:
        assert view is not None
        assert not isinstance(view, Administered)
        await view.status()
        is_over = True
        with pytest.raises(BridgeNotRunning):
            await view.status()


async def test_a_bridge_that_has_gone_is_not_running(house: House) -> None:
    async with serving(house.control, attendants=house.prompts) as browser:
        base = browser.base
    async with connect_own(base) as found:
        assert found is None
    async with loopback_session() as session:
        with pytest.raises(BridgeNotRunning, match="is it running"):
            await OwnView(session, base, SystemClock(), lambda: False).status()


async def test_whoever_takes_the_question_and_hangs_up_is_not_running() -> None:
    beginnings = [b"", b"220 mail.example ESMTP\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"]

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(beginnings.pop() if beginnings else b"")  # aiohttp may repeat a request that got no answer
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server, loopback_session() as session:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        while beginnings:
            with pytest.raises(BridgeNotRunning):
                await OwnView(session, url, SystemClock(), lambda: False).status()


async def test_it_asks_on_this_machine_only() -> None:
    async with loopback_session() as session:
        with pytest.raises(ValueError, match="only ever asked on this machine"):
            OwnView(session, "http://mail.example:3017", SystemClock(), lambda: False)


class Impostor:
    """A colleague's program that listens on the console's port while the service is down."""

    def __init__(self, *prompts: SignInPrompt) -> None:
        self.heard: list[tuple[str, dict[str, str]]] = []
        self.prompts = prompts
        self.more = ""
        self.elsewhere = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.heard.append((request.path_qs, {name.lower(): value for name, value in request.headers.items()}))
        if self.elsewhere:
            raise web.HTTPFound(self.elsewhere)
        told = wire.dumps(wire.encode(Prompts(self.prompts, "tag")))
        return web.Response(text=told + self.more, content_type="application/json")

    @asynccontextmanager
    async def at_a_port(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


HOSTILE = ("x@evil.example/../../?", "@evil.example:80/", "//evil.example", "a b\r\nX: y@x", "https://evil.example")


async def test_whoever_listens_there_is_told_nothing_and_names_no_page_but_that_ports_own() -> None:
    impostor = Impostor(*(SignInPrompt(address, False, "https://evil.example", 1.0) for address in HOSTILE))
    async with impostor.at_a_port() as url, connect_own(url) as view:
        assert view is not None
        pages = [account.sign_in_url for account in (await view.status()).accounts]
    port = url.rpartition(":")[2]
    assert len(pages) == len(HOSTILE)
    for page in pages:
        assert page.startswith(f"http://localhost:{port}/sign-in/")
        assert not set(page.removeprefix(f"http://localhost:{port}/sign-in/")) & set("/?# :\r\n")
    for path, headers in impostor.heard:
        assert path == "/mine"
        assert set(headers) <= {"host", "accept", "accept-encoding", "user-agent", HEADER.lower()}


async def test_it_follows_nobody_elsewhere_and_takes_no_endless_answer() -> None:
    async with Impostor().at_a_port() as good:
        impostor = Impostor()
        impostor.elsewhere = f"{good}/mine"
        async with impostor.at_a_port() as url, connect_own(url) as view:
            assert view is None
        impostor.elsewhere, impostor.more = "", " " * (64 * 1024)
        async with impostor.at_a_port() as url, connect_own(url) as view:
            assert view is None, "an answer of more than 64 KiB"
