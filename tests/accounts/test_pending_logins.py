"""The memory of which caller asked for which mailbox: one OS user's programs cannot displace another's entries."""

from __future__ import annotations

import pytest

from bridge.accounts import pending_logins
from bridge.accounts.pending_logins import PendingLogins
from bridge.model import Caller
from bridge.secret import Secret
from tests.clocks import ManualClock

ALICE, BOB = Caller("alice", "1000"), Caller("bob", "1001")
MINE, OFFICE = "alice@example.com", "office@example.com"
PASSWORD = Secret(b"CANARY-of-the-crm")


def made_up(number: int) -> str:
    return f"u{number}@pattern.example"


def test_made_up_addresses_push_out_those_of_who_has_made_them_up() -> None:
    logins = PendingLogins(ManualClock())
    logins.note(OFFICE, BOB, PASSWORD)  # beside another user's entry, and as old
    for address in (MINE, OFFICE):
        logins.note(address, ALICE, PASSWORD)
    for number in range(pending_logins.ADDRESSES + 1):
        logins.note(made_up(number), BOB, PASSWORD)
    for address in (MINE, OFFICE):
        assert [login.caller for login in logins.of(address)] == [ALICE]
    assert logins.of(made_up(0)) == []
    assert logins.of(made_up(pending_logins.ADDRESSES)) != []


class Counted(Caller):
    """A caller that counts how often its key is read."""

    looks = 0

    @property
    def key(self) -> str:
        Counted.looks += 1
        return f"user {self.user_id}"


def test_a_full_table_is_not_counted_anew_for_each_made_up_address() -> None:
    logins, bob = PendingLogins(ManualClock()), Counted("bob", "1001")
    for number in range(pending_logins.ADDRESSES):
        logins.note(made_up(number), bob, PASSWORD)
    before = Counted.looks
    logins.note(made_up(pending_logins.ADDRESSES), bob, PASSWORD)
    assert logins.of(made_up(0)) == []
    assert 0 < Counted.looks - before < 50


def test_what_a_person_has_answered_is_nobodys_share_any_more() -> None:
    logins = PendingLogins(ManualClock())
    for number in range(pending_logins.ADDRESSES):
        logins.note(made_up(number), BOB, PASSWORD)
        if number % 2:
            logins.forget(made_up(number))
    for number in range(pending_logins.ADDRESSES // 2 + 1):
        logins.note(f"a{number}@pattern.example", ALICE, PASSWORD)  # one too many, and most of the entries are hers
    assert logins.of("a0@pattern.example") == []
    assert [login.caller for login in logins.of(made_up(0))] == [BOB]


def test_an_address_that_is_used_again_is_not_the_oldest() -> None:
    logins = PendingLogins(ManualClock())
    for number in range(pending_logins.ADDRESSES):
        logins.note(made_up(number), BOB, PASSWORD)
    logins.note(made_up(0), BOB, PASSWORD)
    logins.note(OFFICE, BOB, PASSWORD)
    assert logins.of(made_up(0)) != []
    assert logins.of(made_up(1)) == []


def test_one_user_makes_no_storm_of_notices() -> None:
    clock = ManualClock()
    logins = PendingLogins(clock)
    for number in range(pending_logins.NEWS):
        logins.note(made_up(number), BOB, PASSWORD)
        assert logins.is_news(made_up(number))
    logins.note(OFFICE, BOB, PASSWORD)
    assert not logins.is_news(OFFICE)
    logins.note(OFFICE, ALICE, PASSWORD)
    assert logins.is_news(OFFICE)
    assert not logins.is_news(OFFICE), "nobody is told twice"
    clock.advance(pending_logins.TELL_EVERY)
    logins.note(MINE, BOB, PASSWORD)
    assert logins.is_news(MINE)


def test_of_callers_who_are_not_known_everybody_is_told() -> None:
    logins = PendingLogins(ManualClock())
    for number in range(pending_logins.NEWS + 1):
        logins.note(made_up(number), Caller(unknown="not told"), PASSWORD)
        assert logins.is_news(made_up(number))


def test_of_what_is_over_nothing_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """There can be any number of other machines, and of addresses that match a pattern."""
    monkeypatch.setattr(pending_logins, "ADDRESSES", 3)
    clock = ManualClock()
    logins = PendingLogins(clock)
    for number in range(10):
        logins.note(made_up(number), Caller(host=f"192.0.2.{number}"), PASSWORD)
        assert logins.is_news(made_up(number))
    assert [len(table) for table in (logins._logins, logins._told, logins._news)] == [3, 3, 3]
    clock.advance(pending_logins.LIFE)
    assert logins.of(made_up(9)) == []
    assert [len(table) for table in (logins._logins, logins._told)] == [2, 2]


def test_whose_wish_was_answered_is_told_anew_of_the_next_one() -> None:
    logins = PendingLogins(ManualClock())
    for _ in range(2):
        logins.note(MINE, ALICE, PASSWORD)
        assert logins.is_news(MINE)
        logins.forget(MINE)
