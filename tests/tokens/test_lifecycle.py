"""The table of decisions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bridge.model import AccessToken, Subject, TokenSet
from bridge.secret import Secret
from bridge.tokens.lifecycle import Refresh, SignIn, Use, next_move
from bridge.tokens.vault import Entry
from tests.tokens.fakes import ALICE

NOW = 1_000_000.0
TOKEN = AccessToken(Secret("t"), NOW + 3600, NOW)
ENTRY = Entry("acme", "one", "alice@example.com", TokenSet(TOKEN, Secret("g"), subject=Subject("alice@example.com")))


@pytest.mark.parametrize(
    ("after", "move"),
    [
        (0, Use(TOKEN)),
        (1799, Use(TOKEN)),
        (1801, Refresh(TOKEN)),  # trap 1: a session begun now would end before its time
        (3500, Refresh(TOKEN)),
        (3545, Refresh(None)),
        (4000, Refresh(None)),
        (-200, Use(TOKEN)),
        (-3600, Refresh(None)),  # the clock was set back: it says nothing of the token's life
    ],
)
def test_trap_01_a_token_is_used_in_the_first_half_of_its_life(after: float, move: object) -> None:
    assert next_move(ENTRY, ALICE, "one", NOW + after) == move


def test_a_refused_token_is_replaced_unless_it_is_brand_new() -> None:
    assert next_move(ENTRY, ALICE, "one", NOW + 59, refused=TOKEN) == Use(TOKEN)
    assert next_move(ENTRY, ALICE, "one", NOW + 61, refused=TOKEN) == Refresh(None)


def test_another_token_than_the_refused_one_is_used() -> None:
    other = AccessToken(Secret("other"), NOW + 3600, NOW)
    assert next_move(ENTRY, ALICE, "one", NOW + 100, refused=other) == Use(TOKEN)


@pytest.mark.parametrize(
    ("entry", "fingerprint", "words"),
    [
        (None, "one", "nobody has signed in"),
        (replace(ENTRY, ended="the provider has ended it"), "one", "the provider has ended it"),
        (ENTRY, "two", "settings have changed"),
        (replace(ENTRY, provider="other"), "one", "settings have changed"),
    ],
)
def test_only_a_person_can_help(entry: Entry | None, fingerprint: str, words: str) -> None:
    move = next_move(entry, ALICE, fingerprint, NOW)
    assert isinstance(move, SignIn)
    assert words in move.reason


def test_a_changed_sign_in_as_asks_the_new_person_but_not_one_who_has_signed_in_already() -> None:
    account = replace(ALICE, subject="bob@example.com")
    assert isinstance(next_move(ENTRY, account, "one", NOW), SignIn)
    known = replace(ENTRY, tokens=replace(ENTRY.tokens, subject=Subject("bob@example.com")))
    assert next_move(known, account, "one", NOW) == Use(TOKEN)
