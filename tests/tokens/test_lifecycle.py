"""Which state a record is in, and the table of moves: every state with every event."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from bridge.advice.diagnosis import Diagnosis
from bridge.errors import GrantRevoked, ProviderRefused, ProviderUnavailable
from bridge.model import AccessToken, Subject, TokenSet
from bridge.secret import Secret
from bridge.tokens.lifecycle import (
    Absent,
    Answered,
    Ask,
    Away,
    Drop,
    End,
    Ended,
    Event,
    Fresh,
    Join,
    Later,
    Pending,
    Refused,
    Revoked,
    Save,
    SignIn,
    Stale,
    State,
    Use,
    Wanted,
    next_move,
    state_of,
)
from bridge.tokens.vault import Entry
from tests.tokens.fakes import ALICE

NOW = 1_000_000.0
TOKEN = AccessToken(Secret("t"), NOW + 3600, NOW)
OTHER = AccessToken(Secret("other"), NOW + 3600, NOW)
TOKENS = TokenSet(TOKEN, Secret("g"), subject=Subject("alice@example.com"))
ENTRY = Entry("acme", "one", "alice@example.com", TOKENS)

AWAY, GONE = ProviderUnavailable("HTTP 500"), GrantRevoked("gone")
NEXT = TokenSet(OTHER, Secret("rotated"))

STATES: dict[str, State] = {
    "absent": Absent(),
    "revoked": Revoked("it has ended", None),
    "new": Fresh(TOKEN, is_new=True),
    "fresh": Fresh(TOKEN, is_new=False),
    "stale": Stale(TOKEN),
    "expired": Stale(None),
    "pending": Pending(7, None),
    "pending over a stale one": Pending(7, TOKEN),
    "pending, unattended": Pending(7, None, is_attended=False),
}
EVENTS: dict[str, Event] = {
    "wanted": Wanted(),
    "refused": Refused(TOKEN),
    "another refused": Refused(OTHER),
    "answered": Answered(NEXT),
    "away": Away(AWAY),
    "ended": Ended(GONE),
}
WHY = Diagnosis.of("sign_in.first")
FIRST, ENDED = SignIn(WHY.told(), WHY), SignIn("it has ended", None)
USE, LATE, ALONE = Use(TOKEN), Drop(), Later(AWAY)
TABLE: dict[str, tuple[object, ...]] = {
    # state                     wanted       refused    another     answered       away   ended
    "absent": (                 FIRST,       FIRST,     FIRST,      LATE,          LATE,  LATE),
    "revoked": (                ENDED,       ENDED,     ENDED,      LATE,          LATE,  LATE),
    "new": (                    USE,         USE,       USE,        LATE,          LATE,  LATE),
    "fresh": (                  USE,         Ask(None), USE,        LATE,          LATE,  LATE),
    "stale": (                  Ask(TOKEN),  Ask(None), Ask(TOKEN), LATE,          LATE,  LATE),
    "expired": (                Ask(None),   Ask(None), Ask(None),  LATE,          LATE,  LATE),
    "pending": (                Join(),      Join(),    Join(),     Save(NEXT, 7), ALONE, End(GONE, 7)),
    "pending over a stale one": (Join(),     Join(),    Join(),     Save(NEXT, 7), USE,   End(GONE, 7)),
}  # fmt: skip


def test_the_table_is_whole() -> None:
    assert set(TABLE) == set(STATES) - {"pending, unattended"}
    assert all(len(row) == len(EVENTS) for row in TABLE.values())
    assert {type(state) for state in STATES.values()} == {Absent, Revoked, Fresh, Stale, Pending}
    assert {type(event) for event in EVENTS.values()} == {Wanted, Refused, Answered, Away, Ended}


@pytest.mark.parametrize(("state", "event"), list(product(TABLE, EVENTS)))
def test_the_table_of_moves(state: str, event: str) -> None:
    assert next_move(STATES[state], EVENTS[event]) == TABLE[state][list(EVENTS).index(event)]


def test_where_nobody_signs_in_an_end_is_told_to_the_admin_and_asks_nobody() -> None:
    pending = Pending(7, None, is_attended=False)
    for event in (Wanted(), Refused(TOKEN), Answered(NEXT), Away(AWAY)):
        assert next_move(pending, event) == next_move(Pending(7, None), event)
    move = next_move(pending, Ended(GrantRevoked("the admin took the rights away")))
    assert isinstance(move, Later)
    assert isinstance(move.problem, ProviderRefused)
    assert str(move.problem) == "the admin took the rights away"


@pytest.mark.parametrize(
    ("after", "state"),
    [
        (0, Fresh(TOKEN, is_new=True)),
        (59, Fresh(TOKEN, is_new=True)),
        (61, Fresh(TOKEN, is_new=False)),
        (1799, Fresh(TOKEN, is_new=False)),
        (1801, Stale(TOKEN)),  # trap 1: the token would expire during a session that begins now
        (3500, Stale(TOKEN)),
        (3545, Stale(None)),
        (4000, Stale(None)),
        (-200, Fresh(TOKEN, is_new=True)),
        (-3600, Stale(None)),  # the clock was set back, so the token's age cannot be told
        (+3600 * 24 * 365, Stale(None)),
    ],
)
def test_trap_01_a_token_is_fresh_in_the_first_half_of_its_life(after: float, state: State) -> None:
    assert state_of(ENTRY, ALICE, "one", NOW + after) == state
    assert state_of(ENTRY, ALICE, "one", NOW + after, is_attended=False) == state


def test_the_renewal_asks_for_more_of_its_life() -> None:
    assert state_of(ENTRY, ALICE, "one", NOW + 1500, share=0.6) == Stale(TOKEN)
    assert state_of(ENTRY, ALICE, "one", NOW + 1400, share=0.6) == Fresh(TOKEN, is_new=False)


@pytest.mark.parametrize(
    ("entry", "fingerprint", "words"),
    [
        (replace(ENTRY, ended="the provider has ended it"), "one", "the provider has ended it"),
        (ENTRY, "two", "settings have changed"),
    ],
)
def test_only_a_person_can_help_where_a_person_signs_in(entry: Entry, fingerprint: str, words: str) -> None:
    state = state_of(entry, ALICE, fingerprint, NOW)
    assert isinstance(state, Revoked)
    assert words in state.reason
    assert state_of(entry, ALICE, fingerprint, NOW, is_attended=False) == Stale(None)


def test_what_the_configuration_calls_the_provider_does_not_matter() -> None:
    assert state_of(replace(ENTRY, provider="another name"), ALICE, "one", NOW) == Fresh(TOKEN, is_new=True)


def test_without_a_record_somebody_must_sign_in_or_nobody_need() -> None:
    assert state_of(None, ALICE, "one", NOW) == Absent()
    assert state_of(None, ALICE, "one", NOW, is_attended=False) == Stale(None)


def test_a_changed_sign_in_as_asks_the_new_person_but_not_one_who_has_signed_in_already() -> None:
    account = replace(ALICE, subject="bob@example.com")
    assert isinstance(state_of(ENTRY, account, "one", NOW), Revoked)
    known = replace(ENTRY, tokens=replace(TOKENS, subject=Subject("bob@example.com")))
    assert state_of(known, account, "one", NOW) == Fresh(TOKEN, is_new=True)
