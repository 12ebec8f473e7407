"""Makes findings: each of the four outcomes has its function, so that no check says "ok" by default."""

from __future__ import annotations

from bridge.advice.base import Turn
from bridge.advice.diagnosis import Diagnosis
from bridge.advice.said import Said, as_argument
from bridge.control.contract import Finding, Outcome
from bridge.errors import BridgeError

VERBATIM = "{problem}"
"""For an error that has a sentence of its own."""
SLOW = "no result within {seconds} s"


def ok(check: str, subject: str, sentence: str, /, **arguments: object) -> Finding:
    """It was tried, and it works."""
    return Finding(check, subject, Outcome.OK, sentence, _texts(arguments))


def warning(check: str, subject: str, sentence: str, /, **arguments: object) -> Finding:
    """It was tried, and it works, but somebody should act before it no longer does, or because others can read it."""
    return Finding(check, subject, Outcome.WARNING, sentence, _texts(arguments), Turn.APP_ADMIN)


def failed(check: str, subject: str, sentence: str, /, *, turn: Turn = Turn.APP_ADMIN, **arguments: object) -> Finding:
    """It was tried, and it does not work; the sentence says who must do what."""
    return Finding(check, subject, Outcome.FAILED, sentence, _texts(arguments), turn)


def skipped(check: str, subject: str, sentence: str, /, **arguments: object) -> Finding:
    """It was not tried; the sentence says why."""
    return Finding(check, subject, Outcome.SKIPPED, sentence, _texts(arguments))


def problem_text(problem: BridgeError) -> str | Said:
    """What an error says, to stand in a sentence of any language; English only where it has nothing else."""
    return problem.said or diagnosis_text(problem.diagnosis, str(problem))


def diagnosis_text(diagnosis: Diagnosis | None, english: str) -> str | Said:
    """The same for a row of the table, followed by the other side's own words."""
    if diagnosis is None:
        return english
    sentence = Said(diagnosis.advice.sentence, diagnosis.arguments)
    if not diagnosis.words:
        return sentence
    return Said("{sentence} ({words})", (("sentence", sentence), ("words", diagnosis.words)))


def _texts(arguments: dict[str, object]) -> tuple[tuple[str, str | Said], ...]:
    return tuple((name, as_argument(value)) for name, value in arguments.items())
