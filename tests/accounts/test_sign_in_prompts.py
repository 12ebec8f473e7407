"""Who is prompted: each OS user is told only of what that user's own programs have asked for."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from bridge.accounts import sign_in_prompts as module
from bridge.accounts.sign_in_prompts import ADDRESSES, KEPT, USERS, SignInPrompts
from bridge.model import Account, Caller, Ends, SignInPrompt
from tests.clocks import ManualClock

ALICE, BOB = "alice@example.com", "bob@example.com"
ONE, OTHER = "1000", "1001"


@dataclass
class Office:
    """Accounts in states that a test sets. As in SignInPrompts, None means that nobody has to sign in."""

    clock: ManualClock = field(default_factory=ManualClock)
    states: dict[str, bool | None] = field(default_factory=lambda: {ALICE: False, BOB: False})
    removed: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.prompts = SignInPrompts(self.find, self.is_pending, self.caller_of, self.clock)

    def find(self, address: str) -> Account | None:
        return None if address in self.removed else Account(address, "own", address, {})

    async def is_pending(self, account: Account, asker: str) -> bool | None:
        return self.states.get(account.address, False)

    async def caller_of(self, ends: Ends | None) -> Caller:
        return Caller(unknown="closed") if ends is None else Caller("one", ONE)

    async def addresses(self, user_id: str) -> list[str]:
        return [prompt.address for prompt in await self.prompts.prompts(user_id)]


async def test_each_user_is_told_of_what_their_own_programs_asked_for() -> None:
    office = Office()
    office.prompts.note(ONE, ALICE, "crm")
    office.prompts.note(OTHER, BOB, "")
    office.clock.advance(60)
    assert await office.prompts.prompts(ONE) == (SignInPrompt(ALICE, False, "crm", 60.0),)
    assert await office.addresses(OTHER) == [BOB]
    assert await office.addresses("1002") == []


async def test_a_program_of_nobody_known_is_nobodys() -> None:
    office = Office()
    office.prompts.note("", ALICE, "crm")
    assert await office.addresses("") == []
    assert await office.prompts.user_of(None) == ""
    assert await office.prompts.user_of(Ends(("127.0.0.1", 1), ("127.0.0.1", 2))) == ONE


async def test_a_sign_in_under_way_is_shown_and_one_that_is_done_is_forgotten() -> None:
    office = Office()
    office.prompts.note(ONE, ALICE, "crm")
    office.states[ALICE] = True
    assert [prompt.is_pending for prompt in await office.prompts.prompts(ONE)] == [True]
    office.states[ALICE] = None
    assert await office.addresses(ONE) == []
    office.states[ALICE] = False
    assert await office.addresses(ONE) == [], "the next time its program asks again first"


async def test_an_account_that_was_taken_out_is_forgotten() -> None:
    office = Office()
    office.prompts.note(ONE, ALICE, "crm")
    office.removed.add(ALICE)
    assert await office.addresses(ONE) == []


async def test_it_is_remembered_for_as_long_as_a_program_asks() -> None:
    office = Office()
    office.prompts.note(ONE, ALICE, "crm")
    office.clock.advance(KEPT - 1)
    office.prompts.note(ONE, ALICE, "")
    office.clock.advance(KEPT - 1)
    assert [prompt.program for prompt in await office.prompts.prompts(ONE)] == ["crm"]
    office.clock.advance(2)
    assert await office.addresses(ONE) == []


async def test_memory_is_bounded_and_a_full_list_moves_on() -> None:
    assert (ADDRESSES, USERS, KEPT) == (25, 4096, 24 * 3600), "as docs/security.md has them"
    office = Office()
    many = [f"p{number}@example.com" for number in range(ADDRESSES + 1)]
    for address in many:
        office.prompts.note(ONE, address, "crm")
    assert await office.addresses(ONE) == many[:-1]
    office.states[many[0]] = None
    await office.addresses(ONE)
    office.prompts.note(ONE, many[-1], "crm")
    assert await office.addresses(ONE) == many[1:]
    for number in range(USERS):
        office.prompts.note(f"u{number}", ALICE, "crm")
    assert await office.addresses(ONE) == []


async def test_news_wake_those_whose_they_are() -> None:
    office = Office()
    mine, theirs = office.prompts.change_of(ONE), office.prompts.change_of(OTHER)
    office.prompts.note(ONE, ALICE, "crm")
    assert (mine.is_set(), theirs.is_set()) == (True, False)
    mine = office.prompts.change_of(ONE)
    office.prompts.note(ONE, ALICE, "crm")
    assert not mine.is_set(), "the same again is no news"
    office.prompts.heard(BOB)
    assert not mine.is_set()
    office.prompts.heard(ALICE)
    assert (mine.is_set(), theirs.is_set()) == (True, False)


async def test_who_asks_again_while_we_look_is_not_forgotten() -> None:
    office = Office()
    looking, go_on = asyncio.Event(), asyncio.Event()

    async def slow(account: Account, asker: str) -> bool | None:
        looking.set()
        await go_on.wait()
        return None

    office.prompts = SignInPrompts(office.find, slow, office.caller_of, office.clock)
    office.prompts.note(ONE, ALICE, "crm")
    async with asyncio.TaskGroup() as group:
        group.create_task(office.prompts.prompts(ONE))
        await looking.wait()
        office.clock.advance(1)
        office.prompts.note(ONE, ALICE, "crm")
        go_on.set()
    office.prompts.note(ONE, BOB, "crm")
    assert list(office.prompts._wanted[ONE]) == [ALICE, BOB]


async def test_the_latest_users_are_remembered_and_those_who_wait_for_nothing_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "USERS", 2)
    office = Office()
    for user in (ONE, OTHER, ONE, "1002"):
        office.prompts.note(user, ALICE, "crm")
    assert [await office.addresses(user) for user in (ONE, OTHER, "1002")] == [[ALICE], [], [ALICE]]
    office.states[ALICE] = None
    assert await office.addresses("1002") == []
    office.prompts.note(OTHER, BOB, "crm")
    assert await office.addresses(OTHER) == [BOB]
    assert list(office.prompts._wanted) == [ONE, OTHER]
