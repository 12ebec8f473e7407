"""The state, verifier and challenge of a sign-in."""

import re

import pytest

from bridge.errors import AuthorizationFailed
from bridge.oauth import pkce
from bridge.secret import Secret


def test_challenge_is_that_of_rfc_7636_appendix_b() -> None:
    verifier = Secret("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
    assert pkce.challenge(verifier) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_verifiers_have_the_recommended_length_and_alphabet_and_differ() -> None:
    verifiers = {pkce.new_verifier() for _ in range(20)}
    assert len(verifiers) == 20
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", verifier.reveal()) for verifier in verifiers)


def test_states_differ() -> None:
    assert len({pkce.new_state() for _ in range(20)}) == 20


def test_the_right_state_passes() -> None:
    pkce.check_state("abc", {"state": "abc"})


@pytest.mark.parametrize("parameters", [{}, {"state": ""}, {"state": "abd"}, {"state": "äöü\ud800"}])
def test_any_other_state_is_refused_and_not_repeated(parameters: dict[str, str]) -> None:
    with pytest.raises(AuthorizationFailed) as refusal:
        pkce.check_state("abc", parameters)
    assert refusal.value.code == "unknown_state"
    assert "abc" not in str(refusal.value)
    assert "abd" not in str(refusal.value)
