"""Caps refuse, turns wait."""

from __future__ import annotations

import asyncio

import pytest

from bridge.errors import LimitReached, UpstreamUnavailable
from bridge.relay import limits
from bridge.relay.limits import ConnectionCap, Turns


def test_a_full_cap_refuses_and_a_freed_place_is_good_again() -> None:
    cap = ConnectionCap(most=2)
    with cap.place(), cap.place():
        assert cap.count == 2
        with pytest.raises(LimitReached), cap.place():
            pass
    with cap.place():
        assert cap.count == 1
    assert cap.count == 0


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
            pass  # another mailbox does not wait
        gates[1].set()
        while 3 not in order:
            await asyncio.sleep(0)
        for gate in gates:
            gate.set()


async def test_who_waits_too_long_is_told_why() -> None:
    turns = Turns()
    limit, limits.TURN_SECONDS = limits.TURN_SECONDS, 0.01
    try:
        async with turns.turn(("smtp", "a@x"), 1):
            with pytest.raises(UpstreamUnavailable, match="already has 1 smtp connections"):
                async with turns.turn(("smtp", "a@x"), 1):
                    pass
    finally:
        limits.TURN_SECONDS = limit


async def test_no_limit_means_no_waiting_and_nothing_is_remembered() -> None:
    turns = Turns()
    async with turns.turn(("imap", "a@x"), None), turns.turn(("imap", "a@x"), None):
        pass
    async with turns.turn(("imap", "a@x"), 1):
        pass
    assert not turns._semaphores
