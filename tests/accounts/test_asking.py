"""What one OS user's programs can do to the memory of who wants which mailbox: nothing to another's."""

from __future__ import annotations

from bridge.accounts import asking
from bridge.accounts.asking import Asks
from bridge.model import Caller
from bridge.secret import Secret
from tests.clocks import ManualClock

ALICE, BOB = Caller("alice", "1000"), Caller("bob", "1001")
MINE, OFFICE = "alice@example.com", "office@example.com"
PASSWORD = Secret(b"CANARY-of-the-crm")


def made_up(number: int) -> str:
    return f"u{number}@pattern.example"


def test_made_up_addresses_push_out_those_of_who_has_made_them_up() -> None:
    asks = Asks(ManualClock())
    asks.note(OFFICE, BOB, PASSWORD)  # beside another's, and as old
    for address in (MINE, OFFICE):
        asks.note(address, ALICE, PASSWORD)
    for number in range(asking.ADDRESSES + 1):
        asks.note(made_up(number), BOB, PASSWORD)
    for address in (MINE, OFFICE):
        assert [ask.caller for ask in asks.of(address)] == [ALICE]
    assert asks.of(made_up(0)) == []
    assert asks.of(made_up(asking.ADDRESSES)) != []


def test_one_user_makes_no_storm_of_notices() -> None:
    clock = ManualClock()
    asks = Asks(clock)
    for number in range(asking.NEWS):
        asks.note(made_up(number), BOB, PASSWORD)
        assert asks.is_news(made_up(number))
    asks.note(OFFICE, BOB, PASSWORD)
    assert not asks.is_news(OFFICE)
    asks.note(OFFICE, ALICE, PASSWORD)
    assert asks.is_news(OFFICE)
    assert not asks.is_news(OFFICE), "nobody is told twice"
    clock.advance(asking.TELL_EVERY)
    asks.note(MINE, BOB, PASSWORD)
    assert asks.is_news(MINE)


def test_of_callers_who_are_not_known_everybody_is_told() -> None:
    asks = Asks(ManualClock())
    for number in range(asking.NEWS + 1):
        asks.note(made_up(number), Caller(unknown="not told"), PASSWORD)
        assert asks.is_news(made_up(number))
