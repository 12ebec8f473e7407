"""When a person is told that they are needed: at once, then less and less often, and never in a flood (pure)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

HOUR: Final = 3600.0
INTERVALS: Final = (HOUR, 4 * HOUR, 24 * HOUR)
"""After the first, second and every later time: within a morning, by the afternoon, then once a day."""
ALONG: Final = 0.25
"""Accounts that are due within this share of an interval are told along with the others, so that their times
converge."""
GAP: Final = 60.0
"""Between two notifications, for each one of the last hour: accounts whose tokens end one after another (an
administrator revoked them all) make some ten notifications in the first hour, however many accounts there are."""


@dataclass(frozen=True, slots=True)
class Told:
    """How often an account's person was told, and when last (wall clock)."""

    times: int
    at: float


@dataclass(frozen=True, slots=True)
class Memory:
    """What decide() has to know about its own past."""

    told: Mapping[str, Told] = field(default_factory=dict)
    sent: tuple[float, ...] = ()
    """When notifications were sent in the last hour."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The accounts to tell of now, in one notification (none if empty), and when to decide again; None: after a
    change."""

    addresses: tuple[str, ...]
    look_again_at: float | None
    memory: Memory


def decide(needing: Collection[str], pending: Collection[str], memory: Memory, now: float) -> Decision:
    """Decide anew, after anything has changed and when the time has come.

    Args: needing, accounts that need their person, in order; pending, those whose sign-in is under way: nobody is told
    of them, and what was told is remembered, in case the sign-in comes to nothing.
    """
    # A wall clock that was set back must not make anybody wait for longer than they would have.
    sent = tuple(min(at, now) for at in memory.sent if at > now - HOUR)
    told = {
        address: Told(entry.times, min(entry.at, now))
        for address, entry in memory.told.items()
        if address in needing or address in pending
    }
    due_at = {address: _due_at(told.get(address), now) for address in needing}
    if not due_at:
        return Decision((), None, Memory(told, sent))
    first = max(min(due_at.values()), sent[-1] + GAP * len(sent) if sent else now)
    if first > now:
        return Decision((), first, Memory(told, sent))
    chosen = tuple(address for address in needing if due_at[address] - now <= ALONG * _interval(told.get(address)))
    told |= {address: Told(told[address].times + 1 if address in told else 1, now) for address in chosen}
    later = min(_due_at(told[address], now) for address in needing)
    return Decision(chosen, max(later, now + GAP), Memory(told, (*sent, now)))


def _due_at(told: Told | None, now: float) -> float:
    return now if told is None else told.at + _interval(told)


def _interval(told: Told | None) -> float:
    return INTERVALS[min(told.times, len(INTERVALS)) - 1] if told is not None else 0.0
