"""A Secret shows its value only through reveal()."""

from __future__ import annotations

import copy
import hmac
import json
import logging
import pickle
from hmac import compare_digest

import pytest

from bridge.secret import Secret

CANARY = "canary-3f1b"


def test_no_way_of_printing_shows_it(caplog: pytest.LogCaptureFixture) -> None:
    secret = Secret(CANARY)
    logging.getLogger("t").warning("%s %r %s", secret, secret, [secret])
    shown = [
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret!r:>30}",
        "%s" % secret,  # noqa: UP031  one of the ways to format it
        repr({"a": (secret,)}),
        caplog.text,
    ]
    assert not any(CANARY in text for text in shown)
    assert secret.reveal() == CANARY


def test_it_cannot_be_pickled_copied_or_serialised() -> None:
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy, json.dumps):
        with pytest.raises(TypeError) as refused:
            attempt(Secret(CANARY))
        assert CANARY not in str(refused.value)


def test_it_compares_by_value_and_across_text_and_bytes() -> None:
    assert Secret("é") == Secret("é")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert Secret(b"a").matches(Secret(b"a"))
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2


def test_it_compares_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """It compares the whole value with hmac.compare_digest()."""
    compared = []

    def spied(first: bytes, second: bytes) -> bool:
        compared.append((first, second))
        return compare_digest(first, second)

    monkeypatch.setattr(hmac, "compare_digest", spied)
    assert not Secret(CANARY).matches(Secret("x"))
    assert Secret(CANARY) == Secret(CANARY)
    assert compared == [(CANARY.encode(), b"x"), (CANARY.encode(), CANARY.encode())]


def test_an_empty_one_is_false() -> None:
    assert not Secret("")
    assert Secret(b"x")


def test_a_text_with_lone_surrogates_can_still_be_compared() -> None:
    assert Secret("\udcff") == Secret("\udcff")
