"""Trap 28: on the day when a client secret expires, nobody's mail works any more."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from bridge.advice.base import Turn
from bridge.config.expiry import expiring
from bridge.config.load import parse_config
from bridge.config.schema import Config
from bridge.notices import Notice, NoticeBus, SecretExpiring
from bridge.tokens.expiry import LOOK_EVERY, SecretWatch
from tests.captured import captured
from tests.clocks import ManualClock
from tests.tokens.fakes import HandClock

DAY = 86400.0


def config(*days: str) -> Config:
    providers = "".join(
        f"\n  p{n}: {{kind: google, client_id: a, client_secret: CANARY, client_secret_expires: {day}}}"
        for n, day in enumerate(days)
    )
    text = f"providers:{providers}\naccounts: [{{address: a@b.example, provider: p0}}]"
    return parse_config(text, name="c", directory=Path.cwd()).config


class World:
    def __init__(self, days_left: int) -> None:
        self.clock = HandClock()
        today = datetime.fromtimestamp(self.clock.now()).date()
        self.day = today + timedelta(days=days_left)
        self.config = config(str(self.day))
        self.notices: list[Notice] = []
        bus = NoticeBus()
        bus.on_notice(self.notices.append)
        self.watch = SecretWatch(lambda: self.config, self.clock, bus)

    def told(self) -> list[int]:
        return [notice.days for notice in self.notices if isinstance(notice, SecretExpiring)]


def test_trap_28_a_secrets_end_is_told_a_month_ahead_and_then_daily_in_the_last_week() -> None:
    it = World(40)
    for _ in range(42 * 4):
        it.watch.look()
        it.clock.advance(DAY / 4)
    assert it.told() == [30, 7, 6, 5, 4, 3, 2, 1, 0, -1, -2]


def test_a_bridge_that_starts_late_tells_at_once_and_a_new_day_silences_it() -> None:
    it = World(12)
    it.watch.look()
    it.watch.look()
    assert it.told() == [12]
    it.config = config(str(it.day + timedelta(days=365)))
    it.clock.advance(10 * DAY)
    it.watch.look()
    assert it.told() == [12]
    assert it.watch.expiring() == ()


def test_a_clock_that_was_ahead_for_a_while_silences_nothing() -> None:
    """As on a machine with an empty clock battery, until it has asked a time server."""
    it = World(40)
    it.clock.set_wall(300 * DAY)
    it.watch.look()
    it.clock.set_wall(-300 * DAY)
    for _ in range(12 * 4):
        it.watch.look()
        it.clock.advance(DAY / 4)
    assert it.told() == [-260, 30]


def test_the_log_has_it_too_with_whose_turn_it_is() -> None:
    it = World(12)
    with captured("info", "json") as log:
        it.watch.look()
        it.watch.look()
    (line,) = [json.loads(line) for line in log.getvalue().splitlines()]
    assert (line["event"], line["provider"], line["day"]) == ("client_secret.expiring", "p0", str(it.day))
    assert "The client secret of p0 expires in 12 days" in line["reason"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows takes its time zone from nobody's environment")
def test_the_day_is_that_of_the_administrators_calendar(monkeypatch: pytest.MonkeyPatch) -> None:
    it = World(0)
    noon = datetime(2027, 1, 31, 12, tzinfo=UTC).timestamp()
    it.config = config("2027-02-01")
    try:
        for zone, days in (("UTC0", 1), ("FAR-13", 0)):
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            it.clock.set_wall(noon - it.clock.now())
            assert [one.days for one in it.watch.expiring()] == [days]
    finally:
        monkeypatch.undo()
        time.tzset()


async def test_the_watch_looks_again_by_itself() -> None:
    it = World(31)
    clock = ManualClock(it.clock.now())
    bus = NoticeBus()
    bus.on_notice(it.notices.append)
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(SecretWatch(lambda: it.config, clock, bus).run())
        for _ in range(24):
            await clock.until_asleep()
            clock.advance(LOOK_EVERY)
        await clock.until_asleep()
        watching.cancel()
    assert it.told() == [30]


@pytest.mark.parametrize(
    ("days", "words"),
    [
        (30, "expires in 30 days, on 2027-03-02"),
        (1, "expires tomorrow"),
        (0, "expires today"),
        (-1, "expired on 2027-01-30"),
    ],
)
def test_the_sentence_names_the_day_and_whose_turn_it_is(days: int, words: str) -> None:
    today = date(2027, 1, 31)
    (found,) = expiring(config(str(today + timedelta(days=days))), today)
    assert found.diagnosis.told().startswith(f"The client secret of p0 {words}")
    assert found.diagnosis.advice.turn is Turn.APP_ADMIN
    assert found.is_over is (days < 0)


def test_the_most_urgent_comes_first_and_those_without_a_day_are_silent() -> None:
    found = expiring(config("2027-02-20", "2027-02-03", "2027-12-01"), date(2027, 2, 1))
    assert [one.provider for one in found] == ["p1", "p0"]
