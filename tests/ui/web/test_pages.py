"""The start page, the list of accounts and the sign-in page."""

from __future__ import annotations

import asyncio
import re
from html.parser import HTMLParser
from urllib.parse import quote

import pytest

from bridge.advice.diagnosis import Diagnosis
from bridge.control.contract import AccountState, ListenerStatus, Status
from bridge.control.remote import RemoteControl
from bridge.errors import LimitReached, ProviderRefused, ProviderUnavailable, StoreUnavailable
from bridge.secret import Secret
from tests.fakes_control import FakeControl, state_of
from tests.tokens.fakes import HandClock
from tests.ui.web.conftest import TOKEN, Browser, browsing, serving

ALICE = "alice@example.com"
OVER = "The administrator's session is over"
SCRIPT = '<script src="/console.js" defer></script>'
HOSTILE = "\"><script>alert('x')</script>@example.com"


async def test_the_start_page_says_what_it_is_and_names_no_account(browser: Browser) -> None:
    text = await browser.text("/")
    assert "mail-bridge" in text
    assert "127.0.0.1" in text
    assert "1143" in text
    assert "[::1]" in text
    assert "STARTTLS" in text
    assert 'name="address"' in text
    for hidden in (ALICE, "bob@", "pattern.example", "config.yaml"):
        assert hidden not in text


async def test_the_bridge_is_asked_once_for_all_who_open_the_start_page_meanwhile(
    browser: Browser, control: FakeControl, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With many accounts the bridge has to look each one up in its store, and logins wait meanwhile."""
    asked, may_answer = 0, asyncio.Event()
    status = control.status

    async def slow() -> Status:
        nonlocal asked
        asked += 1
        await may_answer.wait()
        clock.advance(5)  # longer than an answer is reused
        return await status()

    monkeypatch.setattr(control, "status", slow)
    async with asyncio.TaskGroup() as group:
        pages = [group.create_task(browser.text("/")) for _ in range(20)]
        for _ in range(200):
            await asyncio.sleep(0)
        may_answer.set()
    assert all("mail-bridge" in page.result() for page in pages)
    assert asked == 1
    clock.advance(2)
    await browser.text("/")
    assert asked == 2


async def test_the_form_of_the_start_page_leads_to_the_sign_in_page(browser: Browser) -> None:
    async with browser.get("/sign-in", params={"address": " Alice+x@example.com "}) as response:
        assert response.url.path == "/sign-in/Alice+x@example.com"
        assert response.status == 200
    async with browser.get("/sign-in", params={"address": "call 0900 now"}) as response:
        assert response.url.path == "/"


async def test_the_administrators_link_shows_the_list_and_leaves_the_address_bar(browser: Browser) -> None:
    async with browser.get(f"/admin/{TOKEN}", allow_redirects=False) as response:
        assert response.status == 303
        assert response.headers["Location"] == "/"
        cookie = response.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert TOKEN not in cookie
    text = await browser.text("/")
    assert ALICE in text
    assert "*@pattern.example" in text
    assert "/etc/mail-bridge/config.yaml" in text
    assert f'href="/sign-in/{ALICE}"' in text
    assert "javascript:" not in text  # the console makes the link itself, and does not use the status's URL


async def test_words_do_not_run_into_what_stands_behind_them(browser: Browser) -> None:
    """Jinja removes the line break after a block tag (trim_blocks)."""
    await browser.as_administrator()
    for path in ("/", "/welcome"):
        assert "once they have been used:\n<code>*@pattern.example</code>" in await browser.text(path)


async def test_the_administrators_link_on_a_page_of_another_site_leads_on_by_a_page_of_ours(browser: Browser) -> None:
    headers = {"Sec-Fetch-Site": "cross-site"}
    async with browser.get(f"/admin/{TOKEN}", headers=headers, allow_redirects=False) as response:
        assert response.status == 200  # a redirect would count as part of the other site's link, and lack the cookie
        assert "SameSite=Strict" in response.headers["Set-Cookie"]
        text = await response.text()
    assert '<meta http-equiv="refresh" content="0; url=/">' in text
    assert '<a class="button go" href="/">' in text
    assert TOKEN not in text
    assert ALICE in await browser.text("/")
    async with browser.get("/admin/wrong", headers=headers) as response:
        assert response.status == 403


async def test_a_link_for_one_browser_works_once_and_not_for_long(control: FakeControl, clock: HandClock) -> None:
    async with serving(control, clock) as browser, RemoteControl.opened(browser.base, Secret(TOKEN)) as remote:
        used, late = await remote.console_link(), await remote.console_link()
        assert TOKEN not in used
        async with browser.session.head(used) as response:  # as programs do that check or preview links
            assert response.status == 404
        async with browser.session.get(used) as response:
            assert ALICE in await response.text()
        async with browser.session.get(used) as response:
            assert response.status == 403
        clock.advance(61)
        async with browser.session.get(late) as response:
            assert response.status == 403


async def test_what_an_administrator_must_see_to_is_on_top_of_the_list_only(
    browser: Browser, control: FakeControl
) -> None:
    control.warnings = (Diagnosis.of("secret.tomorrow", provider="<office365>"),)
    assert "client secret" not in await browser.text("/")
    await browser.as_administrator()
    text = await browser.text("/")
    assert "The client secret of &lt;office365&gt; expires tomorrow; after that, nobody" in text
    assert text.index("client secret") < text.index(ALICE)


async def test_another_browser_still_sees_no_list(browser: Browser) -> None:
    await browser.as_administrator()
    async with browsing(browser.port) as other:
        assert ALICE not in await other.text("/")


async def test_the_administrators_session_ends(browser: Browser, clock: HandClock) -> None:
    await browser.as_administrator()
    clock.advance(8 * 3600 + 1)
    assert ALICE not in await browser.text("/")


@pytest.mark.parametrize("path", ["/", f"/accounts/{ALICE}", "/accounts/nobody@example.com", "/check", "/welcome"])
async def test_who_comes_back_after_the_administrators_session_reads_that_it_is_over(
    browser: Browser, clock: HandClock, path: str
) -> None:
    """Such as in the morning, in a tab from the day before."""
    assert OVER not in await browser.text(path)
    await browser.as_administrator()
    assert OVER not in await browser.text(path)
    clock.advance(8 * 3600 + 1)
    async with browser.get(path) as response:
        assert response.status == (200 if path == "/" else 404)
        text = await response.text()
    assert OVER in text
    assert "<code>mail-bridge console</code>" in text
    assert ALICE not in text


@pytest.mark.parametrize("token", ["wrong", TOKEN[:-1], TOKEN + "x", "%C3%A9", TOKEN.upper()])
async def test_a_wrong_link_opens_nothing(browser: Browser, token: str) -> None:
    async with browser.get(f"/admin/{token}") as response:
        assert response.status == 403
        assert "Set-Cookie" not in response.headers
    assert ALICE not in await browser.text("/")


async def test_a_made_up_cookie_opens_nothing(browser: Browser) -> None:
    for value in ("", TOKEN, "x" * 43):
        headers = {"Cookie": f"mail_bridge_admin_{browser.port}={value}"}
        async with browser.get("/", headers=headers) as response:
            assert ALICE not in await response.text()


async def test_the_list_shows_those_first_who_need_somebody(browser: Browser, control: FakeControl) -> None:
    control.states |= {ALICE: AccountState.READY, "zoe@example.com": AccountState.TROUBLE}
    control.states["aaron@example.com"] = AccountState.SIGN_IN
    control.details["zoe@example.com"] = "The mail server cannot be reached."
    await browser.as_administrator()
    text = await browser.text("/")
    assert re.findall(r'<strong><a href="/accounts/[^"]*">(.*?)</a></strong>', text) == [
        "zoe@example.com",
        "aaron@example.com",
        "bob@example.com",
        ALICE,
    ]
    assert "The mail server cannot be reached." in text
    assert all(word in text for word in ("1 ready", "1 in trouble", "2 sign-ins needed"))
    assert 'aria-label="Sign in again: zoe@example.com"' in text, "somebody has; that is not what is wrong"
    assert 'aria-label="Sign in: aaron@example.com"' in text
    control.states[ALICE] = AccountState.SIGN_IN
    async with browser.get("/", headers={"Accept-Language": "fr"}) as response:
        assert "3 connexions nécessaires" in await response.text()


async def test_each_page_is_small_also_with_many_accounts(browser: Browser, control: FakeControl) -> None:
    for number in range(1000):
        control.states[f"person.{number:04}@a-rather-long-name.example.com"] = AccountState.TROUBLE
        control.details[f"person.{number:04}@a-rather-long-name.example.com"] = "'<" * 1000
    await browser.as_administrator()
    async with browser.get("/") as response:
        assert len(await response.read()) < 100_000  # although every character of the texts is escaped
    control.details = dict.fromkeys(control.details, "The sign-in service cannot be reached just now. " * 20)
    account = "/accounts/person.0001@a-rather-long-name.example.com"
    for path in (
        "/",
        "/?page=2",
        "/?page=26",
        account,
        "/check",
        "/console.js",
        "/style.css",
        "/favicon.ico",
        f"/sign-in/{ALICE}",
        "/nowhere",
    ):
        async with browser.get(path) as response:
            assert len(await response.read()) < 50_000
    assert "Page 26 of 26" in await browser.text("/?page=999")
    for odd in ("0", "-1", "x", "²", "9" * 5000):
        assert "Page 1 of 26" in await browser.text(f"/?page={quote(odd)}")


async def test_an_account_is_found_by_some_of_its_letters(browser: Browser, control: FakeControl) -> None:
    for number in range(100):
        control.states[f"person.{number:02}@<b>&.example"] = AccountState.SIGN_IN
    await browser.as_administrator()
    assert 'name="find"' in await browser.text("/")
    text = await browser.text(f"/?find={quote(' SON.42@<B>& ')}")
    assert re.findall(r'<strong><a href="[^"]*">(.*?)</a>', text) == ["person.42@&lt;b&gt;&amp;.example"]
    assert "<b>" not in text
    assert 'name="find"' in text, "to look for another one"
    assert "sign-ins needed" not in text, "of those that were found"
    text = await browser.text(f"/?find={quote('@<b>&')}&page=2")
    assert "Page 2 of 3" in text
    assert text.count('<strong><a href="') == 40
    assert 'href="/?find=%40%3Cb%3E%26&amp;page=3"' in text
    assert "No account contains this text." in await browser.text("/?find=nobody")


async def test_a_short_list_has_nothing_to_find(browser: Browser) -> None:
    await browser.as_administrator()
    assert 'name="find"' not in await browser.text("/")


async def test_the_sign_in_page_looks_the_same_for_an_unknown_address(browser: Browser) -> None:
    known, unknown = await browser.text(f"/sign-in/{ALICE}"), await browser.text("/sign-in/nobody@example.com")
    assert known.replace(ALICE, "nobody@example.com") == unknown
    status, text = await browser.press("/sign-in/nobody@example.com")
    assert status == 404
    assert "not configured" in text


async def test_the_button_leads_to_the_provider(browser: Browser, control: FakeControl) -> None:
    control.authorization_url = "https://login.provider.example/a\"'<b>"
    status, text = await browser.press(f"/sign-in/{ALICE}")
    started = await control.begin_authorization(ALICE)
    assert status == 200
    assert control.states[ALICE] is AccountState.PENDING
    links = _Links(text)
    assert links.refresh == f"0; url={started.url}"
    assert started.url in links.targets
    assert "Continue to login.provider.example" in text
    assert "<b>" not in text


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)//CANARY", "javascript://CANARY.example/%0Aalert(1)", "https:///CANARY", "CANARY"]
)
async def test_a_sign_in_that_leads_to_no_web_page_is_not_followed(
    browser: Browser, control: FakeControl, url: str
) -> None:
    control.authorization_url = url
    status, text = await browser.press(f"/sign-in/{ALICE}")
    assert status == 503
    assert "CANARY" not in text


async def test_who_declines_is_told_for_which_address(browser: Browser, control: FakeControl) -> None:
    await browser.press(f"/sign-in/{ALICE}")
    state = state_of((await control.begin_authorization(ALICE)).url)
    text = await browser.text(f"/?error=access_denied&state={state}")
    assert f'href="/sign-in/{ALICE}"' in text


async def test_opening_the_page_begins_nothing(browser: Browser, control: FakeControl) -> None:
    await browser.text(f"/sign-in/{ALICE}")
    async with browser.session.head(f"{browser.base}/sign-in/{ALICE}") as response:
        assert response.status == 404
    assert control.states[ALICE] is AccountState.SIGN_IN


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "http://localhost:9999"},
        {"Origin": "null", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "null", "Sec-Fetch-Site": "same-site"},  # another port of localhost
    ],
)
async def test_a_form_of_another_site_begins_nothing(
    browser: Browser, control: FakeControl, headers: dict[str, str]
) -> None:
    status, text = await browser.press(f"/sign-in/{ALICE}", headers)
    assert status == 403
    assert "press the button once more" in text
    assert control.states[ALICE] is AccountState.SIGN_IN


async def test_a_form_without_its_cookie_or_its_field_begins_nothing(browser: Browser, control: FakeControl) -> None:
    for form in ({}, {"form": ""}, {"form": "0" * 64}, {"form": "é"}):
        async with browser.post(f"/sign-in/{ALICE}", data=form) as response:
            assert response.status == 403
    own = {"form": await browser.form(f"/sign-in/{ALICE}")}
    async with browser.post(f"/sign-in/{ALICE}", json=own) as response:  # no form at all
        assert response.status == 403
    async with browsing(browser.port) as other, other.post(f"/sign-in/{ALICE}", data=own) as response:
        assert response.status == 403
    assert control.states[ALICE] is AccountState.SIGN_IN
    async with browser.post(f"/sign-in/{ALICE}", data=own) as response:
        assert response.status == 200


async def test_two_tabs_work_side_by_side(browser: Browser, control: FakeControl) -> None:
    first = {"form": await browser.form(f"/sign-in/{ALICE}")}
    await browser.text("/sign-in/bob@example.com")
    async with browser.post(f"/sign-in/{ALICE}", data=first) as response:
        assert response.status == 200


async def test_trouble_at_the_provider_is_told_in_words(browser: Browser, control: FakeControl) -> None:
    for problem, words in (
        (ProviderUnavailable("no network"), "try again in a few minutes"),
        (LimitReached("1000 sign-ins are under way"), "1000 sign-ins are under way"),
        (ProviderRefused("the client secret has expired"), "please forward this text"),
    ):
        control.problem = problem
        status, text = await browser.press(f"/sign-in/{ALICE}")
        assert status == 503
        assert words in text
        assert str(problem) in text


async def test_peer_07_a_hostile_address_is_escaped_everywhere(browser: Browser, control: FakeControl) -> None:
    control.states[HOSTILE] = AccountState.TROUBLE
    control.details[HOSTILE] = HOSTILE
    await browser.as_administrator()
    status, leaving = await browser.press(f"/sign-in/{quote(HOSTILE, safe='')}")
    assert status == 200
    state = state_of((await control.begin_authorization(HOSTILE)).url)
    for text in ((await browser.text("/")).replace(SCRIPT, ""), leaving, await browser.text(f"/?code=c&state={state}")):
        assert "<script" not in text
        assert "&lt;script&gt;" in text


async def test_a_providers_text_that_is_no_unicode_spoils_no_page(browser: Browser, control: FakeControl) -> None:
    """JSON can contain half of a character (a lone surrogate)."""
    control.states[ALICE], control.details[ALICE] = AccountState.TROUBLE, "half of one: \ud83d."
    await browser.as_administrator()
    assert "half of one: ?." in await browser.text("/")


@pytest.mark.parametrize("address", ["Your bank: call 0900", "a" * 255, "a\x00b", "a\nb", "a‮b"])
async def test_sentences_of_strangers_are_no_addresses(browser: Browser, address: str) -> None:
    for method in ("GET", "POST"):
        async with browser.session.request(method, f"{browser.base}/sign-in/{quote(address, safe='')}") as response:
            assert response.status == 404
            assert "0900" not in await response.text()


async def test_a_status_that_cannot_be_had_is_told_briefly_to_the_public(
    browser: Browser, control: FakeControl
) -> None:
    control.problem = StoreUnavailable("/secret/place is locked")
    async with browser.get("/") as response:
        assert response.status == 503
        assert "/secret/place" not in await response.text()
    async with browser.get(f"/admin/{TOKEN}", allow_redirects=False):
        control.problem = StoreUnavailable("/secret/place is locked")
    assert "/secret/place is locked" in await browser.text("/")


async def test_the_public_page_asks_the_bridge_once_in_a_while(
    browser: Browser, control: FakeControl, clock: HandClock
) -> None:
    assert "1143" in await browser.text("/")
    control.listeners = (ListenerStatus("pop3", "0.0.0.0:1110", "implicit", 0),)
    assert "1143" in await browser.text("/")
    clock.advance(3)
    text = await browser.text("/")
    assert "the name of this computer" in text
    assert "SSL/TLS" in text


async def test_each_page_is_accessible_and_needs_nothing_from_elsewhere(browser: Browser, control: FakeControl) -> None:
    pages = [await browser.text(path) for path in ("/", f"/sign-in/{ALICE}", "/nowhere", "/admin/x")]
    pages.append((await browser.press(f"/sign-in/{ALICE}"))[1])
    pages.append(await browser.text(f"/?code=c&state={state_of((await control.begin_authorization(ALICE)).url)}"))
    await browser.as_administrator()
    ours = [await browser.text(path) for path in ("/", f"/accounts/{ALICE}")]
    pages += [text.replace(SCRIPT, "") for text in ours]
    assert [text.count(SCRIPT) for text in ours] == [1, 1]
    pages += [await browser.text(path) for path in (f"/accounts/{ALICE}/forget", "/check")]
    for text in pages:
        assert '<html lang="en">' in text
        assert text.count("<h1") == 1
        assert "<main" in text
        assert "<script" not in text
        assert " style=" not in text
        assert set(_Links(text).resources) == {"/style.css", "/favicon.ico"}
        assert not re.search(r"\n\n\n", text)
    assert '<label for="address">' in pages[0]


class _Links(HTMLParser):
    """Collects what a page refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: list[str | None] = []
        self.resources: list[str | None] = []
        self.refresh: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "a":
            self.targets.append(given["href"])
        if tag in {"link", "img"}:
            self.resources.append(given.get("href", given.get("src")))
        if given.get("http-equiv") == "refresh":
            self.refresh = given["content"]
