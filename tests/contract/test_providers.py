"""Every provider adapter over the same authorization server: the real msal, google-auth-oauthlib and our own."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import TypeAdapter

from bridge.clock import SystemClock
from bridge.config.schema import ProviderConfig
from bridge.errors import (
    AuthorizationFailed,
    BridgeError,
    GrantRevoked,
    ProviderRefused,
    ProviderUnavailable,
)
from bridge.model import TokenSet
from bridge.oauth import registry
from bridge.oauth.base import AuthorizationRequest, Provider
from bridge.oauth.threads import Limits
from bridge.secret import Secret
from tests.servers.authorization import PUBLIC_CLIENT, REDIRECT, AuthorizationServer, Fault

ALICE = "alice@example.com"
KINDS = ["google", "microsoft", "microsoft public", "oauth2"]
QUICK = Limits(connect=2.0, read=1.0, overall=4.0)

pytestmark = pytest.mark.parametrize("kind", KINDS)


def section(server: AuthorizationServer, kind: str, **changes: Any) -> dict[str, Any]:
    made = {
        "google": server.google_config,
        "microsoft": server.microsoft_config,
        "microsoft public": lambda: server.microsoft_config(PUBLIC_CLIENT),
        "oauth2": server.generic_config,
    }[kind]()
    found = {**made, **changes}
    return {name: value for name, value in found.items() if value is not None}


@dataclass
class Trial:
    """One adapter and the server it talks to."""

    server: AuthorizationServer
    provider: Provider
    kind: str

    async def begin(self, hint: str = ALICE) -> AuthorizationRequest:
        return await self.provider.begin(login_hint=hint, redirect_uri=REDIRECT)

    async def sign_in(self, person: str = ALICE) -> TokenSet:
        request = await self.begin(person)
        return await self.provider.redeem(request, self.server.consent(request.url, person))


@asynccontextmanager
async def adapter(server: AuthorizationServer, kind: str, **changes: Any) -> AsyncIterator[Trial]:
    config: ProviderConfig = TypeAdapter(ProviderConfig).validate_python(section(server, kind, **changes))
    provider = registry.create("trial", config, SystemClock(), limits=QUICK)
    try:
        yield Trial(server, provider, kind)
    finally:
        await provider.close()


@pytest.fixture(autouse=True)
def no_secret_is_told(caplog: pytest.LogCaptureFixture) -> Any:
    """Whatever a test does: no library has logged a secret."""
    caplog.set_level(logging.DEBUG)
    yield
    assert "CANARY" not in caplog.text


async def test_a_sign_in_gives_a_token_a_grant_and_who_it_was(
    authorization_server: AuthorizationServer, kind: str
) -> None:
    async with adapter(authorization_server, kind) as trial:
        tokens = await trial.sign_in()
        assert tokens.subject is not None
        assert tokens.subject.is_named(ALICE)
        assert 3500 < tokens.access.expires_at - tokens.access.obtained_at <= 3600
        assert tokens.access.value.reveal() in authorization_server.access
        assert tokens.grant


async def test_the_authorization_request_has_state_pkce_hint_and_the_exact_redirect(
    authorization_server: AuthorizationServer, kind: str
) -> None:
    async with adapter(authorization_server, kind) as trial:
        one, two = await trial.begin(), await trial.begin()
        query = parse_qs(urlsplit(one.url).query)
        assert query["redirect_uri"] == [REDIRECT]
        assert query["code_challenge_method"] == ["S256"]
        assert query["login_hint"] == [ALICE]
        assert query["state"] == [one.state]
        assert len(one.state) >= 32
        assert one.state != two.state
        if kind == "google":
            assert query["access_type"] == ["offline"]


async def test_trap_18_a_second_sign_in_of_the_same_person_has_a_grant_too(
    authorization_server: AuthorizationServer, kind: str
) -> None:
    async with adapter(authorization_server, kind) as trial:
        for _ in range(2):
            assert (await trial.sign_in()).grant
        if kind == "google":
            assert parse_qs(urlsplit((await trial.begin()).url).query)["prompt"] == ["consent"]


async def test_trap_22_an_answer_with_another_state_is_not_redeemed(
    authorization_server: AuthorizationServer, kind: str
) -> None:
    async with adapter(authorization_server, kind) as trial:
        request = await trial.begin()
        parameters = authorization_server.consent(request.url, ALICE)
        with pytest.raises(AuthorizationFailed):
            await trial.provider.redeem(request, {**parameters, "state": "forged"})
        assert authorization_server.count("authorization_code") == 0


async def test_a_code_of_another_sign_in_does_not_match_the_verifier(
    authorization_server: AuthorizationServer, kind: str
) -> None:
    async with adapter(authorization_server, kind) as trial:
        mine, stolen = await trial.begin(), await trial.begin()
        code = authorization_server.consent(stolen.url, ALICE)["code"]
        parameters = authorization_server.consent(mine.url, ALICE)
        with pytest.raises(AuthorizationFailed) as caught:
            await trial.provider.redeem(mine, {**parameters, "code": code})
        assert "CANARY" not in str(caught.value)


async def test_a_person_who_declines_is_told_so(authorization_server: AuthorizationServer, kind: str) -> None:
    async with adapter(authorization_server, kind) as trial:
        request = await trial.begin()
        with pytest.raises(AuthorizationFailed) as caught:
            await trial.provider.redeem(request, authorization_server.consent(request.url, ALICE, "deny"))
        assert caught.value.code == "denied"


async def test_trap_23_a_refresh_gives_a_new_token_whose_life_counts_from_now(
    authorization_server: AuthorizationServer, kind: str
) -> None:
    async with adapter(authorization_server, kind) as trial:
        first = await trial.sign_in()
        second = await trial.provider.refresh(first.grant)
        assert second.access.value != first.access.value
        assert second.access.obtained_at >= first.access.obtained_at
        assert 3500 < second.access.remaining(SystemClock().now()) <= 3600


async def test_a_rotated_grant_replaces_the_old_one(authorization_server: AuthorizationServer, kind: str) -> None:
    async with adapter(authorization_server, kind) as trial:
        first = await trial.sign_in()
        second = await trial.provider.refresh(first.grant)
        third = await trial.provider.refresh(second.grant)
        assert third.access.value.reveal() in authorization_server.access
        if kind.startswith("microsoft"):
            with pytest.raises(GrantRevoked):
                await trial.provider.refresh(first.grant)


async def test_trap_12_only_the_providers_own_word_ends_a_grant(
    authorization_server: AuthorizationServer, kind: str
) -> None:
    async with adapter(authorization_server, kind) as trial:
        tokens = await trial.sign_in()
        authorization_server.revoke_person(ALICE)
        with pytest.raises(GrantRevoked) as caught:
            await trial.provider.refresh(tokens.grant)
        assert "CANARY" not in str(caught.value)


@pytest.mark.parametrize("fault", list(Fault))
async def test_trap_11_trouble_on_the_way_costs_nothing_and_is_over_when_it_is_over(
    authorization_server: AuthorizationServer, kind: str, fault: Fault
) -> None:
    async with adapter(authorization_server, kind) as trial:
        tokens = await trial.sign_in()
        with authorization_server.failing("token", fault):
            for _ in range(2):
                with pytest.raises(ProviderUnavailable) as caught:
                    await trial.provider.refresh(tokens.grant)
                assert not isinstance(caught.value, ProviderRefused)
                assert "CANARY" not in str(caught.value)
        if fault is Fault.SLOW and kind.startswith("microsoft"):
            return  # the server has answered those who gave up, and rotated: only a person can help then
        assert (await trial.provider.refresh(tokens.grant)).access.value.reveal() in authorization_server.access


async def test_trap_14_a_provider_that_is_not_there_is_asked_again_the_next_time(
    authorization_server: AuthorizationServer, kind: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as dead:
        port = dead.getsockname()[1]
    elsewhere = f"https://localhost:{port}"
    real = section(authorization_server, kind)
    moved = {
        name: real[name].replace(authorization_server.url, elsewhere) for name in ("authorization_url", "token_url")
    }
    async with adapter(authorization_server, kind) as good, adapter(authorization_server, kind, **moved) as lost:
        tokens = await good.sign_in()
        with pytest.raises(ProviderUnavailable):
            await lost.provider.refresh(tokens.grant)
        await good.provider.refresh(tokens.grant)


async def test_a_wrong_client_secret_is_the_admins_turn_and_costs_no_grant(
    authorization_server: AuthorizationServer, kind: str
) -> None:
    if kind == "microsoft public":
        return  # has none
    async with (
        adapter(authorization_server, kind) as good,
        adapter(authorization_server, kind, client_secret="CANARY-wrong") as bad,
    ):
        tokens = await good.sign_in()
        with pytest.raises(ProviderRefused) as caught:
            await bad.provider.refresh(tokens.grant)
        assert "CANARY" not in str(caught.value)
        await good.provider.refresh(tokens.grant)


async def test_adopt_tries_a_refresh_token_and_says_whose_it_is(
    authorization_server: AuthorizationServer, kind: str
) -> None:
    async with adapter(authorization_server, kind) as trial:
        token = authorization_server.issue_refresh_token(ALICE)
        tokens = await trial.provider.adopt(Secret(token))
        assert tokens.subject is not None
        assert tokens.subject.is_named(ALICE)
        await trial.provider.refresh(tokens.grant)
        with pytest.raises(BridgeError) as caught:
            await trial.provider.adopt(Secret("CANARY-garbage"))
        assert "CANARY" not in str(caught.value)


async def test_revoke_ends_the_grant_where_the_provider_can(
    authorization_server: AuthorizationServer, kind: str
) -> None:
    async with adapter(authorization_server, kind) as trial:
        tokens = await trial.sign_in()
        assert await trial.provider.revoke(tokens.grant) is (not kind.startswith("microsoft"))
        if not kind.startswith("microsoft"):
            with pytest.raises(GrantRevoked):
                await trial.provider.refresh(tokens.grant)


async def test_trap_13_no_certificate_but_the_configured_authoritys_is_taken(
    authorization_server: AuthorizationServer, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """REQUESTS_CA_BUNDLE beats `verify=` in requests, and with it msal and google-auth."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authorization_server.authority.ca_file))
    monkeypatch.setenv("CURL_CA_BUNDLE", str(authorization_server.authority.ca_file))
    async with adapter(authorization_server, kind) as good, adapter(authorization_server, kind, ca_file=None) as bare:
        tokens = await good.sign_in()
        with pytest.raises(ProviderUnavailable):
            await bare.provider.refresh(tokens.grant)
    assert os.environ["REQUESTS_CA_BUNDLE"]


async def test_trap_10_identity_scopes_in_the_configuration_do_no_harm(
    authorization_server: AuthorizationServer, kind: str
) -> None:
    scopes = {
        "google": ["https://mail.google.com/", "openid", "email"],
        "oauth2": ["https://mail.google.com/", "openid", "email"],
    }.get(kind, ["https://outlook.office.com/IMAP.AccessAsUser.All", "openid", "profile", "offline_access"])
    async with adapter(authorization_server, kind, scopes=scopes) as trial:
        tokens = await trial.sign_in()
        await trial.provider.refresh(tokens.grant)


async def test_trap_21_a_scope_that_was_not_granted_is_named_before_anything_is_stored(
    authorization_server: AuthorizationServer, kind: str
) -> None:
    async with adapter(authorization_server, kind) as trial:
        request = await trial.begin()
        parameters = authorization_server.consent(request.url, ALICE)
        code = authorization_server.codes[parameters["code"]]
        code.scope = "openid"  # every box unticked
        with pytest.raises(AuthorizationFailed) as caught:
            await trial.provider.redeem(request, parameters)
        assert caught.value.code == "missing_scope"
