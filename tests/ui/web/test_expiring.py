"""Entries that are kept for a while, in a table whose places several users share."""

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


class Counted(str):
    """A user ID that counts how often it is hashed."""

    looks = 0

    def __hash__(self) -> int:
        Counted.looks += 1
        return super().__hash__()

    __eq__ = str.__eq__


def test_a_full_table_is_not_counted_anew_for_each_entry() -> None:
    kept: Expiring[int] = Expiring(HandClock(), limit=1000, life=60.0)
    for number in range(1000):
        kept.add(f"{number}", number, Counted("1001"))
    before = Counted.looks
    kept.add("one more", 0, Counted("1001"))
    assert kept.get("0") is None
    assert 0 < Counted.looks - before < 50


def test_what_has_ended_or_was_taken_is_nobodys_share_any_more() -> None:
    clock = HandClock()
    kept: Expiring[int] = Expiring(clock, limit=3, life=60.0)
    for number in range(3):
        kept.add(f"old {number}", number, "1000")
    assert kept.take("old 2") == 2
    clock.advance(60)
    assert kept.get("old 0") is None
    kept.add("mine", 0, "1000")
    for number in range(3):
        kept.add(f"theirs {number}", number, "1001")
    assert [kept.get(key) for key in ("mine", "theirs 0", "theirs 1", "theirs 2")] == [0, None, 1, 2]


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


def test_what_is_kept_anew_lets_nothing_older_live_longer() -> None:
    clock = HandClock()
    kept: Expiring[str] = Expiring(clock, limit=5, life=60.0)
    for key in ("one", "two"):
        kept.add(key, "first")
    clock.advance(30)
    kept.add("one", "again")
    clock.advance(30)
    assert (kept.get("two"), kept.get("one")) == (None, "again")


def test_what_was_taken_is_gone_and_what_has_ended_is_taken_by_nobody() -> None:
    clock = HandClock()
    kept: Expiring[str] = Expiring(clock, limit=5, life=60.0)
    for key in ("one", "two"):
        kept.add(key, "first")
    assert [kept.take("one"), kept.take("one"), kept.get("one")] == ["first", None, None]
    clock.advance(60)
    assert kept.take("two") is None
