"""Guessing is bounded, and somebody with the right password is not locked out by wrong ones."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.accounts import failed_logins as module
from bridge.accounts.failed_logins import (
    AT_ONCE,
    FORGET_EVERY,
    GUESS_EVERY,
    GUESSES,
    LONGEST_AGAIN,
    LONGEST_DELAY,
    NAMES,
    SAME_ONES,
    SHOWN,
    WAITING,
    FailedLogins,
    delay,
)
from bridge.errors import LimitReached
from bridge.model import Caller
from bridge.secret import Secret
from tests.clocks import ManualClock

ALICE, BOB = "user 1000", "user 1001"
NAME = "alice@example.com"
RIGHT = Secret(b"CANARY-right-one")


def wrong(number: int) -> Secret[bytes]:
    return Secret(f"CANARY-wrong-{number}".encode())


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def guesses(clock: ManualClock) -> FailedLogins:
    return FailedLogins(clock)


async def tried(
    guesses: FailedLogins,
    clock: ManualClock,
    caller: str,
    name: str,
    password: Secret[bytes],
    *,
    is_repeated: bool = False,
) -> float:
    """One wrong login up to its answer. Returns: the seconds that it took. Raises: LimitReached."""
    before = clock.monotonic()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(_quiet(guesses.wrong(caller, name, password, is_repeated=is_repeated)))
        await asyncio.sleep(0)
        while not task.done():
            clock.advance(0.25)
            await asyncio.sleep(0)
    if (problem := task.result()) is not None:
        raise problem
    return clock.monotonic() - before


async def _quiet(work: object) -> LimitReached | None:
    """Returns LimitReached instead of raising it, since an error in one task would end its group."""
    try:
        await work  # type: ignore[misc]
    except LimitReached as problem:
        return problem
    return None


async def spend(guesses: FailedLogins, clock: ManualClock, caller: str, name: str = NAME) -> None:
    """Guess until this caller may guess no more."""
    for number in range(2 * GUESSES):
        try:
            await tried(guesses, clock, caller, name, wrong(number))
        except LimitReached:
            return
    raise AssertionError("there is no end to guessing")


_numbers = itertools.count(1_000_000)


async def guessed(guesses: FailedLogins, caller: str, name: str) -> int:
    """How many more passwords of this caller are compared if it hangs up each time, so that no time passes."""
    for count in range(10 * GUESSES):
        password = wrong(next(_numbers))
        if not guesses.may_try(caller, name, password):
            return count
        async with asyncio.TaskGroup() as group:
            task = group.create_task(_quiet(guesses.wrong(caller, name, password)))
            await asyncio.sleep(0)
            task.cancel()
    raise AssertionError("there is no end to guessing")


async def test_the_answer_no_comes_later_and_later_and_never_as_late_as_a_crm_gives_up(
    clock: ManualClock, guesses: FailedLogins
) -> None:
    took = [await tried(guesses, clock, ALICE, NAME, wrong(0)) for _ in range(12)]
    assert took[:AT_ONCE] == [0.0] * AT_ONCE
    assert took[AT_ONCE:] == sorted(took[AT_ONCE:])
    assert took[AT_ONCE] > 0
    assert max(took) <= LONGEST_DELAY + 0.25 < 30


async def test_half_a_second_is_doubled_up_to_ten_and_one_wrong_login_is_forgotten_every_thirty() -> None:
    """The figures are those of docs/security.md."""
    assert [delay(failures) for failures in range(1, 11)] == [0, 0, 0, 0.5, 1, 2, 4, 8, 10, 10]
    clock = ManualClock()
    guesses = FailedLogins(clock)
    assert [await tried(guesses, clock, ALICE, NAME, wrong(0)) for _ in range(3)] == [0.0] * 3
    clock.advance(30)
    assert [await tried(guesses, clock, ALICE, NAME, wrong(0)) for _ in range(2)] == [0.0, 0.5]


async def test_who_repeats_a_wrong_password_hears_of_it_before_the_impatient_give_up(
    clock: ManualClock, guesses: FailedLogins
) -> None:
    """node-imap waits for 5 s, from the connection on. Only a new password, which may be a guess, waits for longer."""
    took = [await tried(guesses, clock, ALICE, NAME, wrong(0)) for _ in range(12)]
    assert max(took) == LONGEST_AGAIN <= 4.5
    for number in range(1, 4):
        assert await tried(guesses, clock, ALICE, NAME, wrong(number)) == LONGEST_DELAY
        assert await tried(guesses, clock, ALICE, NAME, wrong(0)) == LONGEST_AGAIN


async def test_of_eight_answers_that_wait_the_next_one_is_sent_away_and_the_other_users_is_not(
    clock: ManualClock, guesses: FailedLogins
) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_quiet(guesses.wrong(ALICE, NAME, wrong(0)))) for _ in range(20)]
        other = group.create_task(_quiet(guesses.wrong(BOB, NAME, wrong(0))))
        await asyncio.sleep(0)
        assert clock.sleepers == 8
        assert [task.done() for task in tasks] == [True] * 3 + [False] * 8 + [True] * 9
        assert other.done()
        clock.advance(60)
    assert [task.result() is not None for task in tasks] == [False] * 11 + [True] * 9
    assert other.result() is None


async def test_twenty_passwords_may_be_tried_and_then_one_more_every_five_minutes(
    clock: ManualClock, guesses: FailedLogins
) -> None:
    assert await guessed(guesses, ALICE, NAME) == 20
    clock.advance(299)
    assert await guessed(guesses, ALICE, NAME) == 0
    clock.advance(1)
    assert await guessed(guesses, ALICE, NAME) == 1


async def test_it_is_forgotten_by_itself(clock: ManualClock, guesses: FailedLogins) -> None:
    await spend(guesses, clock, ALICE)
    assert not guesses.may_try(ALICE, NAME, RIGHT)
    clock.advance(GUESS_EVERY)
    assert guesses.may_try(ALICE, NAME, RIGHT)
    clock.advance(2 * GUESSES * GUESS_EVERY)
    assert await tried(guesses, clock, ALICE, NAME, wrong(99)) == 0.0
    assert await guessed(guesses, ALICE, NAME) == GUESSES - 1, "who has waited for long has none to the good"


async def test_the_same_wrong_password_all_night_is_one_guess(clock: ManualClock, guesses: FailedLogins) -> None:
    for _ in range(10 * GUESSES):
        await tried(guesses, clock, ALICE, NAME, wrong(0))
    assert guesses.may_try(ALICE, NAME, RIGHT)


async def test_whoever_tries_a_wrong_password_with_each_mechanism_waits_once_for_all(
    clock: ManualClock, guesses: FailedLogins
) -> None:
    """Otherwise a third typing error would be answered after 22 seconds."""
    took = [
        await tried(guesses, clock, ALICE, NAME, wrong(number), is_repeated=mechanism > 0)
        for number in range(6)
        for mechanism in range(3)
    ]
    assert took[::3] == [0, 0, 0, 0.5, 1, 2]
    assert sum(took) == sum(took[::3])


async def test_a_new_password_that_is_called_a_repetition_is_a_guess(clock: ManualClock, guesses: FailedLogins) -> None:
    """As a worker might say if its memory were somebody else's."""
    for number in range(GUESSES):
        await tried(guesses, clock, ALICE, NAME, wrong(number), is_repeated=True)
    assert not guesses.may_try(ALICE, NAME, RIGHT)


async def test_two_programs_with_a_wrong_password_each_make_two_guesses(
    clock: ManualClock, guesses: FailedLogins
) -> None:
    for number in range(10 * GUESSES):
        await tried(guesses, clock, ALICE, NAME, wrong(number % 2))
    assert await guessed(guesses, ALICE, NAME) >= GUESSES - 2


async def test_an_answer_whose_client_has_hung_up_waits_no_more(clock: ManualClock, guesses: FailedLogins) -> None:
    """Otherwise eight impatient clients could have everybody answered "later", for ever."""
    for _ in range(AT_ONCE + 2 * WAITING):
        async with asyncio.TaskGroup() as group:
            task = group.create_task(guesses.wrong(ALICE, NAME, wrong(0)))
            await asyncio.sleep(0)
            task.cancel()
    assert await tried(guesses, clock, ALICE, NAME, wrong(1)) >= LONGEST_DELAY


async def test_a_password_that_was_shown_before_is_no_guess(clock: ManualClock, guesses: FailedLogins) -> None:
    guesses.right(ALICE, NAME, RIGHT)
    await spend(guesses, clock, ALICE)
    assert guesses.may_try(ALICE, NAME, RIGHT)
    assert not guesses.may_try(ALICE, NAME, wrong(1)), "another one might be a guess that is right"


async def test_of_two_passwords_that_are_right_both_were_shown(clock: ManualClock) -> None:
    """For a week after a change both occur: a program with the new password, and one that still has the old one."""
    guesses, new = FailedLogins(clock), Secret(b"CANARY-new")
    for password in (RIGHT, new):
        guesses.right(ALICE, NAME, password)
    await spend(guesses, clock, ALICE)
    assert guesses.may_try(ALICE, NAME, RIGHT)
    assert guesses.may_try(ALICE, NAME, new)


async def test_what_one_user_guesses_is_not_anothers_matter_nor_another_names(
    clock: ManualClock, guesses: FailedLogins
) -> None:
    await spend(guesses, clock, ALICE)
    assert guesses.may_try(BOB, NAME, RIGHT)
    assert guesses.may_try(ALICE, "bob@example.com", RIGHT)
    assert await tried(guesses, clock, BOB, NAME, wrong(0)) == 0.0


async def test_parallel_guesses_are_no_way_around(clock: ManualClock, guesses: FailedLogins) -> None:
    """Of any number at once, at most GUESSES are compared, and at most WAITING of them hold a connection."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_quiet(guesses.wrong(ALICE, NAME, wrong(n)))) for n in range(500)]
        await asyncio.sleep(0)
        assert clock.sleepers <= WAITING
        assert not guesses.may_try(ALICE, NAME, RIGHT)
        for _ in range(60):
            clock.advance(1.0)
            await asyncio.sleep(0)
        assert all(task.done() for task in tasks)
    assert sum(task.result() is not None for task in tasks) >= 500 - WAITING - AT_ONCE


async def test_made_up_names_do_not_make_room_for_more_guesses(clock: ManualClock, guesses: FailedLogins) -> None:
    await spend(guesses, clock, ALICE)
    for number in range(40 * NAMES):
        with suppress(LimitReached):
            await tried(guesses, clock, ALICE, f"nobody-{number}@example.com", wrong(number))
        if number % NAMES == 0:
            with pytest.raises(LimitReached):
                await tried(guesses, clock, ALICE, NAME, wrong(10_000 + number))
        if clock.monotonic() > 1000 + GUESS_EVERY / 2:
            break
    assert sum(len(names) for names in guesses._callers.values()) <= NAMES + 1


async def test_made_up_names_do_not_push_out_one_whose_answers_wait_no_more(
    clock: ManualClock, guesses: FailedLogins
) -> None:
    """Its delay is forgotten sooner than its guesses."""
    assert await guessed(guesses, ALICE, NAME) == GUESSES
    clock.advance(FORGET_EVERY * GUESSES)
    for number in range(NAMES):
        await tried(guesses, clock, ALICE, f"nobody-{number}@example.com", wrong(number))
    assert await guessed(guesses, ALICE, NAME) == FORGET_EVERY * GUESSES / GUESS_EVERY


@pytest.mark.parametrize("names", [2, 32])
async def test_made_up_names_make_no_second_record_of_a_name(names: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It uses the shared record while others fill the list, and must not get its own too when they are forgotten."""
    monkeypatch.setattr(module, "NAMES", names)
    clock = ManualClock()
    guesses = FailedLogins(clock)
    for number in range(names):
        await tried(guesses, clock, ALICE, f"nobody-{number}@example.com", wrong(0))
    assert await guessed(guesses, ALICE, NAME) == GUESSES
    clock.advance(GUESS_EVERY)
    assert await guessed(guesses, ALICE, NAME) == 1
    clock.advance(GUESS_EVERY * GUESSES)
    assert await guessed(guesses, ALICE, NAME) == GUESSES, "and then it is forgotten, too"
    clock.advance(GUESS_EVERY)
    assert await guessed(guesses, ALICE, NAME) == 1


async def test_names_that_are_forgotten_make_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a caller that once got many names wrong would share twenty guesses among all other names for ever."""
    monkeypatch.setattr(module, "NAMES", 2)
    clock = ManualClock()
    guesses = FailedLogins(clock)
    for number in range(3):
        await tried(guesses, clock, ALICE, f"nobody-{number}@example.com", wrong(0))
    clock.advance(GUESS_EVERY)
    for name in (NAME, "bob@example.com"):
        assert await guessed(guesses, ALICE, name) == GUESSES


async def test_the_caller_who_is_forgotten_is_the_one_who_has_tried_nothing_for_longest(
    clock: ManualClock, guesses: FailedLogins, small: None
) -> None:
    assert await guessed(guesses, ALICE, NAME) == GUESSES
    for number in range(2 * module.CALLERS):
        await tried(guesses, clock, f"user {number}", NAME, wrong(0))
        with pytest.raises(LimitReached):
            await tried(guesses, clock, ALICE, NAME, wrong(100 + number))
    assert not guesses.may_try(ALICE, NAME, RIGHT)


def test_a_password_that_is_shown_again_is_not_the_next_to_be_forgotten(small: None) -> None:
    guesses = FailedLogins(ManualClock())
    for number in range(2 * module.SHOWN):
        guesses.right(ALICE, NAME, RIGHT)
        guesses.right(f"user {number}", NAME, RIGHT)
    assert {caller for caller, _ in guesses._shown} == {ALICE, *(f"user {n}" for n in range(9, 16))}


async def test_a_network_of_ipv6_addresses_is_one_caller(clock: ManualClock, guesses: FailedLogins) -> None:
    await spend(guesses, clock, Caller(host="2001:db8::1").key)
    assert not guesses.may_try(Caller(host="2001:db8::abcd:2").key, NAME, RIGHT)
    assert guesses.may_try(Caller(host="2001:db8:0:1::1").key, NAME, RIGHT)
    assert guesses.may_try(Caller(host="192.0.2.1").key, NAME, RIGHT)
    assert guesses.may_try(Caller(host="fe80::1%eth0").key, NAME, RIGHT)
    await spend(guesses, clock, Caller(host="192.0.2.1").key)
    assert not guesses.may_try(Caller(host="192.0.2.1").key, NAME, RIGHT)
    assert guesses.may_try(Caller(host="192.0.2.2").key, NAME, RIGHT), "a machine has one of these"


async def test_only_the_latest_wrong_passwords_are_known_again(clock: ManualClock, guesses: FailedLogins) -> None:
    """A caller has years to think of new ones, and each would stay in memory."""
    for number in range(GUESSES):
        await tried(guesses, clock, ALICE, NAME, wrong(number))
    await tried(guesses, clock, ALICE, NAME, wrong(GUESSES - SAME_ONES))
    clock.advance(GUESS_EVERY)
    await tried(guesses, clock, ALICE, NAME, wrong(GUESSES - SAME_ONES - 1))
    with pytest.raises(LimitReached, match="different wrong passwords"):
        await tried(guesses, clock, ALICE, NAME, wrong(GUESSES - SAME_ONES - 2))


async def test_programs_of_whom_nothing_is_known_are_one_caller_and_are_bounded_too(guesses: FailedLogins) -> None:
    mac, sandbox = Caller(unknown="the system does not tell"), Caller(unknown="closed", is_for_now=True)
    assert await guessed(guesses, mac.key, NAME) == GUESSES
    assert not guesses.may_try(sandbox.key, NAME, RIGHT)
    assert guesses.may_try(ALICE, NAME, RIGHT)


async def test_1024_callers_are_remembered_and_32_names_of_each() -> None:
    """The figures of docs/security.md; beyond them the first caller is forgotten, and further names share a record."""
    guesses = FailedLogins(ManualClock())
    for number in range(34):
        await guesses.wrong(ALICE, f"nobody-{number}@example.com", wrong(0))
    assert len(guesses._callers[ALICE]) == 32 + 1
    for number in range(1024):
        await guesses.wrong(f"host of {number}", NAME, wrong(0))
    assert len(guesses._callers) == 1024
    assert ALICE not in guesses._callers


@pytest.fixture
def small() -> Iterator[None]:
    before = module.CALLERS, module.SHOWN
    module.CALLERS, module.SHOWN = 4, 8
    yield
    module.CALLERS, module.SHOWN = before


@pytest.mark.usefixtures("small")
async def test_memory_is_bounded_whoever_comes(clock: ManualClock, guesses: FailedLogins) -> None:
    for number in range(100):
        await tried(guesses, clock, f"user {number}", NAME, wrong(0))
        guesses.right(f"user {number}", NAME, RIGHT)
    assert len(guesses._callers) == module.CALLERS
    assert len(guesses._shown) == module.SHOWN < SHOWN


def test_no_password_is_kept() -> None:
    guesses = FailedLogins(ManualClock())
    guesses.right(ALICE, NAME, RIGHT)
    assert "CANARY" not in repr(guesses._shown)


@given(st.floats(min_value=0, max_value=1e9))
def test_no_answer_waits_longer_than_the_longest(failures: float) -> None:
    assert 0 <= delay(failures) <= LONGEST_DELAY


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([ALICE, BOB, "", "host 192.0.2.1"]),
            st.sampled_from([NAME, "bob@example.com", "nobody@example.com"]),
            st.integers(0, 60),
            st.sampled_from([0.0, 1.0, 60.0]),
        ),
        max_size=150,
    )
)
async def test_whatever_is_tried_a_caller_gets_so_many_guesses_and_not_one_more(
    logins: list[tuple[str, str, int, float]],
) -> None:
    clock = ManualClock()
    guesses, started = FailedLogins(clock), clock.monotonic()
    compared: dict[tuple[str, str], set[int]] = {}
    for caller, name, number, pause in logins:
        is_open = guesses.may_try(caller, name, wrong(number))
        if is_open:
            compared.setdefault((caller, name), set()).add(number)
        with suppress(LimitReached):
            await tried(guesses, clock, caller, name, wrong(number))
        clock.advance(pause)
    more = (clock.monotonic() - started) / GUESS_EVERY + 1
    assert all(len(seen) <= GUESSES + more for seen in compared.values())
