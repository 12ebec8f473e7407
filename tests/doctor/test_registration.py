"""The registration, tried with an invented code: what the provider says outright about our client is reported, and
nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from bridge.config.load import parse_config
from bridge.control.contract import Finding, Outcome
from bridge.doctor import findings, registration
from bridge.doctor.registration import registration_findings
from bridge.ui.i18n import translation
from tests.oauth.raw import certificates, http, serving
from tests.servers.authorization import AuthorizationServer
from tests.servers.authorization_controls import MICROSOFT_CLIENT, TENANT
from tests.servers.tunnel import tunnel

Section = dict[str, Any]
WRONG = "CANARY-7"
"""Short, because anything long is left out of a text anyway."""


def google(server: AuthorizationServer) -> Section:
    return server.google_config()


def microsoft(server: AuthorizationServer) -> Section:
    return server.microsoft_config()


def own(server: AuthorizationServer) -> Section:
    return server.generic_config()


def own_by_basic(server: AuthorizationServer) -> Section:
    return own(server) | {"client_authentication": "basic"}


def own_by_device(server: AuthorizationServer) -> Section:
    return own(server) | {"flow": "device", "device_url": f"{server.url}/device/code"}


async def found(section: Section, proven: tuple[str, ...] = ()) -> tuple[Finding, ...]:
    text = {"providers": {"it": section}, "accounts": [{"address": "alice@example.com", "provider": "it"}]}
    if section["kind"] == "oauth2":
        section |= {"imap": {"host": "imap.example.com"}}
    config = parse_config(yaml.safe_dump(text), directory=Path("/nowhere"), environ={}).config
    return await registration_findings(config, proven=proven)


@pytest.mark.parametrize("kind", [google, microsoft, own, own_by_basic, own_by_device])
async def test_a_wrong_secret_is_told_before_anybody_signs_in(
    authorization_server: AuthorizationServer, kind: Any
) -> None:
    section = kind(authorization_server)
    assert await found(section) == ()
    (finding,) = await found(section | {"client_secret": WRONG})
    assert (finding.check, finding.subject, finding.outcome) == ("registration", "it", Outcome.FAILED)
    assert "secret" in finding.detail
    assert WRONG not in finding.detail
    assert "administrat" in finding.told(translation("fr"))


async def test_a_tenant_alone_is_asked_at_its_clouds_own_endpoint(authorization_server: AuthorizationServer) -> None:
    server = authorization_server
    client = {"client_id": MICROSOFT_CLIENT, "client_secret": WRONG, "tenant": TENANT, "cloud": "china"}
    with tunnel(urlsplit(server.url).port or 0) as proxy:
        section = {"kind": "microsoft", **client, "proxy": proxy.url, "ca_file": str(server.authority.ca_file)}
        (finding,) = await found(section)
    assert "secret" in finding.detail
    assert set(proxy.hosts) == {"login.partner.microsoftonline.cn:443"}


async def test_where_a_code_is_typed_in_an_invented_one_is_asked_about(
    authorization_server: AuthorizationServer,
) -> None:
    server, before = authorization_server, len(authorization_server.requests)
    assert await found(own_by_device(server)) == ()
    (asked,) = server.requests[before:]
    assert asked["grant_type"] == "urn:ietf:params:oauth:grant-type:device_code"


async def test_a_wrong_client_id_is_told(authorization_server: AuthorizationServer) -> None:
    (finding,) = await found(own(authorization_server) | {"client_id": "nobody"})
    assert "client_id" in finding.detail


async def test_who_has_proven_to_know_us_is_not_asked(authorization_server: AuthorizationServer) -> None:
    before = authorization_server.count("authorization_code")
    assert await found(own(authorization_server) | {"client_secret": WRONG}, ("it",)) == ()
    assert authorization_server.count("authorization_code") == before


async def test_who_signs_in_without_a_person_or_by_certificate_is_not_asked(
    authorization_server: AuthorizationServer,
) -> None:
    server, before = authorization_server, len(authorization_server.requests)
    app = own(server) | {"flow": "client_credentials", "client_secret": WRONG}
    assert await found(app) == ()
    assert await found(server.certified_config()) == ()
    assert len(server.requests) == before


def error(status: str, error: str, description: str = "") -> bytes:
    return http(json.dumps({"error": error, "error_description": description}).encode(), status)


async def test_microsoft_is_asked_for_a_token_of_the_apps_own(authorization_server: AuthorizationServer) -> None:
    """Microsoft checks the code before the secret: after an invented code it would say nothing about the secret."""
    server, before = authorization_server, len(authorization_server.requests)
    assert await found(microsoft(server)) == ()
    (asked,) = server.requests[before:]
    assert (asked["grant_type"], asked["scope"]) == ("client_credentials", "https://outlook.office365.com/.default")


@pytest.mark.parametrize("tenant", ["common", "Organizations", "consumers", "9188040D-6c67-4c5b-b112-36a304b66dad"])
async def test_in_no_tenant_of_its_own_an_app_has_no_token(
    authorization_server: AuthorizationServer, tenant: str
) -> None:
    server, before = authorization_server, len(authorization_server.requests)
    server.tenants.add(tenant)
    assert await found(server.microsoft_config(tenant=tenant)) == ()
    (asked,) = server.requests[before:]
    assert asked["grant_type"] == "authorization_code"


async def told_by_microsoft(directory: Path, answer: bytes, tenant: str = "contoso.com") -> tuple[Finding, ...]:
    ca_file, context = certificates(directory)
    with serving(answer, ca_file, context) as raw:
        at = f"https://localhost:{raw.port}/{tenant}/oauth2/v2.0"
        urls = {"authorization_url": f"{at}/authorize", "token_url": f"{at}/token", "ca_file": ca_file}
        client = {"client_id": "11111111-2222-3333-4444-555555555555", "client_secret": WRONG, "discovery": False}
        return await found({"kind": "microsoft", **client, **urls})


@pytest.mark.parametrize(
    "answer",
    [
        error("400 Bad Request", "unauthorized_client", "AADSTS7000229: The client application is missing"),
        error("400 Bad Request", "unauthorized_client", "AADSTS53003: Blocked by Conditional Access"),
        error("400 Bad Request", "invalid_resource", "AADSTS500011: The resource principal was not found"),
        error("400 Bad Request", "invalid_client", "AADSTS90033: A transient error has occurred."),
        http(b'{"access_token": "CANARY-of-the-app", "token_type": "Bearer", "expires_in": 3599}'),
    ],
)
async def test_what_an_app_may_not_have_people_may_sign_in_for(tmp_path: Path, answer: bytes) -> None:
    assert await told_by_microsoft(tmp_path, answer) == ()


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (error("401 Unauthorized", "invalid_client", "AADSTS7000215: Invalid client secret provided"), "Value"),
        (error("401 Unauthorized", "invalid_client", "AADSTS7000222: The client secret keys are expired"), "secret"),
        (error("400 Bad Request", "unauthorized_client", "AADSTS700016: Application was not found"), "client_id"),
        (error("400 Bad Request", "unauthorized_client", "AADSTS7000112: Application 'x'(it) is disabled"), "disabled"),
    ],
)
async def test_what_microsoft_says_of_the_app_is_told(tmp_path: Path, answer: bytes, word: str) -> None:
    (finding,) = await told_by_microsoft(tmp_path, answer)
    assert finding.outcome is Outcome.FAILED
    assert word in finding.detail


async def test_in_no_tenant_of_its_own_only_what_is_said_of_the_secret_counts(tmp_path: Path) -> None:
    for said in ("AADSTS700016: Application was not found", "AADSTS7000229: The client application is missing"):
        assert await told_by_microsoft(tmp_path, error("400 Bad Request", "unauthorized_client", said), "common") == ()
    wrong = error("401 Unauthorized", "invalid_client", "AADSTS7000215: Invalid client secret provided")
    (finding,) = await told_by_microsoft(tmp_path, wrong, "common")
    assert "Value" in finding.detail


async def answered(directory: Path, answer: bytes) -> tuple[Finding, ...]:
    ca_file, context = certificates(directory)
    with serving(answer, ca_file, context) as raw:
        urls = {"authorization_url": raw.url, "token_url": raw.url, "ca_file": ca_file}
        client = {"client_id": "it", "client_secret": WRONG, "scopes": ["mail"]}
        findings = await found({"kind": "oauth2", **client, **urls})
        (request,) = raw.requests
    assert b"grant_type=authorization_code" in request
    return findings


PAGE = b"<!doctype html><title>Here</title>"


@pytest.mark.parametrize(
    "answer",
    [
        error("400 Bad Request", "invalid_grant"),
        error("403 Forbidden", "invalid_code"),
        error("400 Bad Request", "invalid_request", f"{WRONG} is malformed"),
        error("400 Bad Request", "invalid_grant", "AADSTS9002313: Invalid request."),
        error("400 Bad Request", "temporarily_unavailable"),
        error("503 Busy", "invalid_client"),
        error("400 Bad Request", "invalid_client", "AADSTS90033: A transient error has occurred."),
        http(json.dumps({"error": {"code": 403, "message": "forbidden"}}).encode(), "403 Forbidden"),
        http(b"", "400 Bad Request"),
        http(b"", "401 Unauthorized"),
        http(PAGE, "400 Bad Request"),
        http(PAGE, "403 Forbidden"),
        http(PAGE, "500 Oops"),
        http(b'{"access_token": "CANARY-of-a-mock", "token_type": "Bearer"}'),
        b"",
    ],
)
async def test_what_says_nothing_of_us_is_no_finding(tmp_path: Path, answer: bytes) -> None:
    assert await answered(tmp_path, answer) == ()


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (http(PAGE), registration.NO_TOKENS),
        (http(PAGE, "404 Not Found"), registration.NO_TOKENS),
        (http(PAGE, "405 Method Not Allowed"), registration.NO_TOKENS),
        (error("404 Not Found", "Realm does not exist"), registration.NO_TOKENS),
        (http(b"", "302 Found", "Location: /login\r\n"), registration.REDIRECTED),
        (error("401 Unauthorized", "invalid_client"), findings.VERBATIM),
        (error("404 Not Found", "invalid_client"), findings.VERBATIM),
        (error("400 Bad Request", "unsupported_grant_type"), findings.VERBATIM),
        (error("401 Unauthorized", "deleted_client"), findings.VERBATIM),
    ],
)
async def test_what_is_wrong_for_every_code_is_told(tmp_path: Path, answer: bytes, sentence: str) -> None:
    (finding,) = await answered(tmp_path, answer)
    assert (finding.outcome, finding.sentence) == (Outcome.FAILED, sentence)


async def test_keycloaks_word_for_a_wrong_secret_leads_to_the_secret(tmp_path: Path) -> None:
    text = "Invalid client or Invalid client credentials"
    (finding,) = await answered(tmp_path, error("401 Unauthorized", "unauthorized_client", text))
    assert "client_secret" in finding.detail


async def test_a_provider_that_is_not_there_is_told_by_the_connection_alone(tmp_path: Path) -> None:
    ca_file, context = certificates(tmp_path)
    with serving(b"", ca_file, context) as raw:
        url = raw.url
    section = {"kind": "oauth2", "client_id": "it", "scopes": ["mail"], "authorization_url": url, "token_url": url}
    assert await found(section | {"ca_file": ca_file}) == ()
