"""Interleaved rounds: each system in turn, again and again, so that what else the machine does meets all of them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from statistics import median

from bench.client import Closed
from bench.rows import Column, Goal, Row, Scale
from bench.systems import System

OURS = "mail-bridge"


@dataclass
class Figures:
    """One column's figures, by system and round."""

    row: str
    column: Column
    by_system: dict[str, list[float]] = field(default_factory=dict)

    def median(self, system: str) -> float:
        return median(self.by_system[system])

    def ratio(self, other: str) -> float | None:
        """Ours to another's: the median of the rounds' ratios. None where that one was not measured."""
        if not all(self.by_system.get(name) for name in (OURS, other)):
            return None
        pairs = zip(self.by_system[OURS], self.by_system[other], strict=True)
        return median(ours / max(theirs, 1e-9) for ours, theirs in pairs)

    def is_reached(self, goal: Goal) -> bool | None:
        """Whether the goal is reached; None if a figure that it needs was not measured."""
        if not self.by_system.get(OURS):
            return None
        figure = self.ratio(goal.beside) if goal.beside else self.median(OURS)
        return None if figure is None else figure <= goal.most


def measured(rows: Sequence[Row], systems: Sequence[System], scale: Scale) -> list[Figures]:
    """All rounds of all rows. A system that may keep running is started once."""
    found = {row.key: [Figures(row.key, column) for column in row.columns] for row in rows}

    def note(row: Row, system: System) -> None:
        for figures, value in zip(found[row.key], row.measure(system, scale), strict=True):
            figures.by_system.setdefault(system.name, []).append(value)
            column = figures.column
            print(f"{row.key:<12} {system.name:<12} {column.title}: {value:.3f} {column.unit}", file=sys.stderr)

    shared = [row for row in rows if not row.is_fresh and not row.starts_itself]
    if shared:
        with ExitStack() as stack:
            for system in systems:
                stack.enter_context(system.running())
            for row in shared:
                for number in range(scale.rounds):
                    for system in systems:
                        if number == 0 or not system.is_slow_to_log_in:
                            note(row, system)
    for row in rows:
        if row in shared:
            continue
        for system in systems:
            if (row.is_alone and system.name != OURS) or row.sessions > system.most_sessions:
                continue
            try:
                with system.running() if row.is_fresh else nullcontext():
                    note(row, system)
            except Closed as problem:  # that another program cannot do it is a result, too
                if system.name == OURS:
                    raise
                print(f"{row.key:<12} {system.name:<12} {problem}; its log:\n{system.log}", file=sys.stderr)
    return [figures for row in rows for figures in found[row.key]]
