"""`kind: oauth2` with answers that our own authorization server does not give."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bridge.config.generic import ClientAuthentication
from bridge.config.provider import Flow
from bridge.errors import AuthorizationFailed, BridgeError, ProviderRefused, ProviderUnavailable
from bridge.model import TokenSet
from bridge.oauth.base import DevicePending, DeviceProvider, DeviceRequest, Provider
from bridge.secret import Secret
from tests.contract.trials import opened
from tests.oauth.raw import Answer, Raw, Tls, http, serving

SECRET = "CANARY-7"
"""Short, because long words are removed from any text."""
GOOD: dict[str, Any] = {
    "device_code": "CANARY-device",
    "user_code": "WDJB-MJHT",
    "verification_uri": "https://idp.example/device",
    "verification_uri_complete": "https://idp.example/device?user_code=WDJB-MJHT",
    "expires_in": 1800,
    "interval": 9,
}
REQUEST = DeviceRequest(
    "WDJB-MJHT", "https://idp.example/device", "", 900, 5, Secret('{"device_code": "CANARY-device", "expires_at": 9e9}')
)


@asynccontextmanager
async def asking(
    tls: Tls, answer: Answer, flow: Flow, authentication: ClientAuthentication = ClientAuthentication.BODY
) -> AsyncIterator[tuple[Provider, Raw]]:
    """The adapter for this flow, with a server that gives one answer to every request."""
    with serving(answer, *tls) as raw:
        section: dict[str, Any] = {"kind": "oauth2", "client_id": "mail-bridge", "client_secret": SECRET}
        section |= {"scopes": ["mail"], "flow": flow, "client_authentication": authentication, "ca_file": raw.ca_file}
        urls = ("authorization_url", "device_url", "token_url", "revocation_url")
        async with opened(section | dict.fromkeys(urls, raw.url)) as provider:
            yield provider, raw


async def begun(tls: Tls, **changes: object) -> DeviceRequest:
    answer = {name: value for name, value in (GOOD | changes).items() if value is not None}
    async with asking(tls, http(json.dumps(answer).encode()), Flow.DEVICE) as (provider, _):
        assert isinstance(provider, DeviceProvider)
        return await provider.begin_device()


async def polled(tls: Tls, answer: dict[str, object], status: str) -> TokenSet | DevicePending:
    async with asking(tls, http(json.dumps(answer).encode(), status), Flow.DEVICE) as (provider, _):
        assert isinstance(provider, DeviceProvider)
        return await provider.poll(REQUEST)


@pytest.mark.parametrize(
    ("changes", "interval", "lifetime"),
    [
        ({}, 9, 900),
        ({"interval": None}, 5, 900),  # RFC 8628 section 3.2
        ({"interval": 0}, 0.2, 900),
        ({"interval": "2", "expires_in": "600"}, 2, 600),
        ({"interval": -3, "expires_in": -1}, 5, 300),
        ({"interval": "soon", "expires_in": None}, 5, 300),
        ({"interval": float("nan"), "expires_in": float("inf")}, 5, 300),
        ({"interval": [], "expires_in": {}}, 5, 300),
    ],
)
async def test_what_a_server_leaves_out_of_its_times_has_a_default(
    tls: Tls, changes: dict[str, object], interval: float, lifetime: float
) -> None:
    request = await begun(tls, **changes)
    assert (request.interval, request.lifetime) == (interval, lifetime)


@pytest.mark.parametrize(
    ("changes", "url", "complete"),
    [
        ({}, GOOD["verification_uri"], GOOD["verification_uri_complete"]),
        ({"verification_uri_complete": None}, GOOD["verification_uri"], ""),
        ({"verification_uri_complete": "javascript:alert(1)"}, GOOD["verification_uri"], ""),
        ({"verification_uri_complete": "https://idp.example/ x"}, GOOD["verification_uri"], ""),
        (
            {"verification_uri": None, "verification_url": "https://www.google.com/device"},
            "https://www.google.com/device",
            GOOD["verification_uri_complete"],
        ),
    ],
)
async def test_the_address_is_read_under_both_its_names_and_the_complete_one_is_optional(
    tls: Tls, changes: dict[str, object], url: str, complete: str
) -> None:
    request = await begun(tls, **changes)
    assert (request.verification_url, request.complete_url) == (url, complete)


@pytest.mark.parametrize(
    "changes",
    [
        {"device_code": None},
        {"device_code": ""},
        {"device_code": 7},
        {"device_code": "CANARY-\ud800"},
        {"user_code": None},
        {"user_code": ""},
        {"user_code": "A" * 65},
        {"user_code": "A\x1b[2J"},
        {"user_code": "A\r\nB"},
        {"verification_uri": None},
        {"verification_uri": "http://idp.example/device"},
        {"verification_uri": "javascript:alert(1)"},
        {"verification_uri": "https://idp.example/\nSet-Cookie: x"},
        {"verification_uri": 7},
    ],
)
async def test_what_cannot_be_shown_to_a_person_is_no_device_request(tls: Tls, changes: dict[str, object]) -> None:
    with pytest.raises(ProviderUnavailable) as caught:
        await begun(tls, **changes)
    assert caught.type is ProviderUnavailable
    assert "CANARY" not in str(caught.value)


@pytest.mark.parametrize(
    "status", ["400 Bad Request", "401 Unauthorized", "403 Forbidden", "428 Precondition Required"]
)
@pytest.mark.parametrize(("error", "slow_down"), [("authorization_pending", False), ("slow_down", True)])
async def test_the_error_says_pending_and_not_the_status(tls: Tls, status: str, error: str, slow_down: bool) -> None:
    assert await polled(tls, {"error": error}, status) == DevicePending(slow_down)


@pytest.mark.parametrize(
    ("error", "status", "kind", "code"),
    [
        ("access_denied", "400 Bad Request", AuthorizationFailed, "denied"),
        ("access_denied", "403 Forbidden", AuthorizationFailed, "denied"),
        ("expired_token", "400 Bad Request", AuthorizationFailed, "expired"),
        ("invalid_grant", "400 Bad Request", AuthorizationFailed, "provider"),
        ("unheard_of", "400 Bad Request", AuthorizationFailed, "provider"),
        ("invalid_client", "401 Unauthorized", ProviderRefused, None),
        ("unsupported_grant_type", "400 Bad Request", ProviderRefused, None),
        ("authorization_pending", "503 Service Unavailable", ProviderUnavailable, None),
        ("slow_down", "429 Too Many Requests", ProviderUnavailable, None),
        ("temporarily_unavailable", "400 Bad Request", ProviderUnavailable, None),
    ],
)
async def test_each_end_of_a_device_code_is_told_apart(
    tls: Tls, error: str, status: str, kind: type[BridgeError], code: str | None
) -> None:
    description = "the code CANARY-device is not good"
    with pytest.raises(kind) as caught:
        await polled(tls, {"error": error, "error_description": description}, status)
    assert caught.type is kind
    assert getattr(caught.value, "code", None) == code
    assert "CANARY" not in str(caught.value)


async def test_a_device_sign_in_without_a_refresh_token_is_told_so(tls: Tls) -> None:
    with pytest.raises(AuthorizationFailed) as caught:
        await polled(tls, {"access_token": "CANARY-access", "token_type": "Bearer"}, "200 OK")
    assert caught.value.code == "no_grant"


@pytest.mark.parametrize("error", ["invalid_grant", "interaction_required", "consent_required", "invalid_client"])
async def test_an_app_is_never_told_that_a_person_must_sign_in(tls: Tls, error: str) -> None:
    answer = http(json.dumps({"error": error}).encode(), "400 Bad Request")
    async with asking(tls, answer, Flow.CLIENT_CREDENTIALS) as (provider, _):
        with pytest.raises(ProviderRefused) as caught:
            await provider.refresh(Secret(""), subject="alice@example.com")
    assert "administrator" in str(caught.value)
    assert "Sign in again" not in str(caught.value)
    assert error in str(caught.value)


async def test_a_refresh_token_for_an_app_is_not_kept(tls: Tls) -> None:
    """RFC 6749 section 4.4.3 says that none should be sent, but some servers send one."""
    answer = {"access_token": "CANARY-access", "token_type": "bearer", "refresh_token": "CANARY-refresh"}
    async with asking(tls, http(json.dumps(answer).encode()), Flow.CLIENT_CREDENTIALS) as (provider, _):
        tokens = await provider.refresh(Secret(""), subject="alice@example.com")
    assert not tokens.grant
    assert tokens.access.value.reveal() == "CANARY-access"
    assert tokens.scopes == {"mail"}


@pytest.mark.parametrize("authentication", list(ClientAuthentication))
@pytest.mark.parametrize("flow", [Flow.DEVICE, Flow.CLIENT_CREDENTIALS])
async def test_a_server_that_repeats_what_it_was_sent_does_not_make_us_tell_it(
    tls: Tls, flow: Flow, authentication: ClientAuthentication
) -> None:
    header = base64.b64encode(f"mail-bridge:{SECRET}".encode()).decode()
    description = f"bad client: {SECRET} or {header}"
    answer = http(json.dumps({"error": "invalid_client", "error_description": description}).encode(), "401 No")
    async with asking(tls, answer, flow, authentication) as (provider, raw):
        with pytest.raises(ProviderRefused) as caught:
            if isinstance(provider, DeviceProvider):
                await provider.begin_device()
            else:
                await provider.refresh(Secret(""), subject="alice@example.com")
    assert "CANARY" not in str(caught.value)
    if authentication is ClientAuthentication.BASIC:
        assert header not in str(caught.value)
        assert b"Authorization: Basic " + header.encode() in raw.requests[0]
        assert b"client_secret" not in raw.requests[0]
        assert b"client_id" not in raw.requests[0]
    else:
        assert b"client_secret=CANARY" in raw.requests[0]


async def test_a_server_is_told_what_kind_of_token_it_is_to_revoke(tls: Tls) -> None:
    """RFC 7009 section 2.1. It is also asked for JSON, since a few servers use another format by default."""
    async with asking(tls, http(b"{}"), Flow.BROWSER) as (provider, raw):
        assert await provider.revoke(Secret("CANARY-refresh"))
    assert b"\r\nAccept: application/json\r\n" in raw.requests[0]
    assert b"token=CANARY-refresh&token_type_hint=refresh_token" in raw.requests[0]
