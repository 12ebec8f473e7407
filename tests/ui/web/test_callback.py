"""The redirect: the right answer is accepted once, and nothing else is."""

from __future__ import annotations

import asyncio
import io
import re
from urllib.parse import quote, urlencode

import pytest

from bridge.advice.diagnosis import Diagnosis
from bridge.advice.said import said
from bridge.control.contract import AccountState
from bridge.control.remote import RemoteControl
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
from bridge.secret import Secret
from tests.fakes_control import FakeControl, state_of
from tests.tokens.fakes import HandClock
from tests.ui.web.conftest import TOKEN, Browser

ALICE = "alice@example.com"


async def begun(control: FakeControl) -> str:
    return state_of((await control.begin_authorization(ALICE)).url)


async def test_a_sign_in_by_get_ends_on_a_page_without_code_or_state(browser: Browser, control: FakeControl) -> None:
    state = await begun(control)
    query = urlencode({"code": "CANARY/co+de=", "state": state, "session_state": "s", "hd": "example.com"})
    async with browser.get(f"/?{query}") as response:
        text = await response.text()
    assert response.status == 200
    assert response.url.path.startswith("/done/")
    assert "CANARY" not in str(response.url) + text
    assert state not in str(response.url) + text
    assert f"<strong>{ALICE}</strong> is signed in. You can close this page." in text
    assert control.completions == [{"code": "CANARY/co+de=", "state": state, "session_state": "s", "hd": "example.com"}]
    assert control.states[ALICE] is AccountState.READY


async def test_a_sign_in_by_form_post_from_the_providers_page_works(browser: Browser, control: FakeControl) -> None:
    form = {"code": "CANARY-code", "state": await begun(control), "client_info": "x"}
    headers = {"Origin": "https://login.microsoftonline.com", "Sec-Fetch-Site": "cross-site"}
    async with browser.post("/", data=form, headers=headers) as response:
        assert response.status == 200
        assert "is signed in" in await response.text()
    assert control.completions == [form]


async def test_the_result_may_be_reloaded_until_it_expires(
    browser: Browser, control: FakeControl, clock: HandClock
) -> None:
    async with browser.get(f"/?code=CANARY-c&state={await begun(control)}") as response:
        path = response.url.path
    assert "is signed in" in await browser.text(path)
    clock.advance(601)
    async with browser.get(path) as response:
        assert response.status == 404


async def test_only_the_newest_100_results_are_kept(browser: Browser, control: FakeControl) -> None:
    paths = []
    for _ in range(101):
        async with browser.get(f"/?code=CANARY-c&state={await begun(control)}", allow_redirects=False) as response:
            paths.append(response.headers["Location"])
    statuses = []
    for path in (paths[0], paths[1], paths[100]):
        async with browser.get(path) as response:
            statuses.append(response.status)
    assert statuses == [404, 200, 200]


async def test_an_answer_works_once(browser: Browser, control: FakeControl) -> None:
    path = f"/?code=CANARY-c&state={await begun(control)}"
    await browser.text(path)
    async with browser.get(path) as response:
        assert response.status == 404
        assert "This sign-in is over" in await response.text()
    assert control.states[ALICE] is AccountState.READY


async def test_who_comes_back_to_a_bridge_that_was_restarted_is_told_that_this_may_be_why(browser: Browser) -> None:
    text = await browser.text("/?code=CANARY-c&state=of-the-bridge-before")
    assert "was not started here, or mail-bridge has been restarted since. Nothing has changed." in text


async def test_a_page_that_is_reloaded_while_the_sign_in_is_completed_gets_its_result(
    browser: Browser, control: FakeControl
) -> None:
    path = f"/?code=CANARY-c&state={await begun(control)}"
    control.gate.clear()  # redeeming the code and trying the mail servers can take half a minute on a bad day
    async with asyncio.TaskGroup() as group:
        first = group.create_task(browser.text(path))
        while not control.completions:
            await asyncio.sleep(0)
        first.cancel()
    reader, writer = await asyncio.open_connection("127.0.0.1", browser.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost:{browser.port}\r\nConnection: close\r\n\r\n".encode())
    async with browser.get(path.replace("CANARY-c", "CANARY-guess")) as response:  # somebody who knows only the state
        assert "This sign-in is over" in await response.text()
    control.gate.set()
    head = (await reader.read()).decode()
    writer.close()
    assert "303 See Other" in head
    (page,) = re.findall(r"Location: (/done/\S+)", head)
    assert "is signed in" in await browser.text(page)
    assert [each["code"] for each in control.completions] == ["CANARY-c", "CANARY-guess"]


async def test_a_page_whose_code_has_not_gone_out_is_reloaded_and_gets_its_result(
    browser: Browser, control: FakeControl
) -> None:
    state = await begun(control)
    later = Diagnosis.of("sign_in.not_asked", said("{host} refuses the connection.", host="a.example"), seconds="7")
    for code in ("CANARY-c", "CANARY-c"):
        control.problem, control.goes_on = ProviderNotAsked(later.told(), diagnosis=later), True
        async with browser.get(f"/?code={code}&state={state}") as response:
            text = await response.text()
        assert response.status == 503
        assert "reload the page in 7 seconds" in text
        assert "a.example refuses the connection." in text
        assert "No action is needed" not in text
        assert "CANARY" not in text
    assert control.states[ALICE] is AccountState.PENDING
    assert "is signed in" in await browser.text(f"/?code=CANARY-c&state={state}")


async def test_an_answer_that_comes_too_late_changes_nothing_and_offers_a_new_start(
    browser: Browser, control: FakeControl, clock: HandClock
) -> None:
    await browser.press(f"/sign-in/{ALICE}")
    state = await begun(control)
    clock.advance(601)
    async with browser.get(f"/?code=CANARY-c&state={state}") as response:
        assert response.status == 404
        assert f'href="/sign-in/{ALICE}"' in await response.text()
    assert control.states[ALICE] is AccountState.PENDING


async def test_a_sign_in_whose_time_is_over_while_it_is_completed_has_come_too_late(
    browser: Browser, control: FakeControl
) -> None:
    state = await begun(control)
    control.problem = AuthorizationFailed("It has taken too long.", code="expired")
    async with browser.get(f"/?code=CANARY-c&state={state}") as response:
        assert response.status == 404
        assert "This sign-in is over" in await response.text()


async def test_a_sign_in_that_another_program_has_begun_is_known_by_its_address(
    browser: Browser, control: FakeControl, clock: HandClock
) -> None:
    async with RemoteControl.opened(browser.base, Secret(TOKEN)) as remote:
        state = state_of((await remote.begin_authorization(ALICE)).url)
    clock.advance(601)
    assert f'href="/sign-in/{ALICE}"' in await browser.text(f"/?code=CANARY-c&state={state}")


@pytest.mark.parametrize(
    "query",
    [
        "code=CANARY-c",
        "code=CANARY-c&state=",
        "state={state}",
        "error=access_denied",
        "code=a&code=b&state={state}",
        "code=a&state={state}&state={state}",
        "code=%FF&state={state}",
        "code=" + "x" * 17_000 + "&state={state}",
    ],
)
async def test_what_is_no_answer_of_a_provider_never_reaches_the_bridge(
    browser: Browser, control: FakeControl, query: str
) -> None:
    state = await begun(control)
    async with browser.get("/?" + query.format(state=state)) as response:
        assert response.status == (200 if "%FF" in query else 404)  # not UTF-8: as if there were no parameters
    assert control.completions == []
    async with browser.get(f"/?code=CANARY-c&state={state}") as response:
        assert "is signed in" in await response.text()


async def test_an_error_without_a_state_is_explained_in_our_words_and_changes_nothing(
    browser: Browser, control: FakeControl
) -> None:
    """league/oauth2-server before its version 9 sends people back like this if it does not know a requested scope."""
    state = await begun(control)
    theirs = "&error_description=WIN+a+prize&hint=WIN&message=WIN"
    for error, ours in (("invalid_scope", "one of the `scopes`"), ("access_denied", "was declined")):
        async with browser.get(f"/?error={error}{theirs}") as response:
            assert response.status == 404
            shown = re.sub(r"</?code>", "`", await response.text())
        assert "The sign-in did not succeed" in shown
        assert ours in shown
        assert "WIN" not in shown
    for query in (f"error=invented{theirs}", f"error=invalid_scope&state={theirs}"):
        async with browser.get(f"/?{query}") as response:
            assert response.status == 404
            assert "There is nothing here" in await response.text()
    assert control.completions == []
    assert control.states[ALICE] is AccountState.PENDING
    assert "is signed in" in await browser.text(f"/?code=CANARY-c&state={state}")


async def test_parameters_that_oauth_does_not_define_are_not_passed_on(browser: Browser, control: FakeControl) -> None:
    state = await begun(control)
    await browser.text(f"/?code=CANARY-c&state={state}&address=bob@example.com&x=1&x=2")
    assert control.completions == [{"code": "CANARY-c", "state": state}]


async def test_a_forged_state_changes_nothing(browser: Browser, control: FakeControl) -> None:
    state = await begun(control)
    async with browser.get("/?code=CANARY-c&state=forged") as response:
        assert response.status == 404
    async with browser.post("/", data={"error": "access_denied", "state": state[:-1]}) as response:
        assert response.status == 404
    assert control.states[ALICE] is AccountState.PENDING
    async with browser.get(f"/?code=CANARY-c&state={state}") as response:
        assert "is signed in" in await response.text()


@pytest.mark.parametrize(
    "header",
    [
        {"Sec-Purpose": "prefetch"},
        {"Sec-Purpose": "prefetch;prerender"},
        {"Sec-Purpose": "prerender"},
        {"Purpose": "Prefetch"},
        {"X-Moz": "prefetch"},
        {"X-Purpose": "preview"},
    ],
)
async def test_head_and_prefetch_change_nothing(browser: Browser, control: FakeControl, header: dict[str, str]) -> None:
    path = f"/?code=CANARY-c&state={await begun(control)}"
    async with browser.session.head(browser.base + path) as response:
        assert response.status == 404
    async with browser.get(path, headers=header) as response:
        assert response.status == 404
    assert control.completions == []
    async with browser.get("/favicon.ico") as response:
        assert response.status == 200
    assert "is signed in" in await browser.text(path)


async def test_trap_24_peer_05_a_thousand_stray_requests_do_not_disturb_a_sign_in(
    browser: Browser, control: FakeControl
) -> None:
    path = f"/?code=CANARY-c&state={await begun(control)}"
    stray = ["/favicon.ico", "/robots.txt", "/?code=CANARY-x&state=stray", "/done/x", "/?error=x", "/.env?state=1", "/"]

    async def disturb(start: int) -> None:
        for number in range(start, start + 20):
            async with browser.get(stray[number % len(stray)]) as response:
                assert response.status in {200, 404}

    async with asyncio.TaskGroup() as group:
        for start in range(0, 1000, 20):
            group.create_task(disturb(start))
    assert "is signed in" in await browser.text(path)


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (
            AuthorizationFailed("bob@example.com has signed in, not alice@example.com.", code="wrong_person"),
            ["Somebody else has signed in", "bob@example.com has signed in, not alice@example.com."],
        ),
        (AuthorizationFailed("Leave every box ticked.", code="missing_scope"), ["Leave every box ticked."]),
        (AuthorizationFailed("It was cancelled.", code="cancelled"), ["did not succeed", "It was cancelled."]),
        (ProviderUnavailable("timed out"), ["does not answer", "in a few minutes", "timed out"]),
        (ProviderRefused("AADSTS7000222 secret expired"), ["administrator must act", "AADSTS7000222 secret expired"]),
        (UpstreamUnavailable("no route"), ["The mail server does not answer", "no route"]),
        (
            UpstreamRefused("IMAP is disabled"),  # no id_token says who signed in: usually it was somebody else
            ["refuses this account", "with another account", "forward this text", "IMAP is disabled"],
        ),
        (
            StoreUnavailable("locked keyring"),
            ["could not be saved", "The token store cannot be opened", "locked keyring"],
        ),
        (LimitReached("too many"), ["did not succeed", "too many"]),
    ],
)
async def test_peer_06_each_failure_has_a_page_that_names_the_account_and_what_to_do(
    browser: Browser, control: FakeControl, problem: BridgeError, words: list[str]
) -> None:
    await browser.press(f"/sign-in/{ALICE}")  # so that the console knows whose sign-in it is
    state = await begun(control)
    control.problem = problem
    async with browser.get(f"/?code=CANARY-c&state={state}") as response:
        text = await response.text()
    assert response.url.path.startswith("/done/")
    assert all(word in text for word in words), text
    assert f'href="/sign-in/{ALICE}">Try again for {ALICE}<' in text
    assert control.states[ALICE] is AccountState.SIGN_IN


async def test_a_sign_in_that_waits_for_the_store_asks_nobody_to_sign_in_again(
    browser: Browser, control: FakeControl
) -> None:
    await browser.press(f"/sign-in/{ALICE}")
    state = await begun(control)
    control.problem = SignInUnsaved("the disk is full")
    text = await browser.text(f"/?code=CANARY-c&state={state}")
    for words in (
        "has not been saved yet",
        ALICE,
        "the disk is full",
        "Nobody needs to sign in again",
        "forward this text",
    ):
        assert words in text
    assert "Try again" not in text


async def test_a_declined_consent_is_told_so_even_if_it_was_not_begun_here(
    browser: Browser, control: FakeControl
) -> None:
    text = await browser.text(f"/?error=access_denied&state={await begun(control)}")
    assert "The sign-in was declined" in text
    assert "Try again for" not in text


async def test_a_hostile_error_text_is_escaped(browser: Browser, control: FakeControl) -> None:
    hostile = "<script>alert(1)</script>\"'{{ 7*7 }}"
    text = await browser.text(f"/?error={quote(hostile)}&state={await begun(control)}")
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&#34;&#39;{{ 7*7 }}" in text


async def test_other_kinds_of_bodies_are_no_answer(browser: Browser, control: FakeControl) -> None:
    state = await begun(control)
    bodies = [
        (b'{"code":"CANARY-c"}', "application/json"),
        (f"code=CANARY-c&state={state}".encode(), "text/plain"),
        (b"--x\r\n", "multipart/form-data; boundary=x"),
        (b"code=CANARY-\xff", "application/x-www-form-urlencoded"),
    ]
    for body, kind in bodies:
        async with browser.post("/", data=body, headers={"Content-Type": kind}) as response:
            assert response.status == 404
    async with browser.post("/", data={"code": "x" * 70_000, "state": state}) as response:
        assert response.status == 413
    assert control.completions == []


async def test_no_code_reaches_the_log(browser: Browser, control: FakeControl, log: io.StringIO) -> None:
    state = await begun(control)
    await browser.text(f"/?code=CANARY-c&state={state}")
    await browser.text("/?code=CANARY-c&state=CANARY-state")
    assert "console.sign_in_returned" in log.getvalue()
    assert "CANARY" not in log.getvalue()
    assert state not in log.getvalue()
