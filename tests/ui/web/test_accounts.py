"""The administrator's page about one account, and what its buttons do."""

from __future__ import annotations

import io
import re
import time

import pytest
from markupsafe import escape
from yarl import URL

from bridge.advice.base import Turn
from bridge.advice.diagnosis import Diagnosis
from bridge.advice.said import said
from bridge.control.contract import AccountState, Leftover, ListenerStatus, ProtocolCheck, SignOut
from bridge.errors import StoreUnavailable
from bridge.model import PASSWORD_OVERLAP
from bridge.secret import Secret
from bridge.ui.web.accounts import account_path
from bridge.ui.web.callback import sign_in_path
from bridge.ui.web.wording import moment
from tests.fakes_control import FakeControl
from tests.tokens.fakes import HandClock
from tests.ui.web.conftest import Browser, Buttons, browsing

ALICE = "alice@example.com"
CAROL = "carol@pattern.example"
PAGE = f"/accounts/{ALICE}"
SMTP_OFF = Diagnosis.of("mail.smtp_off_mailbox", "535 5.7.139 <no>", mailbox=ALICE)
ACTIONS = ("password", "rotate", "check", "forget")
FRENCH = {"Accept-Language": "fr"}


async def press(
    browser: Browser,
    action: str,
    form: str | None = None,
    page: str = PAGE,
    tick: str = "",
    **headers: str,
) -> tuple[int, str, str]:
    """Press one of the page's buttons, perhaps with a box ticked. Returns: status, path and text of the next page."""
    shown = Buttons(await browser.text(f"{page}/forget" if action == "forget" else page))
    data = {**shown.sent.get(f"{page}/{action}", {})} if form is None else {"form": form}
    if tick:
        data[tick] = shown.boxes[tick]
    async with browser.post(f"{page}/{action}", data=data, headers={"Origin": "null", **headers}) as answer:
        return answer.status, answer.url.path, await answer.text()


LAST_TRIED = 1_790_000_000.0


async def test_the_page_says_who_signed_in_and_whose_turn_it_is(browser: Browser, control: FakeControl) -> None:
    control.states[ALICE] = AccountState.TROUBLE
    control.details[ALICE] = SMTP_OFF.told()
    control.diagnoses[ALICE] = SMTP_OFF
    control.checks[ALICE] = (
        ProtocolCheck("imap", True),
        ProtocolCheck("smtp", False, Turn.TENANT_ADMIN, SMTP_OFF.told(), SMTP_OFF, failed_at=LAST_TRIED),
    )
    await browser.as_administrator()
    text = await browser.text(PAGE)
    assert text.count(f"Last tried: {moment(LAST_TRIED)}") == 1
    assert f"<dt>Signed in as</dt><dd>{ALICE}</dd>" in text
    assert "Somebody has signed in, but the last attempt" in text
    assert "Opens the mailbox." in text
    assert text.count("535 5.7.139 &lt;no&gt;") == 2  # as the last error, and beside the mail server
    assert "Who must act: your organization&#39;s mail administrator" in text
    assert text.count("Please forward this to your organization&#39;s mail administrator.") == 2
    assert f'class="button quiet" href="/sign-in/{ALICE}">Sign in again</a>' in text, "it is nobody's turn to do that"


async def test_the_page_does_not_say_that_mail_programs_get_in_where_a_mail_server_lets_none(
    browser: Browser, control: FakeControl
) -> None:
    """A mail server's answer to a trial login does not change the account's state, because POP3 may be switched off on
    purpose."""
    control.states[ALICE] = AccountState.READY
    control.checks[ALICE] = (
        ProtocolCheck("imap", True),
        ProtocolCheck("smtp", False, Turn.TENANT_ADMIN, "no", SMTP_OFF),
    )
    await browser.as_administrator()
    text = await browser.text(PAGE)
    assert "Mail programs get in" not in text
    assert "Somebody has signed in, but not every mail server opened the mailbox when last tried: see below." in text
    control.checks[ALICE] = (ProtocolCheck("imap", True), ProtocolCheck("smtp", True))
    assert "Mail programs get in with the local password." in await browser.text(PAGE)


async def test_before_the_sign_in_the_page_says_who_must(browser: Browser, control: FakeControl) -> None:
    await browser.as_administrator()
    text = await browser.text(PAGE)
    assert f"<dt>Who must sign in</dt><dd>{ALICE}</dd>" in text
    assert "Signed in as" not in text
    assert "Mail programs are refused until somebody has signed in" in text


async def test_the_page_has_the_settings_to_copy(browser: Browser, control: FakeControl) -> None:
    control.listeners += (ListenerStatus("pop3", "0.0.0.0:1110", "implicit", 0),)
    await browser.as_administrator()
    text = await browser.text(PAGE)
    for copied in ("127.0.0.1", "1143", "[::1]", "1587", "1110", ALICE):
        assert f'<code class="copy">{copied}</code>' in text
    assert "the name of this computer</td>" in text  # a description, so not marked as text to copy
    assert "SSL/TLS" in text


async def test_the_list_leads_to_the_page(browser: Browser) -> None:
    await browser.as_administrator()
    assert f'<a href="{PAGE}">{ALICE}</a>' in await browser.text("/")


@pytest.mark.parametrize(
    "address", ["a{b}@example.com", "a/b@example.com", "100%@example.com", 'o\'neill+"x"@exämple.com']
)
async def test_every_address_that_the_configuration_takes_has_its_pages(
    browser: Browser, control: FakeControl, address: str
) -> None:
    control.states[address] = AccountState.SIGN_IN
    await browser.as_administrator()
    for path in (account_path(address), sign_in_path(address)):
        url = URL(browser.base + path, encoded=True)
        async with browser.session.get(url) as response:
            assert response.status == 200
            assert str(escape(address)) in await response.text()


async def test_an_address_is_the_same_in_other_letters(browser: Browser, control: FakeControl) -> None:
    """As people type it: in upper or lower case."""
    control.leftovers = (Leftover("dora@example.com", True, True),)
    await browser.as_administrator()
    for path, address in ((ALICE.upper(), ALICE), ("Dora@Example.com/forget", "dora@example.com")):
        async with browser.get(f"/accounts/{path}") as response:
            assert response.status == 200
            assert address in await response.text()


@pytest.mark.parametrize("path", [PAGE, f"{PAGE}/forget"])
async def test_for_everybody_else_a_known_address_is_as_good_as_an_unknown_one(browser: Browser, path: str) -> None:
    async with browser.get(path) as known, browser.get(path.replace(ALICE, "nobody@example.com")) as unknown:
        assert (known.status, unknown.status) == (404, 404)
        assert await known.text() == await unknown.text() == await browser.text("/nowhere")
        assert "Set-Cookie" not in known.headers
    await browser.as_administrator()
    async with browser.get(path.replace(ALICE, "nobody@example.com")) as response:
        assert response.status == 404


@pytest.mark.parametrize("action", ACTIONS)
async def test_nobody_else_can_press_a_button(browser: Browser, control: FakeControl, action: str) -> None:
    control.states[ALICE] = AccountState.READY
    await browser.as_administrator()
    async with browsing(browser.port) as other:
        for form in (await browser.form(PAGE), await other.form(f"/sign-in/{ALICE}")):  # the second is open to all
            fields = {"data": {"form": form}, "headers": {"Origin": "null"}, "allow_redirects": False}
            async with other.post(f"{PAGE}/{action}", **fields) as answer:
                assert answer.status == 404
                assert await answer.text() == await other.text("/nowhere")
        async with other.get(f"{PAGE}/{action}", allow_redirects=False) as answer:  # as after a restart of the browser
            assert answer.status == 404
            assert await answer.text() == await other.text("/nowhere")
    assert control.passwords == {}
    assert control.states[ALICE] is AccountState.READY


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(
    ("form", "headers"),
    [("", {}), ("0" * 64, {}), (None, {"Origin": "http://localhost:9999"}), (None, {"Sec-Fetch-Site": "same-site"})],
)
async def test_a_form_of_another_site_does_nothing(
    browser: Browser, control: FakeControl, action: str, form: str | None, headers: dict[str, str]
) -> None:
    control.states[ALICE] = AccountState.READY
    await browser.as_administrator()
    status, _, text = await press(browser, action, form, **headers)
    assert status == 403
    assert "press the button once more" in text
    assert "CANARY" not in text
    assert control.passwords == {}
    assert control.states[ALICE] is AccountState.READY


async def test_the_password_is_shown_on_request_and_nowhere_else(
    browser: Browser, control: FakeControl, log: io.StringIO
) -> None:
    control.passwords[ALICE] = Secret("CANARY-<password>")
    await browser.as_administrator()
    for path in ("/", PAGE, f"{PAGE}/forget", f"/sign-in/{ALICE}"):
        assert "CANARY-" not in await browser.text(path)
    status, path, text = await press(browser, "password")
    assert (status, path) == (200, f"{PAGE}/password")
    assert "CANARY-&lt;password&gt;" in text
    assert "CANARY-" not in await browser.text(PAGE)
    async with browser.get(f"{PAGE}/password", allow_redirects=False) as response:  # from the history
        assert (response.status, response.headers["Location"]) == (303, PAGE)
        assert response.headers["Cache-Control"] == "no-store"
        assert await response.text() == ""
    assert "CANARY" not in log.getvalue()
    assert "local_password_shown" in log.getvalue()


async def test_a_new_password_says_until_when_the_old_one_works(
    browser: Browser, control: FakeControl, clock: HandClock
) -> None:
    control.passwords[ALICE] = Secret("CANARY-old")
    await browser.as_administrator()
    status, _, text = await press(browser, "rotate")
    assert status == 200
    assert control.passwords[ALICE].reveal() in text
    assert "CANARY-old" not in text
    day = time.strftime("%Y-%m-%d at %H:%M", time.localtime(clock.now() + PASSWORD_OVERLAP))
    assert f"The old one works until {day}" in text
    assert control.stopped_at_once is False
    _, _, text = await press(browser, "rotate", **FRENCH)
    assert "fonctionne jusqu’au " + time.strftime("%d/%m/%Y", time.localtime(clock.now() + PASSWORD_OVERLAP)) in text


async def test_a_password_that_somebody_else_knows_stops_at_once(browser: Browser, control: FakeControl) -> None:
    await browser.as_administrator()
    status, _, text = await press(browser, "rotate", tick="at_once")
    assert status == 200
    assert control.stopped_at_once is True
    assert control.passwords[ALICE].reveal() in text
    assert "The old one no longer works" in text
    assert "works until" not in text


@pytest.mark.parametrize("action", ["password", "rotate", "forget"])
async def test_a_session_that_is_not_fresh_shows_and_changes_no_secret(
    browser: Browser, control: FakeControl, clock: HandClock, action: str
) -> None:
    control.states[ALICE] = AccountState.READY
    control.passwords[ALICE] = Secret("CANARY-password")
    await browser.as_administrator()
    clock.advance(899)
    assert (await press(browser, "password"))[0] == 200
    clock.advance(2)
    status, _, text = await press(browser, action)
    assert status == 403
    assert "CANARY" not in text
    assert "please open it again" in text
    assert control.passwords[ALICE].reveal() == "CANARY-password"
    assert control.states[ALICE] is AccountState.READY
    assert (await press(browser, "check"))[0] == 200, "it opens no mailbox to anybody"
    await browser.as_administrator()
    assert (await press(browser, action))[0] == 200


async def test_signing_out_asks_first(browser: Browser, control: FakeControl) -> None:
    control.states[ALICE] = AccountState.READY
    await browser.as_administrator()
    assert f'href="{PAGE}/forget"' in await browser.text(PAGE)
    assert "Sign out?" in await browser.text(f"{PAGE}/forget")
    assert control.states[ALICE] is AccountState.READY
    status, path, text = await press(browser, "forget")
    assert (status, path) == (200, PAGE)
    assert control.states[ALICE] is AccountState.SIGN_IN
    assert f'href="{PAGE}/forget"' not in text  # because nobody is signed in any more


async def test_signing_out_somebody_of_a_domain_leads_to_the_list(browser: Browser, control: FakeControl) -> None:
    """An account of a whole domain exists only while it is signed in: its page is gone with the sign-in."""
    control.states[CAROL] = AccountState.READY
    await browser.as_administrator()
    status, path, text = await press(browser, "forget", page=f"/accounts/{CAROL}")
    assert (status, path) == (200, "/")
    assert CAROL not in text


async def test_a_sign_in_that_may_go_on_at_its_provider_is_told_when_signing_out(
    browser: Browser, control: FakeControl
) -> None:
    reason = said("the provider {provider} does not let programs end a sign-in", provider="office365")
    control.sign_out = SignOut((Diagnosis.of("sign_out.unrevoked", reason),))
    for address in (ALICE, CAROL):
        control.states[address] = AccountState.READY
        await browser.as_administrator()
        status, path, text = await press(browser, "forget", page=f"/accounts/{address}")
        assert (status, path) == (200, f"/accounts/{address}/forget")
        assert f"The sign-in of {address} has been removed." in text
        assert "may still accept this sign-in. The person can end it there" in text
        assert "organization can end it, too. (the provider office365 does not let programs end a sign-in)" in text
        assert (f'href="/accounts/{address}"' in text) is (address == ALICE), "a page that is there"


async def test_who_has_left_is_in_the_list_and_can_be_removed_with_all_that_is_stored(
    browser: Browser, control: FakeControl, clock: HandClock
) -> None:
    left, nobody = "dora@example.com", "emil@example.com"
    control.leftovers = (Leftover(left, True, True), Leftover(nobody, False, True))
    page = f"/accounts/{left}"
    async with browser.get(f"{page}/forget") as response:
        assert response.status == 404
    await browser.as_administrator()
    text = await browser.text("/")
    assert "Stored for addresses that are not in the configuration" in text
    assert "a sign-in and a local password" in text
    assert "a local password, which no longer opens anything" in text
    assert f'href="{page}/forget"' in text
    async with browser.get(page) as response:
        assert response.status == 404, "there is no account"
    assert "Everything that mail-bridge has stored for this address" in await browser.text(f"{page}/forget")
    clock.advance(901)
    status, _, text = await press(browser, "forget", page=page, form=await browser.form(f"{page}/forget"))
    assert status == 403
    assert "please open it again" in text
    assert len(control.leftovers) == 2
    await browser.as_administrator()
    form = await browser.form(f"{page}/forget")
    control.problem = StoreUnavailable("the disk is <full>")
    async with browser.post(f"{page}/forget", data={"form": form}, headers={"Origin": "null"}) as response:
        assert response.status == 503
        assert "the disk is &lt;full&gt;" in await response.text()
    control.sign_out = SignOut((Diagnosis.of("sign_out.unrevoked", said("timed out")),), was_left=True)
    status, _, text = await press(browser, "forget", page=page, form=form)
    assert status == 200
    assert f"{left} is not in the configuration. Everything that was stored for it has been removed." in text
    assert "organization can end it, too. (timed out)" in text
    assert "<h1>Removed</h1>" in text
    control.sign_out = SignOut(was_left=True)
    status, path, text = await press(browser, "forget", page=f"/accounts/{nobody}", form=form)
    assert (status, path) == (200, "/")
    assert "not in the configuration" not in text


async def test_the_mail_servers_are_tried_on_request(browser: Browser, control: FakeControl) -> None:
    await browser.as_administrator()
    assert "Not tried since mail-bridge was started." in await browser.text(PAGE)
    control.checks_found[ALICE] = (ProtocolCheck("imap", True),)
    status, path, text = await press(browser, "check")
    assert (status, path) == (200, PAGE)  # so a reload does not repeat the trial
    assert "Opens the mailbox." in text


async def test_what_a_button_could_not_do_is_told_on_the_page(browser: Browser, control: FakeControl) -> None:
    control.states[ALICE] = AccountState.READY
    await browser.as_administrator()
    form = await browser.form(PAGE)
    for action in ACTIONS:
        control.problem = StoreUnavailable("the store <is> locked")
        async with browser.post(f"{PAGE}/{action}", data={"form": form}) as response:
            assert response.status == 503
            text = await response.text()
        assert "the store &lt;is&gt; locked" in text
        assert "CANARY" not in text
    assert control.states[ALICE] is AccountState.READY


@pytest.mark.parametrize("action", ["password", "rotate", "check"])
async def test_the_address_of_a_buttons_answer_leads_to_the_page_and_does_nothing(
    browser: Browser, control: FakeControl, action: str
) -> None:
    """A browser requests this address again after its restart, for an unloaded tab, or from its address bar."""
    async with browser.get(f"{PAGE}/{action}") as answer:
        assert answer.status == 404
    await browser.as_administrator()
    async with browser.get(f"{PAGE}/{action}") as answer:
        assert (answer.status, answer.url.path) == (200, PAGE)
    assert control.passwords == {}


async def test_a_persons_own_sign_in_shows_them_no_secret(browser: Browser, control: FakeControl) -> None:
    control.passwords[ALICE] = Secret("CANARY-password")
    _, text = await browser.press(f"/sign-in/{ALICE}")
    state = re.search(r"state=([\w-]+)", text)
    assert state is not None
    text = await browser.text(f"/?code=c&state={state[1]}")
    assert f"<strong>{ALICE}</strong> is signed in" in text
    assert "CANARY-password" not in text
    assert "/accounts/" not in text
    async with browser.get(PAGE) as response:
        assert response.status == 404
