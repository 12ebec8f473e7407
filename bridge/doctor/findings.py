"""Findings in the making: each of three outcomes has its function, so that no check says "ok" by default."""

from __future__ import annotations

from bridge.advice.base import Turn
from bridge.advice.said import Said, as_argument
from bridge.control.contract import Finding, Outcome


def ok(check: str, subject: str, sentence: str, /, *, turn: Turn = Turn.NOBODY, **arguments: object) -> Finding:
    """It was tried, and it works; `turn` where somebody should see to it all the same."""
    return Finding(check, subject, Outcome.OK, sentence, _texts(arguments), turn)


def failed(check: str, subject: str, sentence: str, /, *, turn: Turn = Turn.APP_ADMIN, **arguments: object) -> Finding:
    """It was tried, and it does not work; the sentence says who must do what."""
    return Finding(check, subject, Outcome.FAILED, sentence, _texts(arguments), turn)


def skipped(check: str, subject: str, sentence: str, /, **arguments: object) -> Finding:
    """It was not tried; the sentence says why."""
    return Finding(check, subject, Outcome.SKIPPED, sentence, _texts(arguments))


def _texts(arguments: dict[str, object]) -> tuple[tuple[str, str | Said], ...]:
    return tuple((name, as_argument(value)) for name, value in arguments.items())
