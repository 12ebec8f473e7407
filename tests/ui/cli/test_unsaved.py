"""A sign-in that the store cannot save, in a command that ends afterwards."""

from __future__ import annotations

import asyncio

import pytest

from bridge.control.contract import AccountState, AccountStatus
from bridge.errors import BridgeError, SignInUnsaved
from bridge.ui.cli.unsaved import saved
from tests.bridging import ALICE


async def test_what_was_not_saved_in_time_is_told_as_lost(capsys: pytest.CaptureFixture[str]) -> None:
    async def save(address: str) -> AccountStatus:
        raise SignInUnsaved("the disk is full")

    with pytest.raises(BridgeError, match=f"The sign-in for {ALICE} could not be saved, and is lost: sign in again"):
        await saved(save, ALICE, "It waits.", wait=0)
    assert "It waits." in capsys.readouterr().err


async def test_a_try_that_has_begun_in_time_is_not_cut_off() -> None:
    """Perhaps the sign-in is saved by then, and the mail servers are being tried: that must not be lost."""
    account = AccountStatus(ALICE, "gmail", ALICE, AccountState.READY)

    async def save(address: str) -> AccountStatus:
        for _ in range(10):
            await asyncio.sleep(0)
        return account

    assert await saved(save, ALICE, "It waits.", wait=0) == account
