"""How many sign-ins there may be: which ones count, for how long, and what a success takes back."""

from __future__ import annotations

import pytest

from bridge.errors import LimitReached
from bridge.tokens.sign_in_limits import SHARE, SHARE_SECONDS, SignInLimits
from tests.tokens.fakes import HandClock


def in_vain(room: SignInLimits, asker: str) -> int:
    """Begin sign-ins that never succeed until there is no room. Returns: how many."""
    for number in range(SHARE + 1):
        try:
            with room.for_one_more(asker, 0):
                room.noted(asker)
        except LimitReached:
            return number
    return SHARE + 1


def test_a_good_end_takes_back_one_and_not_all() -> None:
    room = SignInLimits(HandClock())
    assert in_vain(room, "1001") == SHARE
    room.gone_well("1001")
    assert in_vain(room, "1001") == 1
    assert in_vain(room, "1002") == SHARE, "of somebody else"


def test_each_counts_for_its_own_ten_minutes() -> None:
    clock = HandClock()
    room = SignInLimits(clock)
    with room.for_one_more("1001", 0):
        room.noted("1001")
    clock.advance(1)
    assert in_vain(room, "1001") == SHARE - 1
    clock.advance(SHARE_SECONDS - 1)
    assert in_vain(room, "1001") == 1
    clock.advance(1)
    assert in_vain(room, "1001") == SHARE - 1


def test_one_that_could_not_begin_is_in_nobodys_way() -> None:
    room = SignInLimits(HandClock())
    for _ in range(SHARE + 1):
        with pytest.raises(ValueError, match="the provider is away"), room.for_one_more("1001", 0):
            raise ValueError("the provider is away")
    assert in_vain(room, "1001") == SHARE
