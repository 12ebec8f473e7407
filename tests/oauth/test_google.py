"""`kind: google` with answers that our own authorization server does not give."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from bridge.clock import SystemClock
from bridge.config.google import GoogleProvider
from bridge.config.provider import Flow
from bridge.errors import AuthorizationFailed, BridgeError, GrantRevoked, ProviderRefused, ProviderUnavailable
from bridge.model import TokenSet
from bridge.oauth import registry
from bridge.oauth.base import BrowserProvider
from bridge.secret import Secret
from bridge.ui.i18n import translation
from tests.oauth.raw import certificates, http, serving

GRANT = Secret("CANARY-grant")
GOOD: dict[str, Any] = {
    "access_token": "CANARY-access",
    "refresh_token": "CANARY-refresh",
    "token_type": "Bearer",
    "expires_in": 3600,
    "scope": "https://mail.google.com/ openid https://www.googleapis.com/auth/userinfo.email",
}


@asynccontextmanager
async def asking(directory: Path, answer: bytes, **changes: Any) -> AsyncIterator[BrowserProvider]:
    """The adapter, with a server that gives one answer to every request."""
    ca_file, context = certificates(directory)
    with serving(answer, ca_file, context) as raw:
        urls = dict.fromkeys(("authorization_url", "token_url", "revocation_url"), raw.url)
        config = GoogleProvider(
            **{"kind": "google", "client_id": "it", "client_secret": "CANARY-secret", "ca_file": ca_file}
            | urls
            | changes
        )
        provider = registry.create("google", config, SystemClock())
        assert isinstance(provider, BrowserProvider)
        try:
            yield provider
        finally:
            await provider.close()


def told(status: str = "200 OK", /, **changes: Any) -> bytes:
    answer = {name: value for name, value in (GOOD | changes).items() if value is not None}
    return http(json.dumps(answer).encode(), status)


async def redeemed(directory: Path, answer: bytes, code: str = "CANARY-code", **changes: Any) -> TokenSet:
    async with asking(directory, answer, **changes) as provider:
        request = await provider.begin(login_hint="", redirect_uri="http://localhost:3017/")
        return await provider.redeem(request, {"code": code, "state": request.state})


async def refreshed(directory: Path, answer: bytes) -> TokenSet:
    async with asking(directory, answer) as provider:
        return await provider.refresh(GRANT, subject="alice@example.com")


@contextmanager
def refusal(expected: type[BridgeError]) -> Iterator[pytest.ExceptionInfo[BridgeError]]:
    """Expects an error without a secret in it or in its causes, which a log would print too."""
    with pytest.raises(expected) as caught:
        yield caught
    error: BaseException | None = caught.value
    while error is not None:
        assert "CANARY" not in f"{error} {error!r}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


async def test_what_these_tests_change_is_a_good_answer(tmp_path: Path) -> None:
    assert (await redeemed(tmp_path, told())).grant.reveal() == "CANARY-refresh"
    assert (await refreshed(tmp_path, told(refresh_token=None))).grant.reveal() == GRANT.reveal()


async def test_google_says_how_long_a_sign_in_lasts_while_the_app_is_on_trial(tmp_path: Path) -> None:
    before = SystemClock().now()
    ends_at = (await redeemed(tmp_path, told(refresh_token_expires_in=604799))).ends_at
    assert ends_at is not None
    assert before + 604799 <= ends_at <= SystemClock().now() + 604799


@pytest.mark.parametrize("life", [None, "soon", [], 0, -1, True, 10**400, float("nan"), float("inf")])
async def test_a_life_that_is_none_ends_no_sign_in(tmp_path: Path, life: object) -> None:
    assert (await redeemed(tmp_path, told(refresh_token_expires_in=life))).ends_at is None


async def test_nobody_in_particular_is_suggested_where_nobody_is_known(tmp_path: Path) -> None:
    async with asking(tmp_path, b"") as provider:
        request = await provider.begin(login_hint="", redirect_uri="http://localhost:3017/")
    assert "login_hint" not in parse_qs(urlsplit(request.url).query, keep_blank_values=True)


async def test_after_a_mistake_google_lets_the_person_choose_the_account(tmp_path: Path) -> None:
    async with asking(tmp_path, b"") as provider:
        uri = "http://localhost:3017/"
        request = await provider.begin(login_hint="alice@example.com", redirect_uri=uri, asks_who=True)
    query = parse_qs(urlsplit(request.url).query)
    assert query["prompt"] == ["select_account consent"]
    assert query["login_hint"] == ["alice@example.com"]


async def test_an_empty_code_is_not_sent(tmp_path: Path) -> None:
    with refusal(AuthorizationFailed):
        await redeemed(tmp_path, told(), code="")


async def test_a_code_that_google_repeats_is_not_told(tmp_path: Path) -> None:
    """A short code, because long words are removed from any text."""
    answer = http(b'{"error": "invalid_grant", "error_description": "CANARY-7 is spent"}', "400 Bad Request")
    with refusal(AuthorizationFailed) as caught:
        await redeemed(tmp_path, answer, code="CANARY-7")
    assert "is spent" in str(caught.value)


async def test_an_error_counts_whatever_else_the_answer_says(tmp_path: Path) -> None:
    """Also with a status of success, and beside a token."""
    with refusal(AuthorizationFailed):
        await redeemed(tmp_path, told(error="invalid_grant"))
    with refusal(GrantRevoked):
        await refreshed(tmp_path, told(error="invalid_grant"))


async def test_a_status_of_failure_counts_whatever_the_answer_says(tmp_path: Path) -> None:
    with refusal(AuthorizationFailed):
        await redeemed(tmp_path, told("400 Bad Request"))
    with refusal(ProviderUnavailable):  # the grant is kept
        await refreshed(tmp_path, told("400 Bad Request"))


@pytest.mark.parametrize(
    "body", [b"<html>Welcome to our hotel</html>", b"[]", b"access_token=CANARY&token_type=Bearer"]
)
async def test_what_is_no_json_object_is_not_googles(tmp_path: Path, body: bytes) -> None:
    """oauthlib would accept a form-encoded answer."""
    with refusal(ProviderUnavailable) as caught:
        await redeemed(tmp_path, http(body))
    assert "captive portal" in str(caught.value)
    with refusal(ProviderUnavailable) as caught:
        await refreshed(tmp_path, http(body))
    assert "captive portal" in str(caught.value)


@pytest.mark.parametrize("grant", [None, "", 7, [], {"token": "CANARY"}])
async def test_a_sign_in_without_a_grant_that_is_text_is_not_kept(tmp_path: Path, grant: object) -> None:
    with refusal(AuthorizationFailed) as caught:
        await redeemed(tmp_path, told(refresh_token=grant))
    assert isinstance(caught.value, AuthorizationFailed)
    assert caught.value.code == "no_grant"


NONSENSE: list[dict[str, Any]] = [
    {"access_token": None, "id_token": "CANARY-id"},  # google-auth's error contains the whole answer
    {"expires_in": "soon"},
    {"expires_in": []},
]


@pytest.mark.parametrize("changes", [*NONSENSE, {"expires_in": 1e300}])
async def test_of_a_refreshs_answer_that_makes_no_sense_nothing_is_told(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    with refusal(ProviderUnavailable):
        await refreshed(tmp_path, told(**changes))


@pytest.mark.parametrize("changes", NONSENSE)
async def test_of_a_sign_ins_answer_that_makes_no_sense_nothing_is_told(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    with refusal(ProviderUnavailable):
        await redeemed(tmp_path, told(**changes))


@pytest.mark.parametrize("error", ["invalid_token", "invalid_grant"])
async def test_a_grant_that_google_does_not_know_is_at_its_end(tmp_path: Path, error: str) -> None:
    async with asking(tmp_path, http(json.dumps({"error": error}).encode(), "400 Bad Request")) as provider:
        assert await provider.revoke(GRANT)


@pytest.mark.parametrize("error", ["invalid_request", {"code": 403, "status": "PERMISSION_DENIED"}])
async def test_a_revocation_that_google_refuses_has_not_been_one(tmp_path: Path, error: object) -> None:
    """The second is the answer of Google's own front end, the same for all of its services."""
    async with asking(tmp_path, http(json.dumps({"error": error}).encode(), "400 Bad Request")) as provider:
        with refusal(ProviderUnavailable) as caught:
            await provider.revoke(GRANT)
    assert "HTTP 400" in str(caught.value)


@pytest.mark.parametrize("changes", [{}, {"scopes": ["https://mail.google.com/", "openid", "email", "profile"]}])
async def test_a_person_who_does_not_say_who_he_is_may_let_us_at_the_mail(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    """With either form of the scopes' names: Google shows a check box for each scope."""
    tokens = await redeemed(tmp_path, told(scope="https://mail.google.com/"), **changes)
    assert tokens.subject is None


@pytest.mark.parametrize("place", ["authorization_url", "token_url"])
async def test_googles_library_takes_no_url_in_clear_not_even_of_this_machine(tmp_path: Path, place: str) -> None:
    """Our configuration allows one, for an authorization server of one's own."""
    with refusal(ProviderRefused) as caught:
        await redeemed(tmp_path, told(), **{place: "http://localhost:9/"})
    assert "https://" in str(caught.value)
    assert caught.value.diagnosis is not None
    assert "doivent commencer par https://" in caught.value.diagnosis.told(translation("fr"))


def test_nobody_has_to_be_named_where_nobody_signs_in() -> None:
    person = GoogleProvider(kind="google", client_id="it", client_secret=Secret("s"))
    nobody = GoogleProvider(kind="google", flow=Flow.SERVICE_ACCOUNT, service_account_file="key.json")
    assert "openid" in person.effective_scopes
    assert nobody.effective_scopes == ("https://mail.google.com/",)
