"""When a visitor's connection is read."""

from __future__ import annotations

import asyncio

import pytest

from bridge.ui.web.connection import Pace


class Line(asyncio.ReadTransport):
    """Notes whether it would read."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 4711)})
        self.is_read = True

    def pause_reading(self) -> None:
        self.is_read = False

    def resume_reading(self) -> None:
        self.is_read = True


@pytest.fixture
def line() -> Line:
    return Line()


@pytest.fixture
def pace(line: Line) -> Pace:
    pace = Pace()
    assert pace.of(line).get_extra_info("peername") == ("127.0.0.1", 4711)
    return pace


def test_what_waits_for_its_turn_is_not_added_to_though_aiohttp_asks_for_more(line: Line, pace: Pace) -> None:
    pace.hold()
    assert not line.is_read
    pace.pause_reading()
    pace.resume_reading()
    assert not line.is_read
    pace.let_go()
    assert line.is_read


def test_nothing_is_read_while_aiohttp_wants_nothing(line: Line, pace: Pace) -> None:
    pace.pause_reading()
    assert not line.is_read
    pace.hold()
    pace.let_go()
    assert not line.is_read
    pace.resume_reading()
    assert line.is_read


def test_whoever_was_held_once_is_read_whenever_aiohttp_wants(line: Line, pace: Pace) -> None:
    pace.hold()
    pace.let_go()
    assert line.is_read
    pace.pause_reading()
    pace.resume_reading()
    assert line.is_read


def test_aiohttp_may_pause_before_anything_has_come(line: Line, pace: Pace) -> None:
    line.is_read = False
    pace.resume_reading()
    assert line.is_read
