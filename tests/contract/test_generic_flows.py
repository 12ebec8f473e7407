"""`kind: oauth2` beyond the usual browser: device code, client credentials, HTTP Basic, servers without PKCE; and
Google's service account, which has the same contract as client credentials."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote_plus, urlsplit

import pytest
from pydantic import TypeAdapter

from bridge.clock import SystemClock
from bridge.config.providers import ProviderConfig
from bridge.errors import AuthorizationFailed, GrantRevoked, ProviderRefused, ProviderUnavailable
from bridge.model import Subject, TokenSet
from bridge.oauth import registry
from bridge.oauth.base import BrowserProvider, DevicePending, DeviceProvider, DeviceRequest, Provider
from bridge.secret import Secret
from tests.contract.test_providers import ALICE, QUICK, no_secret_is_told, refusal
from tests.servers.authorization import GOOGLE_CLIENT, GOOGLE_SCOPES, REDIRECT, AuthorizationServer, Fault
from tests.servers.service_accounts import add_service_account, service_account_config

__all__ = ["no_secret_is_told"]  # a fixture of every test here

Section = dict[str, Any]
NOTHING = Secret("")


def device_section(server: AuthorizationServer, directory: Path) -> Section:
    return server.generic_config() | {"flow": "device", "device_url": f"{server.url}/device/code"}


def app_section(server: AuthorizationServer, directory: Path) -> Section:
    server.apps[GOOGLE_CLIENT] = {ALICE}
    return server.generic_config() | {"flow": "client_credentials", "scopes": ["mail"]}


def service_account_section(server: AuthorizationServer, directory: Path) -> Section:
    return dict(service_account_config(server, add_service_account(server, directory / "key.json")))


DEVICE: dict[str, Callable[[AuthorizationServer, Path], Section]] = {"oauth2": device_section}
UNATTENDED: dict[str, Callable[[AuthorizationServer, Path], Section]] = {
    "oauth2": app_section,
    "google": service_account_section,
}
SUBJECTS = {"oauth2": None, "google": Subject(ALICE)}
"""Who a token of an unattended provider is for, as far as its endpoint vouches for it."""


@asynccontextmanager
async def adapter(section: Section, **changes: Any) -> AsyncIterator[Provider]:
    """The adapter for this section, whatever it offers."""
    found = {name: value for name, value in (section | changes).items() if value is not None}
    config: ProviderConfig = TypeAdapter(ProviderConfig).validate_python(found)
    provider = registry.create("trial", config, SystemClock(), limits=QUICK)
    try:
        yield provider
    finally:
        await provider.close()


@asynccontextmanager
async def device_adapter(section: Section, **changes: Any) -> AsyncIterator[DeviceProvider]:
    async with adapter(section, **changes) as provider:
        assert isinstance(provider, DeviceProvider)
        yield provider


@asynccontextmanager
async def browser_adapter(section: Section, **changes: Any) -> AsyncIterator[BrowserProvider]:
    async with adapter(section, **changes) as provider:
        assert isinstance(provider, BrowserProvider)
        yield provider


# --- device code (RFC 8628) -----------------------------------------------------------------------------------------


@pytest.fixture(params=DEVICE)
def device(request: pytest.FixtureRequest, authorization_server: AuthorizationServer, tmp_path: Path) -> Section:
    return DEVICE[request.param](authorization_server, tmp_path)


async def signed_in(server: AuthorizationServer, provider: DeviceProvider) -> TokenSet:
    request = await provider.begin_device()
    server.approve_device(request.user_code, ALICE)
    tokens = await provider.poll(request)
    assert isinstance(tokens, TokenSet)
    return tokens


async def test_a_code_typed_elsewhere_gives_a_token_a_grant_and_who_it_was(
    authorization_server: AuthorizationServer, device: Section
) -> None:
    async with device_adapter(device) as provider:
        assert not isinstance(provider, BrowserProvider)
        assert not provider.is_unattended
        tokens = await signed_in(authorization_server, provider)
        assert tokens.subject is not None
        assert tokens.subject.is_named(ALICE)
        assert tokens.access.value.reveal() in authorization_server.access
        assert 3500 < tokens.access.expires_at - tokens.access.obtained_at <= 3600
        again = await provider.refresh(tokens.grant, subject=ALICE)
        assert again.access.value != tokens.access.value


async def test_a_device_request_holds_what_a_person_needs_and_nothing_else_in_clear(
    authorization_server: AuthorizationServer, device: Section
) -> None:
    authorization_server.device_interval = 7
    async with device_adapter(device) as provider:
        request = await provider.begin_device()
        assert request.verification_url == f"{authorization_server.url}/device"
        assert request.complete_url == f"{request.verification_url}?user_code={request.user_code}"
        assert (request.lifetime, request.interval) == (900, 7)
        assert not any(code in repr(request) for code in authorization_server.devices)


async def test_each_poll_asks_once_and_says_pending_until_the_person_has_finished(
    authorization_server: AuthorizationServer, device: Section
) -> None:
    async with device_adapter(device) as provider:
        request = await provider.begin_device()
        for times in (1, 2, 3):
            assert await provider.poll(request) == DevicePending(slow_down=False)
            assert authorization_server.count("urn:ietf:params:oauth:grant-type:device_code") == times
        authorization_server.approve_device(request.user_code, ALICE)
        assert isinstance(await provider.poll(request), TokenSet)


async def test_whoever_polls_too_fast_is_told_to_slow_down_and_loses_nothing(
    authorization_server: AuthorizationServer, device: Section
) -> None:
    authorization_server.device_interval = 60
    async with device_adapter(device) as provider:
        request = await provider.begin_device()
        assert await provider.poll(request) == DevicePending(slow_down=False)
        assert await provider.poll(request) == DevicePending(slow_down=True)
        (waiting,) = authorization_server.devices.values()
        assert waiting.interval == 65  # RFC 8628 section 3.5
        authorization_server.approve_device(request.user_code, ALICE)
        waiting.polled_at = 0.0
        assert isinstance(await provider.poll(request), TokenSet)


async def test_a_person_who_declines_the_device_is_told_so(
    authorization_server: AuthorizationServer, device: Section
) -> None:
    async with device_adapter(device) as provider:
        request = await provider.begin_device()
        authorization_server.approve_device(request.user_code, ALICE, "deny")
        with refusal(AuthorizationFailed, authorization_server) as caught:
            await provider.poll(request)
        assert caught.value.code == "denied"


async def test_a_code_that_nobody_typed_in_time_has_expired(
    authorization_server: AuthorizationServer, device: Section
) -> None:
    async with device_adapter(device) as provider:
        request = await provider.begin_device()
        for waiting in authorization_server.devices.values():
            waiting.expires_at = 0.0
        with refusal(AuthorizationFailed, authorization_server) as caught:
            await provider.poll(request)
        assert caught.value.code == "expired"


async def test_a_device_code_works_once(authorization_server: AuthorizationServer, device: Section) -> None:
    async with device_adapter(device) as provider:
        request = await provider.begin_device()
        authorization_server.approve_device(request.user_code, ALICE)
        tokens = await provider.poll(request)
        assert isinstance(tokens, TokenSet)
        with refusal(AuthorizationFailed, authorization_server) as caught:
            await provider.poll(request)
        assert caught.value.code == "provider"
        await provider.refresh(tokens.grant, subject=ALICE)


async def test_a_code_that_another_run_of_the_program_asked_for_can_be_polled(
    authorization_server: AuthorizationServer, device: Section
) -> None:
    async with device_adapter(device) as before:
        request = await before.begin_device()
    authorization_server.approve_device(request.user_code, ALICE)
    stored = request.kept.reveal().encode("utf-8").decode("utf-8")
    kept = DeviceRequest(request.user_code, request.verification_url, "", 900, 5, Secret(stored))
    async with device_adapter(device) as after:
        assert isinstance(await after.poll(kept), TokenSet)


@pytest.mark.parametrize("fault", list(Fault))
async def test_trouble_while_a_code_is_asked_for_is_over_when_it_is_over(
    authorization_server: AuthorizationServer, device: Section, fault: Fault
) -> None:
    async with device_adapter(device) as provider:
        with authorization_server.failing("device", fault), refusal(ProviderUnavailable, authorization_server):
            await provider.begin_device()
        assert (await signed_in(authorization_server, provider)).grant


@pytest.mark.parametrize("fault", list(Fault))
async def test_trouble_during_a_poll_does_not_end_the_sign_in(
    authorization_server: AuthorizationServer, device: Section, fault: Fault
) -> None:
    async with device_adapter(device) as provider:
        request = await provider.begin_device()
        with authorization_server.failing("token", fault):
            for _ in range(2):
                with refusal(ProviderUnavailable, authorization_server):
                    await provider.poll(request)
        authorization_server.approve_device(request.user_code, ALICE)
        assert isinstance(await provider.poll(request), TokenSet)


async def test_a_scope_that_the_person_did_not_grant_is_named(
    authorization_server: AuthorizationServer, device: Section
) -> None:
    async with device_adapter(device) as provider:
        request = await provider.begin_device()
        (waiting,) = authorization_server.devices.values()
        waiting.scope = "openid"
        authorization_server.approve_device(request.user_code, ALICE)
        with refusal(AuthorizationFailed, authorization_server) as caught:
            await provider.poll(request)
        assert caught.value.code == "missing_scope"


@pytest.mark.parametrize("authentication", ["body", "basic"])
async def test_a_wrong_secret_is_the_admins_turn_before_anybody_types_a_code(
    authorization_server: AuthorizationServer, authentication: str
) -> None:
    section = device_section(authorization_server, Path()) | {"client_authentication": authentication}
    async with device_adapter(section, client_secret="CANARY-wrong") as provider:
        with refusal(ProviderRefused, authorization_server):
            await provider.begin_device()
    assert not authorization_server.devices


async def test_device_and_browser_lead_to_the_same_grant(authorization_server: AuthorizationServer) -> None:
    """The admin may change `flow` without asking anybody to sign in again."""
    section = device_section(authorization_server, Path())
    async with device_adapter(section) as one, browser_adapter(section, flow="browser") as other:
        tokens = await signed_in(authorization_server, one)
        assert one.fingerprint == other.fingerprint
        assert (await other.refresh(tokens.grant, subject=ALICE)).access.value.reveal() in authorization_server.access


# --- nobody signs in ------------------------------------------------------------------------------------------------


@pytest.fixture(params=UNATTENDED)
def unattended(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def own(authorization_server: AuthorizationServer, tmp_path: Path, unattended: str) -> Section:
    return UNATTENDED[unattended](authorization_server, tmp_path)


async def test_a_token_comes_without_anybody_and_without_a_grant(
    authorization_server: AuthorizationServer, unattended: str, own: Section
) -> None:
    async with adapter(own) as provider:
        assert provider.is_unattended
        assert not isinstance(provider, BrowserProvider | DeviceProvider)
        tokens = await provider.refresh(NOTHING, subject=ALICE)
        assert tokens.access.value.reveal() in authorization_server.access
        assert 3500 < tokens.access.expires_at - tokens.access.obtained_at <= 3600
        assert not tokens.grant
        assert tokens.subject == SUBJECTS[unattended]


async def test_every_refresh_asks_anew_whatever_grant_is_kept_from_a_former_life(
    authorization_server: AuthorizationServer, own: Section
) -> None:
    async with adapter(own) as provider:
        first = await provider.refresh(NOTHING, subject=ALICE)
        second = await provider.refresh(Secret("CANARY-refresh-token"), subject=ALICE)
        assert first.access.value != second.access.value
        assert authorization_server.count("refresh_token") == 0


async def test_there_is_nothing_to_adopt_and_nothing_to_revoke(
    authorization_server: AuthorizationServer, own: Section
) -> None:
    async with adapter(own) as provider:
        with refusal(AuthorizationFailed, authorization_server) as caught:
            await provider.adopt(Secret(authorization_server.issue_refresh_token(ALICE)))
        assert caught.value.code == "no_grant"
        assert await provider.revoke(NOTHING) is False
    assert authorization_server.requests == []


@pytest.mark.parametrize("fault", list(Fault))
async def test_trouble_on_the_way_is_over_when_it_is_over_where_nobody_signs_in(
    authorization_server: AuthorizationServer, own: Section, fault: Fault
) -> None:
    async with adapter(own) as provider:
        with authorization_server.failing("token", fault):
            for times in (1, 2):
                with refusal(ProviderUnavailable, authorization_server):
                    await provider.refresh(NOTHING, subject=ALICE)
                assert len(authorization_server.requests) == times  # asked anew, and once
        tokens = await provider.refresh(NOTHING, subject=ALICE)
        assert tokens.access.value.reveal() in authorization_server.access


async def test_an_app_that_nobody_has_let_in_is_the_admins_turn(
    authorization_server: AuthorizationServer, own: Section
) -> None:
    authorization_server.apps.clear()
    authorization_server.delegations = {account: set() for account in authorization_server.service_accounts}
    async with adapter(own) as provider:
        with refusal(ProviderRefused, authorization_server) as caught:
            await provider.refresh(NOTHING, subject=ALICE)
        assert "unauthorized_client" in str(caught.value)
        assert "administrator" in str(caught.value)


async def test_a_certificate_that_is_not_trusted_is_named_where_nobody_signs_in(
    authorization_server: AuthorizationServer, own: Section, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authorization_server.authority.ca_file))
    async with adapter(own, ca_file=None) as provider:
        with refusal(ProviderUnavailable, authorization_server) as caught:
            await provider.refresh(NOTHING, subject=ALICE)
        assert "ca_file" in str(caught.value)


@pytest.mark.parametrize("authentication", ["body", "basic"])
async def test_a_wrong_secret_of_an_app_is_the_admins_turn(
    authorization_server: AuthorizationServer, authentication: str
) -> None:
    section = app_section(authorization_server, Path()) | {"client_authentication": authentication}
    async with adapter(section, client_secret="CANARY-wrong") as provider:
        with refusal(ProviderRefused, authorization_server) as caught:
            await provider.refresh(NOTHING, subject=ALICE)
        assert "client_secret" in str(caught.value)


async def test_an_app_asks_for_its_scopes(authorization_server: AuthorizationServer) -> None:
    async with adapter(app_section(authorization_server, Path())) as provider:
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
    """RFC 6749 section 2.3.1: id and secret are form-encoded before base64, or a colon in the id cuts it in two."""
    authorization_server.is_rfc7009 = True
    authorization_server.register("mail:bridge", ODD_SECRET, REDIRECT)
    authorization_server.secrets.append(base64.b64encode(f"mail%3Abridge:{quote_plus(ODD_SECRET)}".encode()).decode())
    client = {"client_id": "mail:bridge", "client_secret": ODD_SECRET, "client_authentication": authentication}
    section = device_section(authorization_server, Path()) | client
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
    async with adapter(section, flow="client_credentials") as app:
        assert (await app.refresh(NOTHING, subject=ALICE)).access.value
    asked = [request for request in authorization_server.requests if request["kind"] != "authorize"]
    assert {request["kind"] for request in asked} == {"token", "revoke", "device"}
    assert {(request["client_id"], request["authentication"]) for request in asked} == {("mail:bridge", expected)}


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


async def test_the_scopes_are_asked_for_as_configured(authorization_server: AuthorizationServer) -> None:
    async with device_adapter(device_section(authorization_server, Path())) as provider:
        await provider.begin_device()
    assert [request["scope"] for request in authorization_server.requests] == [GOOGLE_SCOPES]
