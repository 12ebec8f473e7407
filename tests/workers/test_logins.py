"""How long a worker remembers a login, and for whom."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from bridge.model import AccessToken, Account, Login, Protocol
from bridge.secret import Secret
from bridge.workers.logins import CALLER_SECONDS, REMEMBERED, REMEMBERED_SECONDS, RecentLogins
from tests.clocks import ManualClock

LOGIN = Login(Protocol.IMAP, "alice@example.com", Secret(b"CANARY-password"))
ALICE = Account("alice@example.com", "it", "alice@example.com", {})
BOB = replace(ALICE, address="bob@example.com")


def memory(life: float = 3600.0) -> tuple[RecentLogins, ManualClock, AccessToken]:
    clock = ManualClock()
    logins = RecentLogins(clock)
    token = AccessToken(Secret("CANARY-token"), clock.now() + life, clock.now())
    logins.add(LOGIN, "", ALICE, token, asked_in=0)
    return logins, clock, token


def test_only_the_very_same_login_is_remembered() -> None:
    logins, _, token = memory()
    assert logins.find(LOGIN, "") == (ALICE, token)
    others: dict[str, Any] = {
        "protocol": Protocol.POP3,
        "username": "bob@example.com",
        "password": Secret(b"CANARY-passwore"),
    }
    assert {*others, "client_name", "is_repeated"} == {field.name for field in fields(Login)}
    for name, value in others.items():
        assert logins.find(replace(LOGIN, **{name: value}), "") is None
    assert logins.find(replace(LOGIN, client_name="crm"), "") == (ALICE, token), "that opens nothing"
    assert logins.find(replace(LOGIN, is_repeated=True), "") == (ALICE, token), "nor does it close anything"
    logins.add(replace(LOGIN, username=BOB.address), "", BOB, token, asked_in=0)
    assert logins.find(LOGIN, "") == (ALICE, token), "besides others"


def test_what_was_right_for_one_caller_is_for_no_other() -> None:
    logins, _, token = memory()
    bound = replace(LOGIN, username=BOB.address)
    logins.add(bound, "user 1001", BOB, token, asked_in=0)
    assert logins.find(bound, "user 1001") == (BOB, token)
    for whose in ("user 1002", "user 100", "host 192.0.2.1", ""):
        assert logins.find(bound, whose) is None
    assert logins.find(LOGIN, "user 1002") == (ALICE, token), "that is for all"


@pytest.mark.parametrize(("whose", "seconds"), [("", REMEMBERED_SECONDS), ("user 1001", CALLER_SECONDS)])
def test_it_is_asked_about_again_after_a_while(whose: str, seconds: float) -> None:
    """Sooner if the answer depended on the caller."""
    logins, clock, token = memory(life=86400.0)
    bound = replace(LOGIN, username=BOB.address)
    logins.add(bound, whose, BOB, token, asked_in=0)
    clock.advance(seconds - 1)
    assert logins.find(bound, whose) == (BOB, token)
    clock.advance(2)
    assert logins.find(bound, whose) is None


def test_a_token_with_less_than_half_its_life_is_not_handed_out() -> None:
    logins, clock, _ = memory(life=100)
    clock.advance(49)
    assert logins.find(LOGIN, "") is not None
    clock.advance(2)
    assert logins.find(LOGIN, "") is None


def test_what_has_changed_about_an_account_is_forgotten_for_that_account() -> None:
    logins, _, _ = memory()
    logins.forget(BOB.address)
    assert logins.find(LOGIN, "") is not None
    logins.forget(ALICE.address.title())  # the configuration may spell an address differently from the store
    assert logins.find(LOGIN, "") is None


def test_all_logins_of_an_account_are_forgotten_and_none_of_others() -> None:
    logins, _, token = memory()
    several = [replace(LOGIN, protocol=Protocol.POP3), replace(LOGIN, username="alias")]
    others = [replace(LOGIN, username=BOB.address)]
    for login in several:
        logins.add(login, "", ALICE, token, asked_in=0)
    for login in others:
        logins.add(login, "", BOB, token, asked_in=0)
    logins.forget(ALICE.address)
    assert [logins.find(login, "") for login in (LOGIN, *several)] == [None] * 3
    assert [logins.find(login, "") for login in others] == [(BOB, token)]


def test_a_changed_configuration_is_about_all() -> None:
    logins, _, _ = memory()
    logins.forget()
    assert logins.find(LOGIN, "") is None


def test_an_answer_that_a_change_has_overtaken_is_not_kept() -> None:
    logins, _, token = memory()
    asked_in = logins.generation
    logins.forget(ALICE.address)
    logins.add(LOGIN, "", ALICE, token, asked_in=asked_in)
    assert logins.find(LOGIN, "") is None
    asked_in = logins.generation
    logins.forget()
    logins.add(LOGIN, "", ALICE, token, asked_in=asked_in)
    assert logins.find(LOGIN, "") is None
    logins.add(LOGIN, "", ALICE, token, asked_in=logins.generation)
    assert logins.find(LOGIN, "") == (ALICE, token)


def test_a_change_about_another_account_overtakes_no_answer() -> None:
    """With thousands of accounts one of them gets a new token every second, and opening a mailbox takes as long."""
    logins, _, token = memory()
    asked_in = logins.generation
    logins.forget(ALICE.address)
    logins.add(replace(LOGIN, username=BOB.address), "", BOB, token, asked_in=asked_in)
    assert logins.find(replace(LOGIN, username=BOB.address), "") == (BOB, token)


def test_a_change_is_not_overlooked_behind_many_others() -> None:
    logins, _, token = memory()
    asked_in = logins.generation
    logins.forget(ALICE.address.title())
    for number in range(REMEMBERED + 1):
        logins.forget(f"{number}@example.com")
    logins.add(LOGIN, "", ALICE, token, asked_in=asked_in)
    assert logins.find(LOGIN, "") is None
    assert len(logins._changed) <= REMEMBERED


def test_it_does_not_grow_for_ever() -> None:
    logins, _, token = memory()
    for number in range(REMEMBERED + 1):
        logins.add(replace(LOGIN, username=f"{number}@example.com"), "", ALICE, token, asked_in=0)
    assert logins.find(LOGIN, "") is None
    assert logins.find(replace(LOGIN, username=f"{REMEMBERED}@example.com"), "") is not None
    assert sum(map(len, logins._logins_of.values())) == len(logins._found) <= REMEMBERED
