"""Sign-ins with a browser on another computer: by a code to type there, or by an address to bring back from there."""

from __future__ import annotations

import asyncio
import html
import re

import pytest

from bridge.control.contract import AccountState
from bridge.errors import AuthorizationFailed, BridgeError
from bridge.notices import AuthorizationEnded, Forgotten, ServersChecked
from tests.fakes_control import FakeControl
from tests.forms import form_of
from tests.ui.web.conftest import Browser

ALICE = "alice@example.com"
PAGE = f"/sign-in/{ALICE}"
OWN = {"Origin": "null"}


# --- by device code -------------------------------------------------------------------------------------------------


async def begin_with_code(browser: Browser, control: FakeControl) -> tuple[str, str]:
    """Begin a sign-in by device code. Returns: path and text of the page with the code."""
    control.user_code = "ABCD-<1234>"
    form = {"form": await browser.form(PAGE)}
    async with browser.post(f"/sign-in/{ALICE}", data=form, headers=OWN) as response:
        assert response.status == 200
        return response.url.path, await response.text()


@pytest.mark.parametrize(
    ("is_code_in_link", "link", "what"), [(True, "/device?c=ABCD", "compare this"), (False, '/device"', "enter this")]
)
async def test_the_code_is_shown_with_where_to_type_it(
    browser: Browser, control: FakeControl, is_code_in_link: bool, link: str, what: str
) -> None:
    control.is_code_in_link = is_code_in_link
    path, text = await begin_with_code(browser, control)
    assert path.startswith("/waiting/")
    assert "ABCD-&lt;1234&gt;" in text
    assert text.count(f'href="https://login.provider.example{link}') == 2
    assert what in text
    assert ">https://login.provider.example/device</a>" in text
    assert '<meta http-equiv="refresh"' in text
    assert "10 more" in text
    assert await browser.text(path) == text  # nothing has happened meanwhile


async def until_done(browser: Browser, path: str) -> str:
    """Reload the page, as it does by itself, until it redirects to the result. Returns: that page."""
    async with asyncio.timeout(60):
        while True:
            async with browser.get(path) as response:
                if response.url.path.startswith("/done/"):
                    return await response.text()
            await asyncio.sleep(0)


async def test_the_page_notices_that_the_person_has_finished(browser: Browser, control: FakeControl) -> None:
    path, _ = await begin_with_code(browser, control)
    await control.following.wait()
    control.completed_elsewhere("bob@example.com")
    control.completed_elsewhere(ALICE)
    text = await until_done(browser, path)
    assert f"<strong>{ALICE}</strong> is signed in" in text


@pytest.mark.parametrize(
    ("code", "title"),
    [
        ("denied", "The sign-in was declined"),
        ("wrong_person", "Somebody else has signed in"),
        ("expired", "The sign-in did not succeed"),
    ],
)
async def test_the_page_tells_how_else_it_ended(browser: Browser, control: FakeControl, code: str, title: str) -> None:
    path, _ = await begin_with_code(browser, control)
    await control.following.wait()
    control.completed_elsewhere(ALICE, code)
    text = await until_done(browser, path)
    assert title in text
    assert f"It ended: {code}." in text
    assert f"/sign-in/{ALICE}" in text


async def test_a_sign_in_that_waits_for_the_store_asks_nobody_for_another_code(
    browser: Browser, control: FakeControl
) -> None:
    path, _ = await begin_with_code(browser, control)
    await control.following.wait()
    control.completed_elsewhere(ALICE, "unsaved")
    text = await until_done(browser, path)
    assert "You are signed in, but the sign-in has not been saved yet" in text
    assert "did not succeed" not in text
    assert "Try again" not in text


async def test_somebody_else_who_tries_the_mail_servers_does_not_end_the_wait(
    browser: Browser, control: FakeControl
) -> None:
    path, _ = await begin_with_code(browser, control)
    await control.following.wait()
    control.bus.publish(ServersChecked(ALICE, ""))
    control.completed_elsewhere(ALICE, "denied")
    assert "The sign-in was declined" in await until_done(browser, path)


async def test_the_end_of_somebody_elses_sign_in_is_not_that_of_this_one(
    browser: Browser, control: FakeControl
) -> None:
    path, _ = await begin_with_code(browser, control)
    await control.following.wait()
    control.bus.publish(AuthorizationEnded(ALICE, "denied", "CANARY-hostile", None, "another"))
    control.completed_elsewhere(ALICE)
    assert f"<strong>{ALICE}</strong> is signed in" in await until_done(browser, path)


async def test_the_same_sign_in_has_one_page_however_often_the_button_is_pressed(
    browser: Browser, control: FakeControl
) -> None:
    first = await begin_with_code(browser, control)
    assert await begin_with_code(browser, control) == first


async def test_a_sign_in_of_somebody_else_has_a_page_of_its_own(browser: Browser, control: FakeControl) -> None:
    """The page shows nobody else's code, nor how another sign-in ended, and nobody can guess its address."""
    own, _ = await begin_with_code(browser, control)
    control.attempt = "another"
    theirs, _ = await begin_with_code(browser, control)
    assert own != theirs
    assert min(map(len, (own, theirs))) >= len("/waiting/") + 22
    await control.following.wait()
    control.bus.publish(AuthorizationEnded(ALICE, "denied", "It ended.", None, "another"))
    assert "The sign-in was declined" in await until_done(browser, theirs)
    assert "ABCD-" in await browser.text(own)


async def test_a_second_sign_in_waits_anew(browser: Browser, control: FakeControl) -> None:
    for _ in range(2):
        path, _ = await begin_with_code(browser, control)
        await control.following.wait()
        control.following.clear()
        control.completed_elsewhere(ALICE)
        await until_done(browser, path)
        async with asyncio.timeout(60):
            await control.abandoned.wait()  # nobody waits any more, so the console has unsubscribed from the notices
        control.abandoned.clear()


async def test_a_bridge_that_goes_away_ends_the_wait_not_the_console(browser: Browser, control: FakeControl) -> None:
    path, _ = await begin_with_code(browser, control)
    await control.following.wait()
    control.following.clear()
    control.notices_end = BridgeError("the bridge has gone")
    control.bus.publish(Forgotten(ALICE))
    async with asyncio.timeout(60):
        await control.abandoned.wait()
    control.notices_end = None  # the bridge is back
    assert (await begin_with_code(browser, control))[0] == path
    async with asyncio.timeout(60):
        await control.following.wait()
    control.completed_elsewhere(ALICE)
    assert "is signed in" in await until_done(browser, path)


@pytest.mark.parametrize("page", ["waiting", "done"])
async def test_a_page_that_nobody_was_given_is_not_there(browser: Browser, page: str) -> None:
    """After a restart the same answer goes to a browser that was given such a page before."""
    async with browser.get(f"/{page}/forged") as response:
        assert response.status == 404
        text = await response.text()
    assert "This sign-in is over" in text
    assert "or mail-bridge has been restarted since" in text


# --- by an address that is brought back -----------------------------------------------------------------------------


async def begin_elsewhere(browser: Browser) -> tuple[str, str]:
    """Begin a sign-in for another browser. Returns: the provider's link to open there, and the form's field."""
    form = {"form": await browser.form(PAGE), "elsewhere": "1"}
    async with browser.post(f"/sign-in/{ALICE}", data=form, headers=OWN) as response:
        text = await response.text()
    assert "http-equiv" not in text  # this browser is not redirected to the provider
    link = re.search(r'<code class="copy">([^<]+)</code>', text)  # not an <input>: w3m shows only 20 letters
    assert link is not None
    return html.unescape(link[1]), form_of(text)


async def paste(browser: Browser, field: str, address: str) -> tuple[int, str]:
    async with browser.post("/paste", data={"form": field, "address": address}, headers=OWN) as response:
        return response.status, await response.text()


async def test_the_address_of_another_browser_finishes_the_sign_in(browser: Browser, control: FakeControl) -> None:
    link, field = await begin_elsewhere(browser)
    state = link.rpartition("state=")[2]
    status, text = await paste(browser, field, f" http://localhost:3017/?code=CANARY-c&state={state}\n")
    assert status == 200
    assert f"<strong>{ALICE}</strong> is signed in" in text
    assert control.states[ALICE] is AccountState.READY
    assert control.completions == [{"code": "CANARY-c", "state": state}]


async def test_what_is_no_such_address_is_explained_and_can_be_corrected(
    browser: Browser, control: FakeControl
) -> None:
    _, field = await begin_elsewhere(browser)
    status, text = await paste(browser, field, "CANARY-only-the-code")
    assert status == 400
    assert "This is not the address at which the browser ended" in text
    assert "CANARY" not in text
    assert 'action="/paste"' in text
    assert control.completions == []


async def test_the_form_for_the_address_is_there_when_the_browser_asks_for_it_anew(browser: Browser) -> None:
    """Such as after a restart, if the address that was pasted before was wrong."""
    async with browser.get("/paste") as response:
        assert response.status == 200
        assert 'action="/paste"' in await response.text()


async def test_who_declines_elsewhere_is_told_for_which_address(browser: Browser) -> None:
    link, field = await begin_elsewhere(browser)
    _, text = await paste(browser, field, f"http://localhost:3017/?error=access_denied&{link.partition('?')[2]}")
    assert f'href="/sign-in/{ALICE}"' in text


async def test_a_code_can_be_typed_elsewhere_as_it_is(browser: Browser, control: FakeControl) -> None:
    """With a device code there is no address to bring back."""
    control.user_code = "ABCD"
    form = {"form": await browser.form(PAGE), "elsewhere": "1"}
    async with browser.post(f"/sign-in/{ALICE}", data=form, headers=OWN) as response:
        assert response.url.path.startswith("/waiting/")


async def test_another_sites_form_finishes_nothing(browser: Browser, control: FakeControl) -> None:
    link, field = await begin_elsewhere(browser)
    address = f"http://localhost:3017/?code=c&state={link.rpartition('state=')[2]}"
    for forged, headers in (("0" * 64, OWN), (field, {"Origin": "https://evil.example"})):
        form = {"form": forged, "address": address}
        async with browser.post("/paste", data=form, headers=headers) as response:
            assert response.status == 403
    assert control.completions == []


async def test_where_nobody_signs_in_the_page_says_so(browser: Browser, control: FakeControl) -> None:
    field = await browser.form(PAGE)
    control.problem = AuthorizationFailed("Nobody has to sign in for alice@example.com.", code="unattended")
    async with browser.post(f"/sign-in/{ALICE}", data={"form": field}, headers=OWN) as response:
        assert response.status == 409
        assert "Nobody has to sign in for alice@example.com." in await response.text()
