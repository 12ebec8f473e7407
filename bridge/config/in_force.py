"""Tells the administrator what the file says by now, but the running bridge does not do."""

from __future__ import annotations

from collections.abc import Iterator

from bridge.advice.diagnosis import Diagnosis
from bridge.config.diff import plan
from bridge.config.schema import Config
from bridge.errors import BridgeError, ConfigError

REFUSED, RESTART = "configuration.refused", "configuration.restart"
"""Rows of advice.table."""


def refusal(problem: BridgeError) -> Diagnosis:
    """Names the first thing to change where the file itself is invalid; the log has all of them."""
    first = problem.sentences[0] if isinstance(problem, ConfigError) else problem.words
    return Diagnosis.of(REFUSED, problem=first)


def not_in_force(refused: Diagnosis | None, started: Config, config: Config) -> Iterator[Diagnosis]:
    """A file that was refused, and the settings of the file in force that wait for a restart."""
    if refused is not None:
        yield refused
    if waiting := plan(started, config).waiting:
        yield Diagnosis.of(RESTART, settings=", ".join(waiting))
