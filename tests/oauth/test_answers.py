"""How a token endpoint's answer is read."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import AuthorizationFailed, BridgeError, ProviderUnavailable
from bridge.oauth import answers
from bridge.oauth.failures import Failure, refresh_problem, sign_in_problem
from bridge.observe.scrubber import scrubbed


def id_token(**claims: Any) -> dict[str, str]:
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return {"id_token": f"e30.{body}.c2ln"}


def test_the_life_counts_from_the_question() -> None:
    token = answers.access_token({"access_token": "t", "token_type": "bearer", "expires_in": "3599"}, asked_at=100.0)
    assert (token.obtained_at, token.expires_at) == (100.0, 3699.0)


@pytest.mark.parametrize("life", [{}, {"expires_in": None}, {"expires_in": "soon"}, {"expires_in": []}])
def test_an_unsaid_life_is_short(life: dict[str, Any]) -> None:
    token = answers.access_token({"access_token": "t", **life}, asked_at=0.0)
    assert token.expires_at == answers.DEFAULT_LIFE


@pytest.mark.parametrize("number", ["NaN", "1e999", "-Infinity", "1" + "0" * 400])
def test_a_life_that_is_no_number_of_seconds_is_short(number: str) -> None:
    answer = json.loads(f'{{"access_token": "t", "expires_in": {number}}}')
    assert answers.access_token(answer, asked_at=0.0).expires_at == answers.DEFAULT_LIFE


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"access_token": ""},
        {"access_token": 5},
        {"access_token": "t", "token_type": "mac"},
        {"access_token": "t", "token_type": 5},
        {"access_token": "a lone surrogate: \ud800"},
        {"access_token": "t\x01auth=Bearer u"},
        {"access_token": "t\r\n"},
        {"access_token": "clé"},
    ],
)
def test_an_answer_without_a_bearer_token_is_trouble_of_the_provider(answer: dict[str, Any]) -> None:
    with pytest.raises(ProviderUnavailable) as caught:
        answers.access_token(answer, asked_at=0.0)
    assert scrubbed(str(caught.value)) == str(caught.value)


def test_scopes_that_are_not_named_are_those_asked_for() -> None:
    assert answers.granted_scopes({}, ("a", "b")) == {"a", "b"}
    assert answers.granted_scopes({"scope": "a c"}, ("a", "b")) == {"a", "c"}
    assert answers.granted_scopes({"scope": ["a"]}, ("a", "b")) == {"a"}
    assert answers.granted_scopes({"scope": ["a", {}, 1, None]}, ("a", "b")) == {"a"}


def test_missing_scopes_are_named() -> None:
    answers.check_scopes({"https://Mail.example/"}, ["https://mail.example"])
    with pytest.raises(AuthorizationFailed, match=r"IMAP\.All") as refusal:
        answers.check_scopes({"SMTP.Send"}, ["IMAP.All", "SMTP.Send"])
    assert refusal.value.code == "missing_scope"


@pytest.mark.parametrize(
    "answer", [{}, {"id_token": 5}, {"id_token": "a"}, {"id_token": "a.!.c"}, {"id_token": "a.W10.c"}]
)
def test_an_id_token_that_cannot_be_read_says_nothing(answer: dict[str, Any]) -> None:
    assert answers.claims(answer) == {}


def test_an_id_token_of_brackets_says_nothing() -> None:
    brackets = base64.urlsafe_b64encode(b"[" * 100_000).decode()
    assert answers.claims({"id_token": f"e30.{brackets}.c2ln"}) == {}


def test_claims_are_read() -> None:
    assert answers.claims(id_token(sub="ü1")) == {"sub": "ü1"}


def test_claims_for_another_client_are_refused() -> None:
    answers.check_audience({}, "me")
    answers.check_audience({"aud": "me"}, "me")
    answers.check_audience({"aud": ["other", "me"]}, "me")
    with pytest.raises(AuthorizationFailed):
        answers.check_audience({"aud": "other"}, "me")
    with pytest.raises(AuthorizationFailed):
        answers.check_audience({"sub": "1"}, "me")


@pytest.mark.parametrize(
    ("found", "unsaid", "known"),
    [
        ({"email": "A@b.example", "email_verified": True}, False, True),
        ({"email": "A@b.example", "email_verified": "true"}, False, True),
        ({"email": "A@b.example", "email_verified": False}, True, False),
        ({"email": "A@b.example"}, False, False),
        ({"email": "A@b.example"}, True, True),
        ({"email": 5, "email_verified": True}, True, False),
        ({"email_verified": True}, True, False),
    ],
)
def test_only_a_verified_address_is_a_subject(found: dict[str, Any], unsaid: bool, known: bool) -> None:
    subject = answers.subject_by_email(found, unsaid=unsaid)
    assert (subject is not None and subject.is_named("a@B.example")) is known


@pytest.mark.parametrize(
    "claim",
    ["mallory@b.example\x1b]0;done\x07", "a@b.example\nfor alice@b.example", "a@b.example\u202eelpmaxe"]
    + ["a b@c.example", "\ud800@b.example", "a" * 1_000_000 + "@b.example", "no address", "", None, 5, ["a@b.example"]],
)
def test_what_nobody_should_print_is_nobodys_address(claim: object) -> None:
    """Its owner may have chosen it, and it is shown in terminals, logs and notifications."""
    assert answers.named(claim) == ""
    assert answers.subject_by_email({"email": claim}, unsaid=True) is None


@pytest.mark.parametrize("claim", ["Rene\u0301@B.example", "REN\u00c9@b.example", " ren\u00e9@b.example"])
def test_an_address_is_spelt_as_the_configuration_spells_it(claim: str) -> None:
    subject = answers.subject_by_email({"email": claim}, unsaid=True)
    assert subject is not None
    assert subject.address == "ren\u00e9@b.example"


def test_the_fingerprint_is_of_everything_that_a_grant_depends_on() -> None:
    first = answers.fingerprint(("google", "id", "a", "x"))
    assert first == answers.fingerprint(("google", "id", "a", "x"))
    assert first != answers.fingerprint(("google", "id", "ax"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    ["access_token", "token_type", "expires_in", "scope", "id_token", "aud", "sub", "email", "email_verified"]
    + ["error", "error_description", "error_codes", "suberror"]
)
ANSWERS = st.dictionaries(NAMES, JSON, max_size=8)


@given(answer=ANSWERS)
def test_any_answer_is_a_token_or_the_providers_trouble(answer: dict[str, Any]) -> None:
    try:
        token = answers.access_token(answer, asked_at=100.0)
    except ProviderUnavailable:
        return
    assert token.value.reveal() == answer["access_token"]
    assert abs(token.expires_at) < float("inf")


@given(answer=ANSWERS, body=st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_id_token_has_claims_or_none_and_names_a_person_or_nobody(answer: dict[str, Any], body: bytes) -> None:
    encoded = base64.urlsafe_b64encode(body).rstrip(b"=").decode()
    found = answers.claims({**answer, "id_token": f"e30.{encoded}.c2ln"})
    subject = answers.subject_by_email({**found, **answer}, unsaid=True)
    assert subject is None or "@" in subject.address
    assert answers.is_for({**found, **answer}, "client") in {True, False}


@given(answer=ANSWERS, status=st.integers(100, 599))
def test_any_failure_is_one_of_our_errors(answer: dict[str, Any], status: int) -> None:
    failure = Failure.of(answer, status)
    assert isinstance(refresh_problem(failure), BridgeError)
    assert isinstance(sign_in_problem(failure), BridgeError)
