"""`kind: microsoft` with a device code, and answers that our own authorization server does not give."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bridge.errors import AuthorizationFailed, BridgeError, ProviderRefused, ProviderUnavailable
from bridge.oauth.base import DeviceProvider, DeviceRequest
from bridge.ui.i18n import translation
from tests.contract.trials import opened
from tests.oauth.raw import Tls, http, serving

GOOD = {
    "device_code": "CANARY-device",
    "user_code": "ABCD1234",
    "verification_uri": "https://login.example/device",
    "expires_in": 900,
    "interval": 5,
}


@asynccontextmanager
async def asking(tls: Tls, *answers: bytes) -> AsyncIterator[DeviceProvider]:
    """The adapter, with a server that sends the discovery document and then these answers."""
    replies = [*reversed(answers)]

    def speak(channel: socket.socket) -> None:
        channel.sendall(replies.pop())

    with serving(speak, *tls) as raw:
        host = f"https://localhost:{raw.port}"
        ends = ("authorization_endpoint", "token_endpoint", "device_authorization_endpoint")
        replies.append(http(json.dumps({"issuer": host} | dict.fromkeys(ends, raw.url)).encode()))
        urls = {
            name: f"{host}/t.example/oauth2/v2.0/{leaf}"
            for name, leaf in (("authorization_url", "authorize"), ("token_url", "token"))
        }
        section = {"kind": "microsoft", "client_id": "id", "flow": "device", "discovery": False, "ca_file": tls[0]}
        async with opened(section | urls) as provider:
            assert isinstance(provider, DeviceProvider)
            yield provider


async def begin(tls: Tls, answer: dict[str, Any], status: str = "200 OK") -> DeviceRequest:
    async with asking(tls, http(json.dumps(answer).encode(), status)) as provider:
        return await provider.begin_device()


async def test_a_good_answer_is_taken_as_it_is(tls: Tls) -> None:
    request = await begin(tls, GOOD | {"verification_uri_complete": "https://login.example/device?c=1"})
    assert request.complete_url == "https://login.example/device?c=1"
    assert (request.user_code, request.lifetime, request.interval) == ("ABCD1234", 900, 5)
    assert "CANARY" not in repr(request)


@pytest.mark.parametrize(
    "change",
    [
        {"verification_uri": "javascript:alert(1)"},
        {"verification_uri": "http://login.example/device"},
        {"verification_uri": None},
        {"user_code": ""},
        {"user_code": 7},
        {"device_code": ["x"]},
        {"expires_in": 0},
        {"expires_in": -5},
        {"expires_in": "soon"},
        {"expires_in": float("inf")},
        {"interval": float("nan")},
    ],
    ids=str,
)
async def test_nothing_is_shown_that_is_no_code_or_no_link(tls: Tls, change: dict[str, Any]) -> None:
    with pytest.raises(ProviderUnavailable) as caught:
        await begin(tls, GOOD | change)
    assert caught.type is ProviderUnavailable
    assert "CANARY" not in str(caught.value)


async def test_a_link_that_is_none_is_left_out(tls: Tls) -> None:
    assert (await begin(tls, GOOD | {"verification_uri_complete": "javascript:alert(1)"})).complete_url == ""


@pytest.mark.parametrize("interval", [0, -3])
async def test_an_interval_of_nothing_is_still_a_pause(tls: Tls, interval: int) -> None:
    assert (await begin(tls, GOOD | {"interval": interval})).interval == 0.2


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ("invalid_client", ProviderRefused),
        ("access_denied", ProviderRefused),
        ("never_heard_of", ProviderRefused),
        ("temporarily_unavailable", ProviderUnavailable),
    ],
)
async def test_an_error_before_anybody_was_asked_is_nobodys_failed_sign_in(
    tls: Tls, error: str, expected: type[BridgeError]
) -> None:
    with pytest.raises(expected) as caught:
        await begin(tls, {"error": error, "error_description": "AADSTS1: no"}, "400 Bad")
    assert caught.type is expected
    assert caught.value.diagnosis is not None, "whose turn it is"


@pytest.mark.parametrize(
    ("number", "expected"), [("AADSTS70000", AuthorizationFailed), ("AADSTS7000218", ProviderRefused)]
)
async def test_what_is_repeated_of_our_question_is_not_told(tls: Tls, number: str, expected: type[BridgeError]) -> None:
    """Both secrets are short, because long words are removed from any text. The second error number is for an app that
    is not public: our error for it has its own text, which is translated into French."""
    refused = {"error": "invalid_grant", "error_description": f"{number}: CANARY-device of ABCD1234 is bad"}
    answers = http(json.dumps(GOOD).encode()), http(json.dumps(refused).encode(), "400 Bad Request")
    async with asking(tls, *answers) as provider:
        request = await provider.begin_device()
        with pytest.raises(expected, match=f"{number}: … of … is bad") as caught:
            await provider.poll(request)
    if caught.type is ProviderRefused:
        assert caught.value.diagnosis is not None
        french = caught.value.diagnosis.told(translation("fr"))
        assert "« Autoriser les flux clients publics »" in french.replace("\N{NO-BREAK SPACE}", " ")
        assert "The administrator" not in french
