"""Caps refuse a connection, turns make it wait."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import LimitReached, UpstreamUnavailable
from bridge.relay import limits
from bridge.relay.limits import ConnectionCap, Turns, console_cap
from bridge.ui.i18n import translation


def test_a_full_cap_refuses_and_a_freed_place_is_good_again() -> None:
    cap = ConnectionCap(most=2)
    with cap.place(), cap.place():
        assert cap.count == 2
        with pytest.raises(LimitReached), cap.place():
            pass
    with cap.place():
        assert cap.count == 1
    assert cap.count == 0


def test_who_gives_one_place_back_still_has_the_others() -> None:
    """A caller that has given all its places back is forgotten, since there may be any number of other machines."""
    cap = ConnectionCap(most=20, share=3)
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(cap.place()).give_to("user 1000")
        with cap.place() as other:
            other.give_to("user 1001")
        for _ in range(2):
            with pytest.raises(LimitReached), cap.place() as fourth:
                fourth.give_to("user 1000")
    assert not cap._by_caller
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(cap.place()).give_to("user 1000")
        with cap.place() as third:
            third.give_to("user 1000")
        stack.enter_context(cap.place()).give_to("user 1000")
        with pytest.raises(LimitReached), cap.place() as fourth:
            fourth.give_to("user 1000")


@pytest.mark.parametrize(("descriptors", "places"), [(None, 1000), (1_000_000, 1000), (1024, 256)])
def test_the_console_leaves_descriptors_for_mail(descriptors: int | None, places: int) -> None:
    cap = console_cap(descriptors)
    with ExitStack() as stack:
        for _ in range(places):
            stack.enter_context(cap.place())
        with pytest.raises(LimitReached):
            stack.enter_context(cap.place())


def test_of_the_consoles_second_half_too_one_user_has_no_more_than_a_share() -> None:
    cap = console_cap(4 * 4 * limits.SHARE)
    with ExitStack() as stack:
        while not cap.is_busy:
            stack.enter_context(cap.place())
        for _ in range(limits.SHARE):
            stack.enter_context(cap.place()).give_to("user 1001")
        with pytest.raises(LimitReached, match="to the console are open"), cap.place() as place:
            place.give_to("user 1001")
        stack.enter_context(cap.place()).give_to("user 1000")


async def test_trap_34_the_fourth_smtp_session_of_a_mailbox_waits_for_its_turn() -> None:
    turns, order = Turns(), []
    gates = [asyncio.Event() for _ in range(4)]

    async def session(number: int) -> None:
        async with turns.turn(("smtp", "alice@contoso.com"), 3):
            order.append(number)
            await gates[number].wait()

    async with asyncio.TaskGroup() as group:
        for number in range(4):
            group.create_task(session(number))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert order == [0, 1, 2]
        async with turns.turn(("smtp", "bob@contoso.com"), 3):
            pass  # does not wait, since it is another mailbox
        gates[1].set()
        while 3 not in order:
            await asyncio.sleep(0)
        for gate in gates:
            gate.set()


async def test_who_waits_too_long_is_told_why() -> None:
    turns = Turns(spare={})
    limit, limits.TURN_SECONDS = limits.TURN_SECONDS, 0.01
    try:
        async with turns.turn(("smtp", "a@x"), 1):
            with pytest.raises(UpstreamUnavailable, match=r"SMTP connections as its provider allows \(1\)") as caught:
                async with turns.turn(("smtp", "a@x"), 1):
                    pass
    finally:
        limits.TURN_SECONDS = limit
    assert caught.value.public == "The mailbox has too many connections just now. Try again later."
    assert caught.value.diagnosis is not None
    assert caught.value.diagnosis.key == "mail.crowded"
    assert caught.value.said is not None
    assert caught.value.said.told(translation("fr")).startswith("a@x a déjà autant de connexions SMTP que son ")


async def test_of_those_who_have_waited_in_vain_no_more_are_let_in_than_may_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise a burst of hundreds would reach the mail server at once when all of them have waited long enough."""
    monkeypatch.setattr(limits, "TURN_SECONDS", 0.01)
    turns, key = Turns({"smtp": 1}), ("smtp", "a@x")
    async with turns.turn(key, 1):
        for _ in range(2):
            async with turns.turn(key, 1):
                with pytest.raises(UpstreamUnavailable):
                    async with turns.turn(key, 1):
                        pass
    assert not turns._lines


async def test_who_is_let_in_beyond_the_limit_takes_nobodys_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TURN_SECONDS", 0.01)
    turns, key = Turns({"smtp": 1}), ("smtp", "a@x")
    async with AsyncExitStack() as first, AsyncExitStack() as beyond:
        await first.enter_async_context(turns.turn(key, 1))
        await beyond.enter_async_context(turns.turn(key, 1))
        await first.aclose()
        async with turns.turn(key, 1), asyncio.TaskGroup() as group:
            waiting = await started(group, turns, 1, AsyncExitStack())
            await beyond.aclose()
            await asyncio.sleep(0)
            assert not waiting.done()
            waiting.cancel()
    assert not turns._lines


async def test_no_limit_means_no_waiting_and_nothing_is_remembered() -> None:
    turns = Turns()
    async with turns.turn(("imap", "a@x"), None), turns.turn(("imap", "a@x"), None):
        pass
    async with turns.turn(("imap", "a@x"), 1):
        pass
    assert not turns._lines


async def holding(turns: Turns, most: int, stack: AsyncExitStack) -> None:
    await stack.enter_async_context(turns.turn(("smtp", "a@x"), most))


async def started(group: asyncio.TaskGroup, turns: Turns, most: int, stack: AsyncExitStack) -> asyncio.Task[None]:
    """The task of a login that has its turn already or waits for it."""
    task = group.create_task(holding(turns, most, stack))
    await asyncio.sleep(0)
    return task


async def test_who_gives_a_turn_back_leaves_the_others_counted() -> None:
    turns = Turns()
    async with AsyncExitStack() as third, AsyncExitStack() as second, asyncio.TaskGroup() as group:
        async with AsyncExitStack() as first:
            await holding(turns, 2, first)
            await holding(turns, 2, second)
        await holding(turns, 2, third)
        fourth = await started(group, turns, 2, third)
        assert not fourth.done(), "two are left, which are all that there may be"
        await second.aclose()
        await fourth
    assert not turns._lines


async def test_a_lower_limit_counts_the_sessions_that_began_under_the_old_one() -> None:
    turns = Turns()
    async with AsyncExitStack() as third, asyncio.TaskGroup() as group:
        async with AsyncExitStack() as first_two:
            for _ in range(2):
                await holding(turns, 3, first_two)
            await holding(turns, 3, third)
            fourth = await started(group, turns, 1, third)
            assert not fourth.done()
        await asyncio.sleep(0)
        assert not fourth.done(), "one is left, which is all that there may be"
        await third.aclose()
        await fourth
    assert not turns._lines


async def test_a_higher_limit_lets_in_those_who_wait_already_and_in_their_order() -> None:
    turns = Turns()
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        await holding(turns, 1, stack)
        waiting = [await started(group, turns, 1, stack) for _ in range(3)]
        assert not any(task.done() for task in waiting)
        fifth = await started(group, turns, 3, stack)
        await asyncio.sleep(0)
        assert [task.done() for task in (*waiting, fifth)] == [True, True, False, False]
        await stack.aclose()
        await waiting[2]
        await fifth
    assert not turns._lines


async def test_whoever_leaves_in_the_moment_of_his_turn_gives_it_to_the_next() -> None:
    turns = Turns()
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        async with AsyncExitStack() as first:
            await holding(turns, 1, first)
            leaving = await started(group, turns, 1, stack)
            gone = await started(group, turns, 1, stack)
            last = await started(group, turns, 1, stack)
            gone.cancel()
        leaving.cancel()  # it has been given its turn, but has not run since
        await last
        assert leaving.cancelled()
    assert not turns._lines


async def test_whoever_gives_up_waiting_leaves_no_room_for_one_more() -> None:
    turns = Turns()
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        await holding(turns, 1, stack)
        gone = await started(group, turns, 1, stack)
        next_one = await started(group, turns, 1, stack)
        gone.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        assert gone.cancelled()
        assert not next_one.done(), "the first one is still there"
        assert len(turns._lines["smtp", "a@x"]._waiting) == 1, "a session may last for days, and many give up behind it"
        await stack.aclose()
        await next_one
    assert not turns._lines


async def test_whoever_gives_up_as_the_last_one_leaves_takes_nothing_of_the_next_ones() -> None:
    turns, held = Turns(), list[int]()

    async def session(number: int) -> None:
        async with turns.turn(("smtp", "a@x"), 1):
            held.append(number)
            try:
                await asyncio.Event().wait()
            finally:
                held.remove(number)

    async with asyncio.TaskGroup() as group:
        sessions = [group.create_task(session(number)) for number in range(2)]
        await asyncio.sleep(0)
        for one in sessions:  # as when the bridge stops, or when their worker has died
            one.cancel()
        for number in (2, 3):
            sessions.append(group.create_task(session(number)))
            for _ in range(5):
                await asyncio.sleep(0)
        assert held == [2], "one at a time"
        for one in sessions:
            one.cancel()
    assert all(one.cancelled() for one in sessions)
    assert not turns._lines


def test_one_caller_gets_a_share_of_the_second_half_and_leaves_the_rest_to_others() -> None:
    cap = ConnectionCap(most=20, share=3)
    with ExitStack() as stack:
        while not cap.is_busy:
            assert not stack.enter_context(cap.place()).needs_caller
        assert cap.count == 10
        for caller in (*["user 1001"] * 3, *["user 1000"] * 3):
            place = stack.enter_context(cap.place())
            assert place.needs_caller
            place.give_to(caller)
        with pytest.raises(LimitReached, match="3 more of user 1001"), cap.place() as place:
            assert cap.count == 17, "held while somebody is asked whose it is"
            place.give_to("user 1001")
        for _ in range(4):
            stack.enter_context(cap.place()).give_to("")  # no user is known for them: all of them share this limit
        with pytest.raises(LimitReached, match="20 connections wait"):
            stack.enter_context(cap.place())
    assert (cap.count, cap.is_busy) == (0, False)
    assert not cap._by_caller, "who has gone is not remembered"


@given(st.lists(st.tuples(st.sampled_from(["", "user 1", "user 2", "host 192.0.2.1"]), st.booleans()), max_size=200))
def test_no_order_of_coming_and_going_takes_more_than_there_is(steps: list[tuple[str, bool]]) -> None:
    cap, held = ConnectionCap(most=12, share=3), list[tuple[str, ExitStack]]()
    for caller, is_coming in steps:
        if not is_coming and held:
            held.pop(0)[1].close()
            continue
        stack = ExitStack()
        try:
            place = stack.enter_context(cap.place())
            if place.needs_caller:
                place.give_to(caller)
        except LimitReached:
            stack.close()
            continue
        held.append((caller, stack))
        assert cap.count == len(held) <= 12
        assert all(count <= 3 for name, count in cap._by_caller.items() if name)
    for _, stack in held:
        stack.close()
    assert cap.count == 0
