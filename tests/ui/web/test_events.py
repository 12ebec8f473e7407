"""/events: what keeps the administrator's pages up to date."""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import AsyncExitStack

import aiohttp
import pytest

from bridge.errors import BridgeError
from bridge.notices import Forgotten
from bridge.ui.web.events import STREAMS
from tests.fakes_control import FakeControl
from tests.tokens.fakes import HandClock
from tests.ui.web.conftest import Browser, browsing, serving

ALICE = "alice@example.com"


async def block(response: aiohttp.ClientResponse) -> bytes:
    """One event or comment, without the empty line that ends it."""
    line = await response.content.readline()
    assert await response.content.readline() == b"\n"
    return line.rstrip(b"\n")


async def test_a_change_is_told_without_what_it_is(browser: Browser, control: FakeControl) -> None:
    await browser.as_administrator()
    async with browser.get("/events") as response:
        assert response.content_type == "text/event-stream"
        assert await block(response) == b":"
        await control.following.wait()
        for _ in range(2):
            control.bus.publish(Forgotten(ALICE))
            assert await block(response) == b"data: changed"


async def test_for_everybody_else_there_is_no_such_page(browser: Browser, control: FakeControl) -> None:
    async with browser.get("/events") as response:
        assert response.status == 404
    await browser.as_administrator()
    for headers in ({"Sec-Fetch-Site": "same-site"}, {"Origin": "http://localhost:9999"}):
        async with browser.get("/events", headers=headers) as response:
            assert response.status == 404
    assert not control.following.is_set()


async def test_silence_is_broken_and_the_end_of_a_session_ends_its_stream(
    control: FakeControl, clock: HandClock
) -> None:
    async with serving(control, clock, keep_alive=0.02) as browser:
        await browser.as_administrator()
        async with browser.get("/events") as response:
            assert [await block(response) for _ in range(3)] == [b":"] * 3
            clock.advance(8 * 3600 + 1)
            rest = await response.content.read()
            assert rest.replace(b":\n\n", b"") == b""
    await control.abandoned.wait()


async def test_a_change_that_comes_with_the_end_of_a_silence_is_told(control: FakeControl, clock: HandClock) -> None:
    async with serving(control, clock, keep_alive=0.1) as browser:
        await browser.as_administrator()
        async with browser.get("/events") as response:
            assert await block(response) == b":"
            await control.following.wait()
            control.bus.publish(Forgotten(ALICE))
            time.sleep(0.2)  # blocks the loop, which then learns of the notice and of the timeout at the same moment
            assert b"data: changed" in [await block(response) for _ in range(3)]


async def test_there_is_a_bounded_number_of_streams(control: FakeControl, clock: HandClock) -> None:
    async with serving(control, clock, keep_alive=0.02) as browser, AsyncExitStack() as stack:
        await browser.as_administrator()
        for _ in range(STREAMS):
            response = await stack.enter_async_context(browser.get("/events"))
            assert await block(response) == b":"
        async with browser.get("/events") as response:
            assert response.status == 503
        assert ALICE in await browser.text("/")  # everything else goes on
        await stack.aclose()
        await control.abandoned.wait()
        async with asyncio.timeout(60):
            while True:  # the console notices that a browser has gone when it sends the next line to it
                async with browser.get("/events") as response:
                    if response.status == 200:
                        return


async def test_the_streams_end_with_the_console(control: FakeControl, clock: HandClock) -> None:
    async with AsyncExitStack() as outer:
        async with serving(control, clock) as browser:
            await browser.as_administrator()
            other = await outer.enter_async_context(browsing(browser.port))
            await other.as_administrator()
            response = await outer.enter_async_context(other.get("/events"))
            assert await block(response) == b":"
        async with asyncio.timeout(60):
            assert await response.content.read() == b""


async def test_a_bridge_that_goes_away_ends_the_stream_quietly(control: FakeControl, clock: HandClock) -> None:
    async with serving(control, clock, keep_alive=3600) as browser:
        await browser.as_administrator()
        async with browser.get("/events") as response:
            assert await block(response) == b":"
            await control.following.wait()
            control.notices_end = BridgeError("the bridge has gone")
            control.bus.publish(Forgotten(ALICE))
            async with asyncio.timeout(60):  # less than keep_alive, whose next line would end the stream, too
                await response.content.read()
        assert ALICE in await browser.text("/")


@pytest.mark.parametrize("path", ["/", f"/accounts/{ALICE}"])
async def test_without_script_no_browser_says_that_the_bridge_has_gone(browser: Browser, path: str) -> None:
    """w3m and lynx ignore `hidden` and would show the sentence: so it is in an attribute, not in the text."""
    await browser.as_administrator()
    text = await browser.text(path)
    assert "is not answering at the moment" in text
    assert "is not answering at the moment" not in re.sub(r"<[^>]*>", "", text)


@pytest.mark.parametrize("path", ["/", f"/accounts/{ALICE}"])
async def test_what_is_kept_up_to_date_holds_no_password(browser: Browser, path: str) -> None:
    await browser.as_administrator()
    live = (await browser.text(path)).partition('<div id="live"')[2]
    assert live
    assert "<script" not in live
    script = await browser.text("/console.js")
    assert 'new EventSource("/events")' in script
    assert "innerHTML =" not in script.replace("innerHTML ===", "")
