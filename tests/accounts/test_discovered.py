"""Accounts that wait for a first sign-in before anything is stored of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from bridge.accounts import discovered as module
from bridge.accounts.discovered import KEPT, DiscoveredAccounts
from bridge.model import Account
from bridge.notices import AuthorizationNeeded, Authorized, Forgotten, Notice, RefreshFailed
from tests.clocks import ManualClock

ALICE, BOB, CAROL = "alice@example.com", "bob@example.com", "carol@example.com"


@dataclass
class Office:
    """An office configured by its domain; `first_use` are the accounts that anybody may have asked for."""

    first_use: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    clock: ManualClock = field(default_factory=ManualClock)

    def __post_init__(self) -> None:
        self.discovered = DiscoveredAccounts(self.find, self.clock)

    def find(self, address: str) -> Account | None:
        if address in self.gone:
            return None
        return Account(address, "own", address, {}, is_first_use=address in self.first_use)

    def needed(self, address: str) -> None:
        self.discovered.take(AuthorizationNeeded(address, f"http://localhost:3017/sign-in/{address}", ""))

    def addresses(self) -> list[str]:
        return [account.address for account in self.discovered.accounts()]


def test_who_is_told_to_sign_in_is_waited_for_in_the_order_in_which_they_came() -> None:
    office = Office()
    for address in (BOB, ALICE, BOB):
        office.needed(address)
    assert office.addresses() == [BOB, ALICE]


def test_whom_the_provider_refuses_where_nobody_signs_in_is_one_too() -> None:
    office = Office()
    office.discovered.take(RefreshFailed(ALICE, "the app may not open this mailbox", False))
    assert office.addresses() == [ALICE]


@pytest.mark.parametrize("over", [Authorized(BOB, BOB), Forgotten(BOB)])
def test_who_has_signed_in_or_was_given_up_is_no_newcomer_until_a_program_asks_again(over: Notice) -> None:
    """The store tells of one who has signed in; and for one given up, nobody is to be told to sign in."""
    office = Office()
    office.needed(BOB)
    office.discovered.take(over)
    assert office.addresses() == []
    office.needed(BOB)
    assert office.addresses() == [BOB]


def test_a_program_that_asks_no_more_is_forgotten_after_a_day() -> None:
    office = Office()
    office.needed(ALICE)
    office.needed(BOB)
    office.clock.advance(KEPT - 1)
    office.needed(BOB)
    office.clock.advance(2)
    assert office.addresses() == [BOB]


def test_what_the_configuration_knows_no_more_is_nobody() -> None:
    office = Office()
    office.needed(ALICE)
    office.gone.add(ALICE)
    assert office.addresses() == []
    office.needed(ALICE)
    office.gone.clear()
    assert office.addresses() == [ALICE], "it is back, and still waits"


def test_nobody_can_make_names_up_where_any_password_is_told_to_sign_in() -> None:
    office = Office(first_use={ALICE})
    office.needed(ALICE)
    assert office.addresses() == []


def test_of_more_than_there_is_room_for_those_stay_whose_programs_asked_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 2)
    office = Office()
    for address in (ALICE, BOB, ALICE, CAROL):
        office.clock.advance(1)
        office.needed(address)
    assert office.addresses() == [ALICE, CAROL]
