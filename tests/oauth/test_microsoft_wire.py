"""The responses that msal is given: documents are cached for a day, and answers that it would misread are held back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bridge.errors import BridgeError, ProviderRefused, ProviderUnavailable
from bridge.oauth.http import Https
from bridge.oauth.microsoft import wire
from bridge.oauth.microsoft.wire import Wire
from tests.oauth.raw import Answer, Raw, Tls, http, serving


@contextmanager
def wired(tls: Tls, answer: Answer) -> Iterator[tuple[Wire, Raw]]:
    with serving(answer, *tls) as raw:
        https = Https("test", ca_file=raw.ca_file)
        try:
            yield Wire(https), raw
        finally:
            https.close()


DOCUMENT = {"authorization_endpoint": "https://a.example/authorize", "token_endpoint": "https://a.example/token"}


def test_a_document_is_asked_for_once_a_day(tls: Tls, monkeypatch: pytest.MonkeyPatch) -> None:
    good = http(json.dumps(DOCUMENT).encode())
    with wired(tls, good) as (it, raw):
        assert it.get(raw.url).json() == it.get(raw.url).json() == DOCUMENT
        assert len(raw.requests) == 1
        assert it.get(f"{raw.url}/another").json() == DOCUMENT
        assert len(raw.requests) == 2, "each has its own"
    monkeypatch.setattr(wire, "DISCOVERY_LIFE", 0.0)
    with wired(tls, good) as (it, raw):
        it.get(raw.url)
        it.get(raw.url)
        assert len(raw.requests) == 2


@pytest.mark.parametrize("missing", DOCUMENT)
def test_a_document_of_which_nothing_comes_is_not_kept_for_a_day(tls: Tls, missing: str) -> None:
    """Such as a company proxy's answer in Microsoft's place: once it lets us through, all must be well."""
    for odd in (DOCUMENT | {missing: None}, {name: url for name, url in DOCUMENT.items() if name != missing}):
        with wired(tls, http(json.dumps(odd).encode())) as (it, raw):
            assert it.get(raw.url).json() == it.get(raw.url).json() == odd
            assert len(raw.requests) == 2


def test_an_answer_to_a_question_is_not_kept_for_the_next_one(tls: Tls) -> None:
    with wired(tls, http(b"{}")) as (it, raw):
        for name in ("one", "two"):
            it.get(raw.url, params={"name": name}, headers={"X-Of-Msal": name})
    assert [request.splitlines()[0] for request in raw.requests] == [
        b"GET /token?name=one HTTP/1.1",
        b"GET /token?name=two HTTP/1.1",
    ]
    assert all(b"X-Of-Msal: " in request for request in raw.requests)


@pytest.mark.parametrize(
    ("said", "expected", "words"),
    [
        ({"error": "invalid_tenant", "error_description": "AADSTS90002: no"}, ProviderRefused, "AADSTS90002"),
        ({"error": "invalid_grant", "error_description": "AADSTS50173: no"}, ProviderUnavailable, "its endpoints"),
        ({"error": "invalid_tenant", "error_description": "AADSTS90033: no"}, ProviderUnavailable, "AADSTS90033"),
        ({}, ProviderUnavailable, "the request for its endpoints with HTTP 404"),
    ],
)
def test_a_document_that_is_refused_is_nobodys_grant_and_asked_for_again(
    tls: Tls, said: dict[str, str], expected: type[BridgeError], words: str
) -> None:
    with wired(tls, http(json.dumps(said).encode(), "404 Not Found")) as (it, raw):
        for times in (1, 2):
            with pytest.raises(expected, match=words) as caught:
                it.get(raw.url)
            assert caught.type is expected
            assert len(raw.requests) == times


def test_a_form_is_answered_with_a_reason_or_not_at_all(tls: Tls) -> None:
    with wired(tls, http(b'{"error": "authorization_pending"}', "400 Bad Request")) as (it, raw):
        assert it.post(raw.url, data={"a": "b"}, headers={"X-Of-Msal": "c"}).status_code == 400
    assert b"X-Of-Msal: c\r\n" in raw.requests[0]
    assert raw.requests[0].endswith(b"\r\n\r\na=b")
    with (
        wired(tls, http(b'{"message": "CANARY"}', "404 Not Found")) as (it, raw),
        pytest.raises(ProviderUnavailable, match=r"HTTP 404 and no reason\.$"),
    ):
        it.post(raw.url, data={"a": "b"})
