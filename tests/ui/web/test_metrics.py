"""The page for programs that monitor the bridge."""

from __future__ import annotations

import pytest

from bridge.observe.metrics import Counters, exposition
from tests.fakes_control import FakeControl
from tests.ui.web.conftest import serving


async def test_anybody_on_this_machine_reads_it_as_it_is_now(control: FakeControl) -> None:
    sessions = {"imap": 0}

    async def page() -> str:
        return exposition(Counters(), sessions, None)

    async with serving(control, metrics=page) as browser:
        for sessions["imap"] in (0, 7):
            async with browser.get("/metrics") as response:
                assert response.status == 200
                assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
                assert await response.text() == exposition(Counters(), sessions, None)
                assert "Set-Cookie" not in response.headers


@pytest.mark.parametrize(
    "headers", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Host": "evil.example"}]
)
async def test_it_is_nothing_for_pages_of_other_sites(control: FakeControl, headers: dict[str, str]) -> None:
    async def page() -> str:
        return "CANARY"

    async with (
        serving(control, metrics=page) as browser,
        browser.get("/metrics", headers=headers) as response,
    ):
        assert response.status == 404
        assert "CANARY" not in await response.text()
