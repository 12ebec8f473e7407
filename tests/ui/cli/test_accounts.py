"""What `accounts list --json` and `status --json` say of an account."""

from __future__ import annotations

import pytest

from bridge.advice.diagnosis import Diagnosis
from bridge.control.contract import AccountState, AccountStatus, Status
from bridge.ui.cli.accounts import rows_of


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
