"""Which entry makes room: the same one as if everything were counted again each time, but without that work."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from bridge.shares import Shares

STEPS = st.lists(st.tuples(st.sampled_from(["alice", "bob", "carol"]), st.integers(0, 5), st.booleans()), max_size=60)


@given(STEPS)
def test_it_is_the_oldest_of_whoever_has_the_most(steps: list[tuple[str, int, bool]]) -> None:
    shares = Shares()
    kept: list[tuple[str, str]] = []  # the oldest first
    for owner, number, is_added in steps:
        one = owner, f"key {number}"
        if one in kept:
            kept.remove(one)
            if not is_added:
                shares.remove(*one)
        if is_added:
            kept.append(one)
            shares.add(*one)
        numbers = Counter(owner for owner, _ in kept)
        most = max(numbers.values(), default=0)
        oldest = {owner: next(key for who, key in kept if who == owner) for owner in numbers}
        if kept:
            greedy, key = shares.next_to_go()
            assert numbers[greedy] == most
            assert key == oldest[greedy]


def test_where_nobody_has_more_than_one_the_oldest_goes() -> None:
    shares = Shares()
    for owner in ("alice", "bob", "carol", "alice"):  # alice's entry is used again, and so becomes the newest
        shares.add(owner, "key")
    assert shares.next_to_go() == ("bob", "key")


def test_what_is_gone_is_not_kept_in_mind() -> None:
    shares = Shares()
    for owner in map(str, range(100)):
        shares.add(owner, "one")
        shares.add(owner, "two")
        shares.remove(owner, "two")
        shares.remove(owner, "one")
    assert (shares._owners, shares._levels) == ({}, {})
