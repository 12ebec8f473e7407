"""The accounts' states, counted for monitoring."""

from __future__ import annotations

import asyncio

import pytest

from bridge.control.contract import AccountState, AccountStatus
from bridge.controller import account_counts
from bridge.controller.account_counts import COUNT_EVERY, AccountCounts
from tests.tokens.fakes import HandClock


class Accounts:
    """One account, and how often somebody looked."""

    def __init__(self) -> None:
        self.state = AccountState.SIGN_IN
        self.looked = 0
        self.store_answers = asyncio.Event()
        self.store_answers.set()

    async def look(self) -> tuple[AccountStatus, ...]:
        self.looked += 1
        await self.store_answers.wait()
        return (AccountStatus("alice@example.com", "acme", "", self.state),)


async def test_however_many_ask_the_accounts_are_looked_up_once_a_minute() -> None:
    accounts, clock = Accounts(), HandClock()
    it = AccountCounts(accounts.look, clock)
    answers = await asyncio.gather(*(it.counts() for _ in range(100)))
    clock.advance(COUNT_EVERY - 1)
    accounts.state = AccountState.READY
    answers.append(await it.counts())
    assert answers == 101 * [{"sign-in": 1}]
    assert accounts.looked == 1
    clock.advance(1)
    assert await it.counts() == {"ready": 1}


async def test_a_store_that_hangs_is_given_up_and_left_alone_for_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account_counts, "PATIENCE", 0)
    accounts, clock = Accounts(), HandClock()
    accounts.store_answers.clear()
    it = AccountCounts(accounts.look, clock)
    assert [*await asyncio.gather(it.counts(), it.counts())] == [None, None]
    assert accounts.looked == 1
    accounts.store_answers.set()
    monkeypatch.undo()
    assert await it.counts() is None
    clock.advance(COUNT_EVERY)
    assert await it.counts() == {"sign-in": 1}
