"""What only `kind: oauth2` does: HTTP Basic at every endpoint, servers without PKCE, secrets with device codes; and
what the administrator of an app is told. The suites for each flow test what all providers do."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote_plus, urlsplit

import pytest

from bridge.errors import AuthorizationFailed, GrantRevoked, ProviderNotAsked, ProviderRefused, ProviderUnavailable
from bridge.model import TokenSet
from bridge.oauth.base import BrowserProvider, DeviceProvider
from bridge.secret import Secret
from tests.contract.silence import no_secret_is_told, refusal  # noqa: F401  the fixture works by itself
from tests.contract.trials import ALICE, opened
from tests.servers.authorization import AuthorizationServer
from tests.servers.authorization_controls import GOOGLE_CLIENT, GOOGLE_SCOPES, REDIRECT
from tests.servers.service_accounts import add_service_account, service_account_config

Section = dict[str, Any]
NOTHING = Secret("")


def device_section(server: AuthorizationServer) -> Section:
    return server.generic_config() | {"flow": "device", "device_url": f"{server.url}/device/code"}


def app_section(server: AuthorizationServer) -> Section:
    server.apps[GOOGLE_CLIENT] = {ALICE}
    return server.generic_config() | {"flow": "client_credentials", "scopes": ["mail"]}


def service_account_section(server: AuthorizationServer) -> Section:
    return dict(
        service_account_config(
            server, add_service_account(server, Path(server.authority.ca_file).with_name("own-key.json"))
        )
    )


UNATTENDED = {"oauth2": app_section, "google": service_account_section}


@asynccontextmanager
async def device_adapter(section: Section, **changes: Any) -> AsyncIterator[DeviceProvider]:
    async with opened(section | changes) as provider:
        assert isinstance(provider, DeviceProvider)
        yield provider


@asynccontextmanager
async def browser_adapter(section: Section, **changes: Any) -> AsyncIterator[BrowserProvider]:
    async with opened(section | changes) as provider:
        assert isinstance(provider, BrowserProvider)
        yield provider


# --- device code (RFC 8628) -----------------------------------------------------------------------------------------


async def signed_in(server: AuthorizationServer, provider: DeviceProvider) -> TokenSet:
    request = await provider.begin_device()
    server.approve_device(request.user_code, ALICE)
    tokens = await provider.poll(request)
    assert isinstance(tokens, TokenSet)
    return tokens


@pytest.mark.parametrize("authentication", ["body", "basic"])
async def test_a_wrong_secret_is_the_admins_turn_before_anybody_types_a_code(
    authorization_server: AuthorizationServer, authentication: str
) -> None:
    section = device_section(authorization_server) | {"client_authentication": authentication}
    async with device_adapter(section, client_secret="CANARY-wrong") as provider:
        with refusal(ProviderRefused, authorization_server):
            await provider.begin_device()
    assert not authorization_server.devices


async def test_device_and_browser_lead_to_the_same_grant(authorization_server: AuthorizationServer) -> None:
    """The admin may change `flow` without any new sign-in."""
    section = device_section(authorization_server)
    async with device_adapter(section) as one, browser_adapter(section, flow="browser") as other:
        tokens = await signed_in(authorization_server, one)
        assert one.fingerprint == other.fingerprint
        assert (await other.refresh(tokens.grant, subject=ALICE)).access.value.reveal() in authorization_server.access


# --- nobody signs in ------------------------------------------------------------------------------------------------


@pytest.fixture(params=UNATTENDED)
def own(request: pytest.FixtureRequest, authorization_server: AuthorizationServer) -> Section:
    return UNATTENDED[request.param](authorization_server)


async def test_an_app_that_nobody_has_let_in_is_the_admins_turn(
    authorization_server: AuthorizationServer, own: Section
) -> None:
    authorization_server.apps.clear()
    authorization_server.delegations = {account: set() for account in authorization_server.service_accounts}
    async with opened(own) as provider:
        with refusal(ProviderRefused, authorization_server) as caught:
            await provider.refresh(NOTHING, subject=ALICE)
        assert "unauthorized_client" in str(caught.value)
        assert "administrator" in str(caught.value)


async def test_a_certificate_that_is_not_trusted_is_named_where_nobody_signs_in(
    authorization_server: AuthorizationServer, own: Section, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authorization_server.authority.ca_file))
    async with opened(own | {"ca_file": None}) as provider:
        with refusal(ProviderNotAsked, authorization_server) as caught:
            await provider.refresh(NOTHING, subject=ALICE)
        assert "ca_file" in str(caught.value)


@pytest.mark.parametrize("authentication", ["body", "basic"])
async def test_a_wrong_secret_of_an_app_is_the_admins_turn(
    authorization_server: AuthorizationServer, authentication: str
) -> None:
    section = app_section(authorization_server) | {"client_authentication": authentication}
    async with opened(section | {"client_secret": "CANARY-wrong"}) as provider:
        with refusal(ProviderRefused, authorization_server) as caught:
            await provider.refresh(NOTHING, subject=ALICE)
        assert "client_secret" in str(caught.value)


async def test_an_app_asks_for_its_scopes(authorization_server: AuthorizationServer) -> None:
    async with opened(app_section(authorization_server)) as provider:
        tokens = await provider.refresh(NOTHING, subject=ALICE)
    assert tokens.scopes == {"mail"}
    assert [request["scope"] for request in authorization_server.requests] == ["mail"]


# --- how a server wants to be asked ---------------------------------------------------------------------------------


async def sign_in(server: AuthorizationServer, provider: BrowserProvider) -> TokenSet:
    request = await provider.begin(login_hint=ALICE, redirect_uri=REDIRECT)
    return await provider.redeem(request, server.consent(request.url, ALICE))


ODD_SECRET = "CANARY:50%+ü/=&"


@pytest.mark.parametrize(("authentication", "expected"), [(None, "body"), ("body", "body"), ("basic", "basic")])
async def test_the_client_proves_itself_in_one_way_at_every_endpoint(
    authorization_server: AuthorizationServer, authentication: str | None, expected: str
) -> None:
    """RFC 6749 section 2.3.1: id and secret are form-encoded before base64; else a colon in the id would divide it."""
    authorization_server.is_rfc7009 = True
    authorization_server.register("mail:bridge", ODD_SECRET, REDIRECT)
    authorization_server.secrets.append(base64.b64encode(f"mail%3Abridge:{quote_plus(ODD_SECRET)}".encode()).decode())
    client = {"client_id": "mail:bridge", "client_secret": ODD_SECRET, "client_authentication": authentication}
    section = device_section(authorization_server) | client
    async with browser_adapter(section, flow="browser") as provider:
        tokens = await sign_in(authorization_server, provider)
        tokens = await provider.refresh(tokens.grant, subject=ALICE)
        assert await provider.revoke(tokens.grant)
        with refusal(GrantRevoked, authorization_server):
            await provider.refresh(tokens.grant, subject=ALICE)
        assert await provider.revoke(tokens.grant)
    async with device_adapter(section) as device_provider:
        assert (await signed_in(authorization_server, device_provider)).grant
    authorization_server.apps["mail:bridge"] = {ALICE}
    async with opened(section | {"flow": "client_credentials"}) as app:
        assert (await app.refresh(NOTHING, subject=ALICE)).access.value
    asked = [request for request in authorization_server.requests if request["kind"] != "authorize"]
    assert {request["kind"] for request in asked} == {"token", "revoke", "device"}
    assert {(request["client_id"], request["authentication"]) for request in asked} == {("mail:bridge", expected)}


@pytest.mark.parametrize("secret", ["right", "wrong"])
async def test_a_revocation_that_is_refused_to_the_body_is_asked_for_by_basic(
    authorization_server: AuthorizationServer, secret: str
) -> None:
    """Where the token endpoint takes only the body, Authlib's revocation endpoint takes only Basic."""
    section = authorization_server.generic_config()
    async with browser_adapter(section) as provider:
        grant = (await sign_in(authorization_server, provider)).grant
    authorization_server.is_rfc7009 = authorization_server.revokes_by_basic = True
    authorization_server.requests.clear()
    if secret == "right":
        async with browser_adapter(section) as provider:
            assert await provider.revoke(grant)
        assert grant.reveal() not in authorization_server.refresh
    else:
        async with browser_adapter(section, client_secret="CANARY-wrong") as provider:
            with pytest.raises(ProviderUnavailable, match="HTTP 401"):
                await provider.revoke(grant)
    asked = [request["authentication"] for request in authorization_server.requests]
    assert asked == ["body", "basic"]


async def test_a_revocation_of_what_is_not_known_any_more_is_asked_for_once(
    authorization_server: AuthorizationServer,
) -> None:
    """The secret was right. A second request by Basic might be refused, and the ended sign-in not count as ended."""
    authorization_server.unknown_token_status = 401
    async with browser_adapter(authorization_server.generic_config()) as provider:
        grant = (await sign_in(authorization_server, provider)).grant
        assert await provider.revoke(grant)
        authorization_server.requests.clear()
        assert await provider.revoke(grant)
    assert [request["authentication"] for request in authorization_server.requests] == ["body"]


async def test_a_public_client_names_itself_in_the_body_whatever_way_its_secret_would_go(
    authorization_server: AuthorizationServer,
) -> None:
    authorization_server.register("public", None, REDIRECT)
    client = {"client_id": "public", "client_secret": None, "client_authentication": "basic"}
    async with browser_adapter(authorization_server.generic_config(), **client) as provider:
        assert (await sign_in(authorization_server, provider)).grant
    asked = [request for request in authorization_server.requests if request["kind"] == "token"]
    assert [(request["client_id"], request["authentication"]) for request in asked] == [("public", "body")]


async def test_a_server_that_refuses_pkce_gets_none_of_its_parameters(
    authorization_server: AuthorizationServer,
) -> None:
    authorization_server.refuses_pkce = True
    section = authorization_server.generic_config()
    async with browser_adapter(section, pkce=False) as provider:
        request = await provider.begin(login_hint=ALICE, redirect_uri=REDIRECT)
        query = parse_qs(urlsplit(request.url).query)
        assert not {"code_challenge", "code_challenge_method"} & set(query)
        assert query["state"] == [request.state]
        assert (await provider.redeem(request, authorization_server.consent(request.url, ALICE))).grant
    async with browser_adapter(section) as provider:
        with pytest.raises(AssertionError, match="400"):
            await sign_in(authorization_server, provider)


async def test_a_sign_in_that_was_under_way_when_pkce_was_switched_off_goes_on(
    authorization_server: AuthorizationServer,
) -> None:
    section = authorization_server.generic_config()
    async with browser_adapter(section) as before, browser_adapter(section, pkce=False) as after:
        request = await before.begin(login_hint=ALICE, redirect_uri=REDIRECT)
        assert (await after.redeem(request, authorization_server.consent(request.url, ALICE))).grant


async def test_a_strict_server_gives_a_refresh_token_to_whom_it_has_asked(
    authorization_server: AuthorizationServer,
) -> None:
    """OpenID Connect Core section 11, with the authorization URL of the discovery document and no query added to it.
    Canaille requires a nonce besides."""
    authorization_server.is_strict = True
    section = authorization_server.generic_config() | {"scopes": ["openid", "email", "offline_access"]}
    section["authorization_url"] = section["authorization_url"].partition("?")[0]
    async with browser_adapter(section) as provider:
        assert (await sign_in(authorization_server, provider)).grant


@pytest.mark.parametrize(("told", "counts"), [("another", False), ("", False), (7, False), (None, True)])
async def test_an_id_token_that_was_made_for_another_sign_in_does_not_count(
    authorization_server: AuthorizationServer, told: object, counts: bool
) -> None:
    """OpenID Connect Core 3.1.3.7 item 11. For an id_token without a nonce, only PKCE ties a code to its sign-in."""
    authorization_server.claims = {"nonce": told}
    async with browser_adapter(authorization_server.generic_config()) as provider:
        if counts:
            assert (await sign_in(authorization_server, provider)).grant
            return
        with refusal(AuthorizationFailed, authorization_server) as caught:
            await sign_in(authorization_server, provider)
    assert "made for another sign-in" in str(caught.value)


MAIL = "https://mail.example.com/"


@pytest.mark.parametrize("name", ["resource", "audience"])
async def test_a_server_is_told_what_its_tokens_are_for_each_time(
    authorization_server: AuthorizationServer, name: str
) -> None:
    """RFC 8707; at a refresh without it AD FS falls back to its default, and Auth0 wants it from an app."""
    server, asked = authorization_server, authorization_server.requests
    async with browser_adapter(server.generic_config(), **{name: MAIL}) as provider:
        tokens = await sign_in(server, provider)
        await provider.refresh(tokens.grant, subject=ALICE)
    async with device_adapter(device_section(server), **{name: MAIL}) as provider:
        await signed_in(server, provider)
    async with opened(app_section(server) | {name: MAIL}) as provider:
        await provider.refresh(NOTHING, subject=ALICE)
    assert {request["kind"] for request in asked} == {"authorize", "token", "device"}
    assert len(asked) == 6
    assert {request.get(name) for request in asked} == {MAIL}


async def test_what_authorization_url_says_of_it_stays(authorization_server: AuthorizationServer) -> None:
    section = authorization_server.generic_config()
    section["authorization_url"] += "&resource=own"
    async with browser_adapter(section, resource=MAIL) as provider:
        url = (await provider.begin(login_hint="", redirect_uri=REDIRECT)).url
    assert parse_qs(urlsplit(url).query)["resource"] == ["own"]


async def test_a_sign_in_for_another_resource_is_another(authorization_server: AuthorizationServer) -> None:
    section = authorization_server.generic_config()
    async with (
        opened(section) as plain,
        opened(section | {"resource": MAIL}) as one,
        opened(section | {"audience": MAIL}) as other,
    ):
        assert len({plain.fingerprint, one.fingerprint, other.fingerprint}) == 3
        assert len({plain.client, one.client, other.client}) == 1


async def test_the_scopes_are_asked_for_as_configured(authorization_server: AuthorizationServer) -> None:
    async with device_adapter(device_section(authorization_server)) as provider:
        await provider.begin_device()
    assert [request["scope"] for request in authorization_server.requests] == [GOOGLE_SCOPES]
