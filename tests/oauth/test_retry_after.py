"""A host that asks to be left alone is not asked again too soon."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from bridge.errors import ProviderUnavailable
from bridge.oauth.http import Https
from bridge.oauth.retry_after import LONGEST, RetryAfter
from bridge.ui.i18n import translation
from tests.clocks import ManualClock
from tests.oauth.raw import certificates, http, serving

DATE = "Wed, 25 Nov 2026 10:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "1"}, 1),
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": " 0120 "}, 120),
        ({"Retry-After": "86400"}, LONGEST),
        ({"Retry-After": "9" * 400}, LONGEST),
        ({"Retry-After": "Wed, 25 Nov 2026 10:00:30 GMT", "Date": DATE}, 30),
        ({"Retry-After": "Thu, 26 Nov 2026 10:00:30 GMT", "Date": DATE}, LONGEST),
        ({"Retry-After": "Wed, 25 Nov 2026 09:00:00 GMT", "Date": DATE}, 0),
        ({"Retry-After": "Wed, 25 Nov 2026 10:00:30 GMT"}, 0),  # ignored, since our own clock may be an hour off
        ({"Retry-After": "Wed, 25 Nov 2026 10:00:30 -0000", "Date": DATE}, 0),
        ({"Retry-After": "-5"}, 0),
        ({"Retry-After": "soon"}, 0),
        ({"Retry-After": "Wed, 25 Nov 2026 10:00:30 +99999999999999", "Date": DATE}, 0),
        ({"Retry-After": "Wed, 25 Nov 2026 10:00:30 GMT", "Date": "Wed, 25 Nov 99999999999999999999 10:00:00 GMT"}, 0),
        ({"Retry-After": "٣"}, 0),
        ({"Retry-After": ""}, 0),
        ({}, 0),
    ],
)
def test_what_an_answer_asks_for(headers: dict[str, str], seconds: float) -> None:
    clock = ManualClock()
    hosts = RetryAfter(clock.monotonic)
    assert hosts.note("login.example", headers) == seconds
    if seconds:
        with pytest.raises(
            ProviderUnavailable, match=rf"login\.example has asked .* in {seconds:.0f} seconds"
        ) as caught:
            hosts.check("login.example")
        assert caught.value.said is not None
        french = caught.value.said.told(translation("fr"))
        assert french.startswith("login.example a demandé à mail-bridge d’attendre")
        assert f"dans {seconds:.0f} secondes." in french
    hosts.check("other.example")
    clock.advance(seconds)
    hosts.check("login.example")


def test_a_shorter_wait_does_not_end_a_longer_one() -> None:
    clock = ManualClock()
    hosts = RetryAfter(clock.monotonic)
    hosts.note("login.example", {"Retry-After": "60"})
    hosts.note("login.example", {"Retry-After": "5"})
    clock.advance(30)
    clock.step(3600)  # the wall clock does not count
    with pytest.raises(ProviderUnavailable, match="in 30 seconds"):
        hosts.check("login.example")


@pytest.mark.parametrize(("status", "asked"), [("429 Slow", 1), ("503 Later", 1), ("200 OK", 3), ("400 Bad", 3)])
async def test_no_request_goes_out_before_its_time(tmp_path: Path, status: str, asked: int) -> None:
    with serving(http(b"{}", status, "Retry-After: 60\r\n"), *certificates(tmp_path)) as raw:
        https = Https("test", ca_file=raw.ca_file)
        said = []
        for method in (https.post, https.get, https.post):
            try:
                await https.run(partial(method, raw.url))
            except ProviderUnavailable as problem:
                said.append(str(problem))
        https.close()
    assert len(raw.requests) == asked
    assert ["has asked mail-bridge to wait" in text for text in said] == ([] if asked == 3 else [False, True, True])
