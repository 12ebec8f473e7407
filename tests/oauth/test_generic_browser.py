"""`kind: oauth2` with a sign-in by browser, and answers that our own authorization server does not give."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from bridge.config.presets import CLOUDS
from bridge.errors import AuthorizationFailed, GrantInDoubt, GrantRevoked, ProviderRefused, ProviderUnavailable
from bridge.model import TokenSet
from bridge.oauth.base import BrowserProvider
from bridge.secret import Secret
from tests.contract.trials import opened
from tests.oauth.raw import Tls, http, serving

ALICE = "alice@example.com"
GRANT = Secret("CANARY-grant")
REDIRECT = "http://localhost:3017/"
GOOD: dict[str, Any] = {"access_token": "CANARY-access", "refresh_token": "CANARY-refresh", "token_type": "Bearer"}


def id_token(**claims: object) -> str:
    body = base64.urlsafe_b64encode(json.dumps({"email": ALICE} | claims).encode()).rstrip(b"=").decode()
    return f"e30.{body}.c2ln"


def told(**changes: Any) -> bytes:
    return http(json.dumps({name: value for name, value in (GOOD | changes).items() if value is not None}).encode())


@asynccontextmanager
async def asking(tls: Tls, answer: bytes = b"", **changes: Any) -> AsyncIterator[BrowserProvider]:
    """The adapter, with a server that gives one answer to every request."""
    with serving(answer, *tls) as raw:
        known: dict[str, Any] = {"kind": "oauth2", "client_id": "it", "client_secret": "CANARY-secret"}
        known |= {"scopes": ["mail"], "ca_file": raw.ca_file}
        known |= dict.fromkeys(("authorization_url", "token_url", "revocation_url"), raw.url)
        async with opened(known | changes) as provider:
            assert isinstance(provider, BrowserProvider)
            yield provider


async def refreshed(tls: Tls, answer: bytes) -> TokenSet:
    async with asking(tls, answer) as provider:
        return await provider.refresh(GRANT, subject=ALICE)


async def redeemed(tls: Tls, answer: bytes, code: str = "CANARY-code", **changes: Any) -> TokenSet:
    async with asking(tls, answer, **changes) as provider:
        request = await provider.begin(login_hint=ALICE, redirect_uri=REDIRECT)
        return await provider.redeem(request, {"code": code, "state": request.state})


@pytest.mark.parametrize(("scope", "granted"), [(None, {"mail"}), ("calendar mail", {"calendar", "mail"})])
async def test_a_refresh_grants_what_it_names_or_else_what_was_asked_for(
    tls: Tls, scope: str | None, granted: set[str]
) -> None:
    """RFC 6749 section 5.1."""
    assert (await refreshed(tls, told(scope=scope))).scopes == granted


@pytest.mark.parametrize(("client", "counts"), [("it", True), ("another", False)])
async def test_at_a_refresh_only_an_id_token_for_us_says_who_it_is(tls: Tls, client: str, counts: bool) -> None:
    subject = (await refreshed(tls, told(id_token=id_token(aud=client)))).subject
    assert (subject is not None and subject.is_named(ALICE)) is counts


@pytest.mark.parametrize("extra", [{"error": None}, {"error": ""}, {"error": None, "error_description": None}])
async def test_an_error_that_names_none_is_no_error(tls: Tls, extra: dict[str, Any]) -> None:
    """Some servers' answers always have these members; a rotated refresh token must not be lost for that."""
    answer = http(json.dumps(GOOD | extra).encode())
    assert (await refreshed(tls, answer)).grant.reveal() == "CANARY-refresh"


@pytest.mark.parametrize("status", ["201 Created", "202 Accepted", "203 Non-Authoritative Information"])
async def test_tokens_are_tokens_with_any_status_of_success(tls: Tls, status: str) -> None:
    """RFC 6749 section 5.1 says 200; some frameworks answer any POST with 201, and a proxy that has changed an answer
    makes it 203."""
    answer = http(json.dumps(GOOD).encode(), status)
    assert (await refreshed(tls, answer)).grant.reveal() == "CANARY-refresh"


@pytest.mark.parametrize("grant", [None, "", 7, [], "CANARY-\ud800"])
async def test_a_grant_is_text_that_can_be_sent_back_or_none(tls: Tls, grant: object) -> None:
    assert (await refreshed(tls, told(refresh_token=grant))).grant.reveal() == GRANT.reveal()
    with pytest.raises(AuthorizationFailed) as caught:
        await redeemed(tls, told(refresh_token=grant))
    assert caught.value.code == "no_grant"


async def test_an_empty_code_is_not_sent(tls: Tls) -> None:
    with pytest.raises(AuthorizationFailed):
        await redeemed(tls, told(), code="")


async def test_a_server_that_repeats_the_code_does_not_make_us_tell_it(tls: Tls) -> None:
    """A short code, because long words are removed from any text."""
    answer = http(b'{"error": "invalid_grant", "error_description": "CANARY-7 is spent"}', "400 Bad Request")
    with pytest.raises(AuthorizationFailed) as caught:
        await redeemed(tls, answer, code="CANARY-7")
    assert "is spent" in str(caught.value)
    assert "CANARY" not in str(caught.value)


async def test_of_scopes_that_only_say_who_it_is_none_has_to_be_granted(tls: Tls) -> None:
    tokens = await redeemed(tls, told(scope="mail"), scopes=["mail", "openid", "email", "offline_access"])
    assert tokens.scopes == {"mail"}


@pytest.mark.parametrize("error", ["invalid_request", "INVALID_REFRESH_TOKEN"])
async def test_a_refresh_that_is_called_wrong_ends_nothing_and_may_be_a_sign_in_that_has_ended(
    tls: Tls, error: str
) -> None:
    """LemonLDAP::NG's whole answer to a refresh token that it no longer knows; other servers mean by it that our
    registration is wrong. The second error is Yahoo's own."""
    with pytest.raises(GrantInDoubt) as caught:
        await refreshed(tls, http(json.dumps({"error": error}).encode(), "400 Bad Request"))
    assert caught.value.diagnosis is not None
    assert caught.value.diagnosis.key == "oauth.refresh_wrong"
    assert "sign in again" in str(caught.value)


LEAGUE = {"error": "invalid_request", "error_description": "The refresh token is invalid."}
"""From league/oauth2-server before version 9; the answer also has a hint, such as "Token has been revoked"."""


async def test_who_says_in_so_many_words_that_the_refresh_token_is_invalid_has_ended_the_sign_in(
    tls: Tls,
) -> None:
    with pytest.raises(GrantRevoked) as caught:
        await refreshed(tls, http(json.dumps(LEAGUE).encode(), "401 Unauthorized"))
    assert caught.value.diagnosis is not None
    assert caught.value.diagnosis.key == "oauth.ended"
    assert "The refresh token is invalid." in str(caught.value)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({}, "400 Bad Request"),
        ({"error_description": "The refresh token is missing or invalid."}, "401 Unauthorized"),
        ({"error": "invalid_client"}, "401 Unauthorized"),
        ({"error": "server_error"}, "401 Unauthorized"),
    ],
)
async def test_the_same_words_in_another_answer_end_nothing(tls: Tls, change: dict[str, str], status: str) -> None:
    with pytest.raises(ProviderUnavailable):
        await refreshed(tls, http(json.dumps(LEAGUE | change).encode(), status))


async def test_a_page_in_place_of_an_answer_may_be_that_of_a_url_that_is_wrong(tls: Tls) -> None:
    """The error stays temporary: a gateway answers 404, too, while the provider behind it starts."""
    with pytest.raises(ProviderUnavailable, match="or a URL is wrong") as caught:
        await redeemed(tls, http(b"Not Found", "404 Not Found"))
    assert type(caught.value) is ProviderUnavailable


async def test_a_renewal_that_is_refused_without_a_word_may_be_a_sign_in_that_has_ended(tls: Tls) -> None:
    """Glewlwyd's whole answer to a refresh token that it no longer knows, and to a wrong secret as well."""
    with pytest.raises(GrantInDoubt) as caught:
        await refreshed(tls, http(b"", "400 Bad Request"))
    assert caught.value.diagnosis is not None
    assert caught.value.diagnosis.key == "oauth.refresh_wrong"
    assert "HTTP 400" in str(caught.value)


@pytest.mark.parametrize(
    ("status", "key"),
    [("401 Unauthorized", "oauth.invalid_client"), ("403 Forbidden", "oauth.unauthorized_client")],
)
async def test_a_status_alone_says_who_is_not_accepted(tls: Tls, status: str, key: str) -> None:
    """RFC 9110 sections 15.5.2, 15.5.4; 403 is Glewlwyd's whole answer to a wrong secret in a flow without a person."""
    with pytest.raises(ProviderRefused) as caught:
        await refreshed(tls, http(b" \r\n", status))
    assert caught.value.diagnosis is not None
    assert caught.value.diagnosis.key == key


async def test_a_client_that_is_not_authorized_may_have_a_wrong_secret(tls: Tls) -> None:
    """Glewlwyd says this for a wrong secret when a code is redeemed, and for a grant type not allowed to the client."""
    with pytest.raises(ProviderRefused, match="client_secret"):
        await redeemed(tls, http(b'{"error": "unauthorized_client"}', "403 Forbidden"))


@pytest.mark.parametrize("body", [b"Unauthorized", b"<!doctype html><title>Unauthorized</title>", b'"no"'])
async def test_with_401_it_is_us_who_are_not_accepted_in_whatever_words(tls: Tls, body: bytes) -> None:
    """Passport, in front of node's oauth2orize, answers without JSON. A page with another status may be anybody's."""
    with pytest.raises(ProviderRefused, match="client_id and client_secret"):
        await refreshed(tls, http(body, "401 Unauthorized"))
    for status in ("400 Bad Request", "403 Forbidden"):
        with pytest.raises(ProviderUnavailable, match="not from the provider") as caught:
            await refreshed(tls, http(body, status))
        assert type(caught.value) is ProviderUnavailable


@pytest.mark.parametrize(
    "answer",
    [
        {
            "timestamp": 1520959116710,
            "status": 401,
            "error": "Unauthorized",
            "message": "Bad credentials",
            "path": "/t",
        },
        {"statusCode": 401, "message": "Unauthorized"},
        {"code": 401, "error": None, "message": "Bad credentials"},
    ],
)
async def test_with_401_in_the_json_of_a_framework_it_is_us_too(tls: Tls, answer: dict[str, Any]) -> None:
    """Spring and NestJS refuse a wrong secret in these words, before their OAuth code is reached."""
    for asked in (refreshed, redeemed):
        with pytest.raises(ProviderRefused, match="client_id and client_secret"):
            await asked(tls, http(json.dumps(answer).encode(), "401 Unauthorized"))


async def test_an_end_that_is_told_with_401_is_one(tls: Tls) -> None:
    with pytest.raises(GrantRevoked):
        await refreshed(tls, http(b'{"error": "invalid_grant"}', "401 Unauthorized"))


@pytest.mark.parametrize("status", ["404 Not Found", "405 Method Not Allowed"])
@pytest.mark.parametrize(
    "answer",
    [
        {"error": "Not Found", "status": 404},
        {"error": "Realm does not exist"},
        {"error": "invalid_request", "error_description": "unrecognized route or not allowed method"},
        {"errorCode": "E0000007"},
    ],
)
async def test_where_there_is_nothing_a_url_may_be_wrong(tls: Tls, status: str, answer: dict[str, Any]) -> None:
    """Rails, Keycloak, node's oidc-provider and Okta answer in JSON."""
    with pytest.raises(ProviderUnavailable, match="or a URL is wrong") as caught:
        await redeemed(tls, http(json.dumps(answer).encode(), status))
    assert type(caught.value) is ProviderUnavailable


async def test_an_end_that_is_told_with_404_is_one(tls: Tls) -> None:
    with pytest.raises(GrantRevoked):
        await refreshed(tls, http(b'{"error": "invalid_grant"}', "404 Not Found"))


async def test_who_is_not_accepted_may_have_shown_the_right_secret_in_the_wrong_way(tls: Tls) -> None:
    """A server that accepts the secret in one way only has no other error for this (RFC 6749 section 5.2)."""
    with pytest.raises(ProviderRefused, match=r"with `kind: oauth2`, .*client_authentication"):
        await redeemed(tls, http(b'{"error": "invalid_client"}', "401 Unauthorized"))


@pytest.mark.parametrize("error", ["invalid_token", "invalid_grant"])
async def test_a_grant_that_the_provider_does_not_know_is_at_its_end(tls: Tls, error: str) -> None:
    """RFC 7009 section 2.2 says that this is no error; some servers report one."""
    async with asking(tls, http(json.dumps({"error": error}).encode(), "400 Bad Request")) as provider:
        assert await provider.revoke(GRANT)


@pytest.mark.parametrize("error", ["invalid_request", {"code": 403, "message": "forbidden"}, ["denied"], None])
async def test_a_revocation_that_is_refused_has_not_been_one(tls: Tls, error: object) -> None:
    """In any form, since gateways in front of a provider have their own."""
    async with asking(tls, http(json.dumps({"error": error}).encode(), "400 Bad Request")) as provider:
        with pytest.raises(ProviderUnavailable, match="HTTP 400"):
            await provider.revoke(GRANT)


@pytest.mark.parametrize("status", ["201 Created", "204 No Content"])
async def test_a_revocation_that_succeeds_in_other_words_has_been_one(tls: Tls, status: str) -> None:
    async with asking(tls, http(b"", status)) as provider:
        assert await provider.revoke(GRANT)


async def test_a_revocation_that_is_refused_with_nothing_to_read_has_not_been_one(tls: Tls) -> None:
    """Neither with the secret in the body nor by Basic; with a 401, many servers put the reason in the header only."""
    async with asking(tls, http(b"", "401 Unauthorized")) as provider:
        with pytest.raises(ProviderUnavailable, match="not from the provider"):
            await provider.revoke(GRANT)


async def test_a_revocation_that_cannot_be_asked_for_has_not_been_one(tls: Tls) -> None:
    async with asking(tls, http(b"{}"), revocation_url=None) as provider:
        assert not await provider.revoke(GRANT)


@pytest.mark.parametrize(
    ("configured", "begins"),
    [
        ("https://idp.example/a", "https://idp.example/a?response_type=code&"),
        ("https://idp.example/a?tenant=7", "https://idp.example/a?tenant=7&response_type=code&"),
        ("https://idp.example/a?tenant=7#top", "https://idp.example/a?tenant=7&response_type=code&"),
    ],
)
async def test_a_query_of_the_configuration_stays_and_a_fragment_does_not(
    tls: Tls, configured: str, begins: str
) -> None:
    """RFC 6749 section 3.1."""
    async with asking(tls, authorization_url=configured) as provider:
        request = await provider.begin(login_hint="", redirect_uri=REDIRECT)
    assert request.url.startswith(begins)
    assert "#" not in request.url


@pytest.mark.parametrize(("hint", "sent"), [("", None), (ALICE, [ALICE])])
async def test_a_hint_is_sent_where_there_is_one(tls: Tls, hint: str, sent: list[str] | None) -> None:
    async with asking(tls) as provider:
        request = await provider.begin(login_hint=hint, redirect_uri=REDIRECT)
    assert parse_qs(urlsplit(request.url).query, keep_blank_values=True).get("login_hint") == sent


@pytest.mark.parametrize(
    "host", ["login.windows.net", "login.sovcloud-identity.fr", *(preset.authority_host for preset in CLOUDS.values())]
)
async def test_at_microsoft_nobody_is_asked_for_what_an_administrator_has_granted(tls: Tls, host: str) -> None:
    """`kind: oauth2` can be Microsoft, too; there the scope suffices, and its page stops whoever may not consent."""
    url = f"https://{host}/contoso.com/oauth2/v2.0/authorize"
    async with asking(tls, scopes=["offline_access"], authorization_url=url) as provider:
        request = await provider.begin(login_hint=ALICE, redirect_uri=REDIRECT)
    assert "prompt" not in parse_qs(urlsplit(request.url).query)


@pytest.mark.parametrize(
    ("scopes", "query", "sent"),
    [
        (["openid", "offline_access"], "", ["consent"]),
        (["openid", "offline_access"], "?prompt=login+consent", ["login consent"]),
        (["openid", "offline_access"], "?prompt=", [""]),
        (["openid", "mail"], "", None),
    ],
)
async def test_who_wants_to_come_back_without_the_person_asks_for_their_consent(
    tls: Tls, scopes: list[str], query: str, sent: list[str] | None
) -> None:
    """OpenID Connect Core section 11. A `prompt` in the configured URL is the administrator's choice."""
    async with asking(tls, scopes=scopes, authorization_url=f"https://idp.example/a{query}") as provider:
        request = await provider.begin(login_hint=ALICE, redirect_uri=REDIRECT)
    assert parse_qs(urlsplit(request.url).query, keep_blank_values=True).get("prompt") == sent


@pytest.mark.parametrize(
    ("url", "scopes", "sent"),
    [
        ("https://idp.example/a", ["openid", "offline_access"], ["login consent"]),
        ("https://idp.example/a", ["openid", "mail"], ["login"]),
        ("https://login.microsoftonline.com/common/a", ["offline_access"], ["login"]),
        ("https://idp.example/a?prompt=consent", ["openid", "offline_access"], ["consent"]),
        ("https://idp.example/a?prompt=", ["openid", "offline_access"], [""]),
    ],
)
async def test_after_a_mistake_whoever_is_signed_in_to_the_browser_is_not_taken_again(
    tls: Tls, url: str, scopes: list[str], sent: list[str]
) -> None:
    async with asking(tls, scopes=scopes, authorization_url=url) as provider:
        request = await provider.begin(login_hint=ALICE, redirect_uri=REDIRECT, asks_who=True)
    assert parse_qs(urlsplit(request.url).query, keep_blank_values=True)["prompt"] == sent


@pytest.mark.parametrize(("scopes", "count"), [(["openid", "mail"], 2), (["mail"], 0)])
async def test_each_sign_in_with_openid_has_a_nonce_of_its_own(tls: Tls, scopes: list[str], count: int) -> None:
    async with asking(tls, scopes=scopes) as provider:
        begun = [await provider.begin(login_hint=ALICE, redirect_uri=REDIRECT) for _ in range(2)]
    sent = {nonce for request in begun for nonce in parse_qs(urlsplit(request.url).query).get("nonce", [])}
    assert len(sent) == count
    assert all(len(nonce) == 43 for nonce in sent)


async def test_a_nonce_in_the_url_is_the_only_one_and_nothing_is_expected_of_it(tls: Tls) -> None:
    """An old workaround for servers that require a nonce. A second one would be an error (RFC 6749 section 3.1)."""
    answer, url = told(id_token=id_token(aud="it", nonce="of-old")), "https://idp.example/a?nonce=of-old"
    async with asking(tls, answer, scopes=["openid"], authorization_url=url) as provider:
        request = await provider.begin(login_hint=ALICE, redirect_uri=REDIRECT)
        assert parse_qs(urlsplit(request.url).query)["nonce"] == ["of-old"]
        assert (await provider.redeem(request, {"code": "CANARY-code", "state": request.state})).grant


async def test_a_sign_in_that_had_begun_before_there_was_a_nonce_goes_on(tls: Tls) -> None:
    async with asking(tls, told(id_token=id_token(aud="it")), scopes=["openid"]) as provider:
        request = await provider.begin(login_hint=ALICE, redirect_uri=REDIRECT)
        kept = {name: text for name, text in json.loads(request.kept.reveal()).items() if name != "nonce"}
        before = replace(request, kept=Secret(json.dumps(kept)))
        assert (await provider.redeem(before, {"code": "CANARY-code", "state": request.state})).grant
