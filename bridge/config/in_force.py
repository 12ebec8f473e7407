"""What the file says by now and the running bridge does not do, for the administrator."""

from __future__ import annotations

from collections.abc import Iterator

from bridge.advice.diagnosis import Diagnosis
from bridge.config.diff import plan
from bridge.config.schema import Config
from bridge.errors import BridgeError, ConfigError

REFUSED, RESTART = "configuration.refused", "configuration.restart"
"""Rows of advice.table."""


def refusal(problem: BridgeError) -> Diagnosis:
    """Of the first thing to change, where it is the file itself that cannot be used; the log has all of them."""
    first = problem.sentences[0] if isinstance(problem, ConfigError) else problem.said or str(problem)
    return Diagnosis.of(REFUSED, problem=first)


def not_in_force(refused: Diagnosis | None, started: Config, config: Config) -> Iterator[Diagnosis]:
    """A file that was refused, and what of the one in force waits for a restart."""
    if refused is not None:
        yield refused
    if waiting := plan(started, config).waiting:
        yield Diagnosis.of(RESTART, settings=", ".join(waiting))
