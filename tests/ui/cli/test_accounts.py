"""What `accounts list --json` and `status --json` say of an account."""

from __future__ import annotations

import click
import pytest

from bridge.accounts.passwords import SHORTEST
from bridge.advice.diagnosis import Diagnosis
from bridge.control.contract import AccountState, AccountStatus, Status
from bridge.ui.cli.accounts import password, rows_of
from bridge.ui.i18n import Language, translation


@pytest.mark.parametrize(
    ("state", "diagnosis", "turn"),
    [
        (AccountState.READY, None, "nobody"),
        (AccountState.SIGN_IN, None, "user"),
        (AccountState.TROUBLE, Diagnosis("oauth.unreachable"), "nobody"),
        (AccountState.TROUBLE, Diagnosis("oauth.registration"), "app-admin"),
        (AccountState.SIGN_IN, Diagnosis.of("sign_in.first"), "user"),
    ],
)
def test_a_program_is_told_whose_turn_it_is(state: AccountState, diagnosis: Diagnosis | None, turn: str) -> None:
    account = AccountStatus("alice@example.com", "gmail", "alice@example.com", state, diagnosis=diagnosis)
    (row,) = rows_of(Status("", "", False, (account,), (), ()))
    assert (row["state"], row["turn"]) == (state, turn)


@pytest.mark.parametrize("language", ["en", "fr"])
def test_how_long_a_password_must_be_is_said_before_it_is_typed(language: Language) -> None:
    (option,) = (one for one in password.params if one.name == "set_from_stdin")
    assert isinstance(option, click.Option)
    assert f": {SHORTEST} " in translation(language)(option.help or "")
