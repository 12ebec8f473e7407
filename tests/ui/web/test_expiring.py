"""What is kept for a while, for people who share its place."""

from __future__ import annotations

from bridge.ui.web.expiring import Expiring
from tests.tokens.fakes import HandClock


def test_beyond_the_limit_the_oldest_goes_of_whoever_has_the_most() -> None:
    kept: Expiring[int] = Expiring(HandClock(), limit=5, life=60.0)
    kept.add("mine", 0, "1000")
    for number in range(20):
        kept.add(f"theirs {number}", number, "1001")
    kept.add("nobody's", 0)
    assert kept.get("mine") == kept.get("nobody's") == 0
    assert [number for number in range(20) if kept.get(f"theirs {number}") is not None] == [17, 18, 19]


def test_each_entry_ends_by_itself() -> None:
    clock = HandClock()
    kept: Expiring[str] = Expiring(clock, limit=5, life=60.0)
    kept.add("one", "first", "1000")
    clock.advance(30)
    kept.add("two", "second")
    kept.add("one", "again")
    clock.advance(30)
    assert (kept.get("one"), kept.get("two")) == ("again", "second")
    clock.advance(30)
    assert (kept.get("one"), kept.take("two")) == (None, None)
