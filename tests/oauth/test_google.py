"""`kind: google` with answers that our own authorization server does not give."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from bridge.clock import SystemClock
from bridge.config.google import GoogleProvider
from bridge.config.provider import Flow
from bridge.errors import AuthorizationFailed, GrantRevoked, ProviderRefused, ProviderUnavailable
from bridge.model import TokenSet
from bridge.oauth.base import BrowserProvider
from bridge.secret import Secret
from bridge.ui.i18n import translation
from tests.contract.silence import refusal
from tests.contract.trials import opened
from tests.oauth.raw import Tls, http, serving

GRANT = Secret("CANARY-grant")
GOOD: dict[str, Any] = {
    "access_token": "CANARY-access",
    "refresh_token": "CANARY-refresh",
    "token_type": "Bearer",
    "expires_in": 3600,
    "scope": "https://mail.google.com/ openid https://www.googleapis.com/auth/userinfo.email",
}


@asynccontextmanager
async def asking(tls: Tls, answer: bytes, **changes: Any) -> AsyncIterator[BrowserProvider]:
    """The adapter, with a server that gives one answer to every request."""
    with serving(answer, *tls) as raw:
        known = {"kind": "google", "client_id": "it", "client_secret": "CANARY-secret", "ca_file": raw.ca_file}
        known |= dict.fromkeys(("authorization_url", "token_url", "revocation_url"), raw.url)
        async with opened(known | changes) as provider:
            assert isinstance(provider, BrowserProvider)
            yield provider


def told(status: str = "200 OK", /, **changes: Any) -> bytes:
    answer = {name: value for name, value in (GOOD | changes).items() if value is not None}
    return http(json.dumps(answer).encode(), status)


async def redeemed(tls: Tls, answer: bytes, code: str = "CANARY-code", **changes: Any) -> TokenSet:
    async with asking(tls, answer, **changes) as provider:
        request = await provider.begin(login_hint="", redirect_uri="http://localhost:3017/")
        return await provider.redeem(request, {"code": code, "state": request.state})


async def refreshed(tls: Tls, answer: bytes) -> TokenSet:
    async with asking(tls, answer) as provider:
        return await provider.refresh(GRANT, subject="alice@example.com")


async def test_what_these_tests_change_is_a_good_answer(tls: Tls) -> None:
    assert (await redeemed(tls, told())).grant.reveal() == "CANARY-refresh"
    assert (await refreshed(tls, told(refresh_token=None))).grant.reveal() == GRANT.reveal()


async def test_google_says_how_long_a_sign_in_lasts_while_the_app_is_on_trial(tls: Tls) -> None:
    before = SystemClock().now()
    ends_at = (await redeemed(tls, told(refresh_token_expires_in=604799))).ends_at
    assert ends_at is not None
    assert before + 604799 <= ends_at <= SystemClock().now() + 604799


@pytest.mark.parametrize("life", [None, "soon", [], 0, -1, True, 10**400, float("nan"), float("inf")])
async def test_a_life_that_is_none_ends_no_sign_in(tls: Tls, life: object) -> None:
    assert (await redeemed(tls, told(refresh_token_expires_in=life))).ends_at is None


async def test_nobody_in_particular_is_suggested_where_nobody_is_known(tls: Tls) -> None:
    async with asking(tls, b"") as provider:
        request = await provider.begin(login_hint="", redirect_uri="http://localhost:3017/")
    assert "login_hint" not in parse_qs(urlsplit(request.url).query, keep_blank_values=True)


async def test_after_a_mistake_google_lets_the_person_choose_the_account(tls: Tls) -> None:
    async with asking(tls, b"") as provider:
        uri = "http://localhost:3017/"
        request = await provider.begin(login_hint="alice@example.com", redirect_uri=uri, asks_who=True)
    query = parse_qs(urlsplit(request.url).query)
    assert query["prompt"] == ["select_account consent"]
    assert query["login_hint"] == ["alice@example.com"]


async def test_an_empty_code_is_not_sent(tls: Tls) -> None:
    with refusal(AuthorizationFailed):
        await redeemed(tls, told(), code="")


async def test_a_code_that_google_repeats_is_not_told(tls: Tls) -> None:
    """A short code, because long words are removed from any text."""
    answer = http(b'{"error": "invalid_grant", "error_description": "CANARY-7 is spent"}', "400 Bad Request")
    with refusal(AuthorizationFailed) as caught:
        await redeemed(tls, answer, code="CANARY-7")
    assert "is spent" in str(caught.value)


async def test_an_error_counts_whatever_else_the_answer_says(tls: Tls) -> None:
    """Also with a status of success, and beside a token."""
    with refusal(AuthorizationFailed):
        await redeemed(tls, told(error="invalid_grant"))
    with refusal(GrantRevoked):
        await refreshed(tls, told(error="invalid_grant"))


async def test_a_status_of_failure_counts_whatever_the_answer_says(tls: Tls) -> None:
    with refusal(AuthorizationFailed):
        await redeemed(tls, told("400 Bad Request"))
    with refusal(ProviderUnavailable):  # the grant is kept
        await refreshed(tls, told("400 Bad Request"))


@pytest.mark.parametrize(
    "body", [b"<html>Welcome to our hotel</html>", b"[]", b"access_token=CANARY&token_type=Bearer"]
)
async def test_what_is_no_json_object_is_not_googles(tls: Tls, body: bytes) -> None:
    """oauthlib would accept a form-encoded answer."""
    with refusal(ProviderUnavailable) as caught:
        await redeemed(tls, http(body))
    assert "captive portal" in str(caught.value)
    with refusal(ProviderUnavailable) as caught:
        await refreshed(tls, http(body))
    assert "captive portal" in str(caught.value)


@pytest.mark.parametrize("grant", [None, "", 7, [], {"token": "CANARY"}])
async def test_a_sign_in_without_a_grant_that_is_text_is_not_kept(tls: Tls, grant: object) -> None:
    with refusal(AuthorizationFailed) as caught:
        await redeemed(tls, told(refresh_token=grant))
    assert caught.value.code == "no_grant"


NONSENSE: list[dict[str, Any]] = [
    {"access_token": None, "id_token": "CANARY-id"},  # google-auth's error contains the whole answer
    {"expires_in": "soon"},
    {"expires_in": []},
]


@pytest.mark.parametrize("changes", [*NONSENSE, {"expires_in": 1e300}])
async def test_of_a_refreshs_answer_that_makes_no_sense_nothing_is_told(tls: Tls, changes: dict[str, Any]) -> None:
    with refusal(ProviderUnavailable):
        await refreshed(tls, told(**changes))


@pytest.mark.parametrize("changes", NONSENSE)
async def test_of_a_sign_ins_answer_that_makes_no_sense_nothing_is_told(tls: Tls, changes: dict[str, Any]) -> None:
    with refusal(ProviderUnavailable):
        await redeemed(tls, told(**changes))


@pytest.mark.parametrize("error", ["invalid_token", "invalid_grant"])
async def test_a_grant_that_google_does_not_know_is_at_its_end(tls: Tls, error: str) -> None:
    async with asking(tls, http(json.dumps({"error": error}).encode(), "400 Bad Request")) as provider:
        assert await provider.revoke(GRANT)


@pytest.mark.parametrize("error", ["invalid_request", {"code": 403, "status": "PERMISSION_DENIED"}])
async def test_a_revocation_that_google_refuses_has_not_been_one(tls: Tls, error: object) -> None:
    """The second is the answer of Google's own front end, the same for all of its services."""
    async with asking(tls, http(json.dumps({"error": error}).encode(), "400 Bad Request")) as provider:
        with refusal(ProviderUnavailable) as caught:
            await provider.revoke(GRANT)
    assert "HTTP 400" in str(caught.value)


@pytest.mark.parametrize("changes", [{}, {"scopes": ["https://mail.google.com/", "openid", "email", "profile"]}])
async def test_a_person_who_does_not_say_who_he_is_may_let_us_at_the_mail(tls: Tls, changes: dict[str, Any]) -> None:
    """With either form of the scopes' names: Google shows a check box for each scope."""
    tokens = await redeemed(tls, told(scope="https://mail.google.com/"), **changes)
    assert tokens.subject is None


@pytest.mark.parametrize("place", ["authorization_url", "token_url"])
async def test_googles_library_takes_no_url_in_clear_not_even_of_this_machine(tls: Tls, place: str) -> None:
    """Our configuration allows one, for an authorization server of one's own."""
    with refusal(ProviderRefused) as caught:
        await redeemed(tls, told(), **{place: "http://localhost:9/"})
    assert "https://" in str(caught.value)
    assert caught.value.diagnosis is not None
    assert "doivent commencer par https://" in caught.value.diagnosis.told(translation("fr"))


def test_nobody_has_to_be_named_where_nobody_signs_in() -> None:
    person = GoogleProvider(kind="google", client_id="it", client_secret=Secret("s"))
    nobody = GoogleProvider(kind="google", flow=Flow.SERVICE_ACCOUNT, service_account_file="key.json")
    assert "openid" in person.effective_scopes
    assert nobody.effective_scopes == ("https://mail.google.com/",)
