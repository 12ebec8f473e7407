"""The tests' own clock keeps the promises of bridge.clock.Clock."""

from __future__ import annotations

import asyncio

import pytest

from bridge.clock import Clock
from tests.clocks import ManualClock


async def test_a_sleeper_wakes_when_its_time_has_come_and_not_before() -> None:
    manual = ManualClock(now=100.0)
    clock: Clock = manual
    async with asyncio.TaskGroup() as group:
        early = group.create_task(clock.pause(10))
        late = group.create_task(clock.pause(20))
        await manual.until_asleep(2)
        manual.advance(10)
        await early
        assert manual.sleepers == 1
        assert not late.done()
        manual.advance(10)
    assert manual.now() == 120.0
    assert manual.monotonic() == 1020.0
    assert manual.sleepers == 0


async def test_no_time_is_not_waited_for_and_a_cancelled_sleeper_is_forgotten() -> None:
    clock = ManualClock(now=100.0)
    await clock.pause(0)
    async with asyncio.TaskGroup() as group:
        sleeper = group.create_task(clock.pause(1))
        await clock.until_asleep()
        sleeper.cancel()
    assert clock.sleepers == 0
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance(-1)


async def test_a_pause_takes_no_notice_of_the_wall_clock() -> None:
    manual = ManualClock()
    clock: Clock = manual
    async with asyncio.TaskGroup() as group:
        pausing = group.create_task(clock.pause(30))
        await manual.until_asleep()
        manual.step(3600)
        manual.step(-7200)
        manual.advance(29)
        assert manual.sleepers == 1
        manual.advance(1)
    assert pausing.done()
