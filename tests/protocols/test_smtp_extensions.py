"""Which extensions our EHLO reply may offer."""

from __future__ import annotations

import pytest

from bridge.protocols.smtp.extensions import offered_extensions, upstream_extensions

GMAIL = frozenset({"SIZE 35882577", "8BITMIME", "ENHANCEDSTATUSCODES", "PIPELINING", "CHUNKING", "SMTPUTF8"})
EXCHANGE = GMAIL - {"SIZE 35882577"} | {"SIZE 157286400", "DSN", "BINARYMIME"}


def test_trap_43_only_what_both_gmail_and_exchange_have_is_offered() -> None:
    assert offered_extensions([GMAIL, EXCHANGE]) == (
        "8BITMIME",
        "CHUNKING",
        "ENHANCEDSTATUSCODES",
        "PIPELINING",
        "SIZE 35882577",
        "SMTPUTF8",
    )


def test_of_one_upstream_everything_is_offered() -> None:
    assert set(offered_extensions([EXCHANGE])) == EXCHANGE


def test_nothing_is_promised_for_an_upstream_that_is_not_known_yet() -> None:
    assert offered_extensions([GMAIL, None]) == ()
    assert offered_extensions([]) == ()


def test_size_without_a_limit_leaves_the_others_limit() -> None:
    assert offered_extensions([frozenset({"SIZE"}), frozenset({"size 1000"}), frozenset({"SIZE 0"})]) == ("SIZE 1000",)
    assert offered_extensions([frozenset({"SIZE 0"})]) == ("SIZE",)


@pytest.mark.parametrize("limit", ["9" * 21, "9" * 8000, "\u0661\u0662", "a lot"])
def test_a_size_that_is_none_is_no_limit(limit: str) -> None:
    """RFC 1870 section 3: twenty digits at most. Python parses no more than 4,300, and the line may be longer."""
    assert offered_extensions([frozenset({f"SIZE {limit}"})]) == ("SIZE",)
    assert offered_extensions([frozenset({f"SIZE {limit}"}), frozenset({"SIZE 1000"})]) == ("SIZE 1000",)


def test_the_largest_size_is_a_limit() -> None:
    assert offered_extensions([frozenset({"SIZE " + "9" * 20})]) == ("SIZE " + "9" * 20,)


def test_what_is_ours_or_private_is_not_passed_on() -> None:
    lines = ["STARTTLS", "AUTH LOGIN XOAUTH2", "AUTH=LOGIN", "XCLIENT NAME", "HELP", "DSN", "LIMITS RCPTMAX=10", ""]
    assert upstream_extensions(lines) == frozenset({"DSN", "LIMITS RCPTMAX=10"})
    assert offered_extensions([frozenset(lines)]) == ("DSN", "LIMITS RCPTMAX=10")
