"""A Date header has whole seconds, and an answer takes time to arrive: neither counts as an error of our clock."""

from __future__ import annotations

import pytest

from bridge.control.contract import Outcome
from bridge.doctor.clock import NOT_TOLD, clock_finding, skew

DATE = "Tue, 15 Nov 1994 08:12:31 GMT"
THEN = 784887151.0


@pytest.mark.parametrize(
    ("asked", "answered", "expected"),
    [
        (THEN, THEN + 0.1, 0),
        (THEN + 0.9, THEN + 0.95, 0),
        (THEN - 5, THEN + 5, 0),
        (THEN + 11, THEN + 11.5, 10),
        (THEN - 60.5, THEN - 60, -60),
    ],
)
def test_the_skew_is_what_cannot_be_explained_otherwise(asked: float, answered: float, expected: float) -> None:
    assert skew(DATE, asked, answered) == expected


@pytest.mark.parametrize(
    "header", ["", "yesterday", "Tue, 99 Nov 1994 08:12:31 GMT", "Tue, 15 Nov 1994 08:12:31 +99999999999999"]
)
def test_what_is_no_date_says_nothing(header: str) -> None:
    assert skew(header, THEN, THEN) is None


def test_the_server_that_agrees_best_counts() -> None:
    assert clock_finding([4000.0, 2.0]).outcome is Outcome.OK
    assert clock_finding([4000.0, -301.0]).detail.startswith("301 s behind")
    assert clock_finding([300.0]).outcome is Outcome.OK


def test_without_any_answer_it_is_not_ok() -> None:
    finding = clock_finding([])
    assert (finding.outcome, finding.sentence) == (Outcome.SKIPPED, NOT_TOLD)
