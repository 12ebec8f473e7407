"""The administrator's check page."""

from __future__ import annotations

import asyncio
import re

import pytest

from bridge.advice.base import Turn
from bridge.control.contract import Finding, Outcome
from bridge.errors import BridgeError
from tests.fakes_control import FakeControl
from tests.ui.web.conftest import Browser, Buttons, browsing

FRENCH = {"Accept-Language": "fr"}


async def field_of(browser: Browser) -> str:
    return Buttons(await browser.text("/check")).sent["/check"]["form"]


async def press(browser: Browser, field: str | None = None, **headers: str) -> tuple[int, str]:
    data = {"form": await field_of(browser) if field is None else field}
    async with browser.post("/check", data=data, headers={"Origin": "null", **headers}) as response:
        return response.status, await response.text()


async def test_nothing_is_tried_before_the_button_is_pressed(browser: Browser, control: FakeControl) -> None:
    await browser.as_administrator()
    assert 'href="/check"' in await browser.text("/")
    assert "Start the check" in await browser.text("/check")
    assert control.diagnoses_made == 0
    await press(browser)
    assert control.diagnoses_made == 1


async def test_what_has_failed_comes_first_with_whose_turn_it_is(browser: Browser, control: FakeControl) -> None:
    control.findings = (
        Finding("firewall", "", Outcome.SKIPPED, "all ports are on loopback, which firewalls leave alone"),
        Finding("port", "imap <1143>", Outcome.OK, "free"),
        Finding("clock", "", Outcome.FAILED, "off by {seconds} s", (("seconds", "<900>"),), Turn.APP_ADMIN),
        Finding("client secret", "acme", Outcome.WARNING, "ends soon", turn=Turn.APP_ADMIN),
    )
    await browser.as_administrator()
    status, text = await press(browser)
    assert status == 200
    assert re.findall(r'<span class="dot (\w+)"', text) == ["failed", "warning", "ok", "skipped"]
    assert "off by &lt;900&gt; s" in text
    assert "<strong>imap &lt;1143&gt;</strong>" in text
    assert text.count("Who must act: the administrator of mail-bridge") == 2
    assert "1 check has failed" in text


async def test_commands_and_settings_in_a_sentence_are_shown_as_code(browser: Browser, control: FakeControl) -> None:
    control.findings = (Finding("keyring", "", Outcome.FAILED, "write `key_file: {name}`", (("name", "<file>"),)),)
    await browser.as_administrator()
    _, text = await press(browser)
    assert "write <code>key_file: &lt;file&gt;</code>" in text


async def test_what_somebody_should_see_to_comes_first_where_nothing_has_failed(
    browser: Browser, control: FakeControl
) -> None:
    right = Finding("port", "imap 1143", Outcome.OK, "free")
    control.findings = (right, Finding("store", "", Outcome.WARNING, "read by all", turn=Turn.APP_ADMIN))
    await browser.as_administrator()
    _, text = await press(browser)
    assert re.findall(r'<span class="dot (\w+)"[^>]*></span>(\w+)', text) == [("warning", "warning"), ("ok", "ok")]
    assert "Everything that could be tried works. What needs attention comes first." in text
    control.findings = (right,)
    _, text = await press(browser)
    assert "<p>Everything that could be tried works.</p>" in text


async def test_the_findings_are_told_in_french(browser: Browser, control: FakeControl) -> None:
    control.findings = (Finding("token", "a@b.example", Outcome.OK, "the mailbox opens"),)
    await browser.as_administrator()
    _, text = await press(browser, **FRENCH)
    assert "la boîte aux lettres s’ouvre" in text
    assert "Tout ce qui a pu être essayé fonctionne." in text


async def test_there_is_one_check_at_a_time(browser: Browser, control: FakeControl) -> None:
    await browser.as_administrator()
    field = await field_of(browser)
    control.diagnosing = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        first = group.create_task(press(browser, field))
        await control.diagnose_began.wait()
        status, text = await press(browser, field)
        control.diagnosing.set()
    assert status == 409
    assert "A check is already under way." in text
    assert first.result()[0] == 200
    assert control.diagnoses_made == 1
    control.problem = BridgeError("the bridge has gone")
    assert (await press(browser, field))[0] == 503
    assert (await press(browser, field))[0] == 200, "and then the next one"


async def test_a_bridge_that_has_gone_is_told(browser: Browser, control: FakeControl) -> None:
    await browser.as_administrator()
    field = await field_of(browser)
    control.problem = BridgeError("the bridge <has> gone")
    status, text = await press(browser, field)
    assert status == 503
    assert "the bridge &lt;has&gt; gone" in text


async def test_for_everybody_else_there_is_no_such_page(browser: Browser, control: FakeControl) -> None:
    await browser.as_administrator()
    field = await field_of(browser)
    async with browsing(browser.port) as other:
        nowhere = await other.text("/nowhere")
        assert await other.text("/check") == nowhere
        assert await press(other, field) == (404, nowhere)
    assert control.diagnoses_made == 0


@pytest.mark.parametrize(("field", "headers"), [("", {}), ("0" * 64, {}), (None, {"Origin": "https://evil.example"})])
async def test_a_form_of_another_site_starts_nothing(
    browser: Browser, control: FakeControl, field: str | None, headers: dict[str, str]
) -> None:
    await browser.as_administrator()
    status, text = await press(browser, field, **headers)
    assert status == 403
    assert "press the button once more" in text
    assert control.diagnoses_made == 0
