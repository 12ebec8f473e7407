"""The provider's sign-in page, requested as a browser would: only a refusal that everybody would get is reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge.config.load import parse_config
from bridge.control.contract import Finding, Outcome
from bridge.doctor.authorization import authorization_findings
from bridge.ui.i18n import translation
from tests.oauth.raw import certificates, http, serving
from tests.servers.authorization import AuthorizationServer

Section = dict[str, Any]


async def found(section: Section, proven: tuple[str, ...] = ()) -> tuple[Finding, ...]:
    if section["kind"] == "oauth2":
        section = section | {"imap": {"host": "imap.example.com"}}
    text = {"providers": {"it": section}, "accounts": [{"address": "alice@example.com", "provider": "it"}]}
    config = parse_config(yaml.safe_dump(text), directory=Path("/nowhere"), environ={}).config
    return await authorization_findings(config, proven=proven)


@pytest.mark.parametrize("registered", ["http://localhost:3017", "http://127.0.0.1:3017/", "https://localhost:3017/"])
async def test_a_redirect_uri_that_is_not_registered_is_told_before_anybody_signs_in(
    authorization_server: AuthorizationServer, registered: str
) -> None:
    section = authorization_server.generic_config()
    assert await found(section) == ()
    authorization_server.clients[section["client_id"]].redirect_uris = {registered}
    (finding,) = await found(section)
    assert (finding.check, finding.subject, finding.outcome) == ("registration", "it", Outcome.FAILED)
    assert "redirect URI http://localhost:3017/ is not what the provider has registered" in finding.detail
    assert "`authorization_url`" in finding.told(translation("fr"))


async def test_a_wrong_client_id_and_a_wrong_address_of_the_page_are_told(
    authorization_server: AuthorizationServer,
) -> None:
    section = authorization_server.generic_config()
    (finding,) = await found(section | {"client_id": "nobody"})
    assert "`client_id`" in finding.detail
    (finding,) = await found(section | {"authorization_url": f"{authorization_server.url}/authorise"})
    assert f"{authorization_server.url}/authorise does not let a sign-in begin (HTTP 404)" in finding.detail


async def test_nobody_else_is_asked(authorization_server: AuthorizationServer) -> None:
    server = authorization_server
    for client in server.clients.values():
        client.redirect_uris.clear()
    before, own = len(server.requests), server.generic_config()
    device = server.generic_config() | {"flow": "device", "device_url": f"{server.url}/device/code"}
    assert await found(own, proven=("it",)) == ()
    for section in (server.google_config(), server.microsoft_config(), device):
        assert await found(section) == ()
    assert len(server.requests) == before


PAGE = b"<!doctype html><title>Here</title>"


async def answered(directory: Path, answer: bytes) -> tuple[Finding, ...]:
    ca_file, context = certificates(directory)
    with serving(answer, ca_file, context) as raw:
        urls = {"authorization_url": raw.url, "token_url": raw.url, "ca_file": ca_file}
        findings = await found({"kind": "oauth2", "client_id": "it", "scopes": ["mail"], **urls})
        (request,) = raw.requests
    assert request.startswith(b"GET /token?response_type=code&client_id=it&")
    return findings


@pytest.mark.parametrize(
    "answer",
    [
        http(PAGE),
        http(b"", "303 See Other", "Location: /login\r\n"),
        http(b"", "302 Found", "Location: https://login.example.com/\r\n"),
        http(b"", "302 Found", "Location: http://localhost:3017/?error=login_required\r\n"),
        http(PAGE, "401 Unauthorized"),
        http(b'{"error": "login_required"}', "401 Unauthorized"),
        http(b'{"error": "access_denied"}', "403 Forbidden"),
        http(b'{"error": "invalid_client"}', "503 Busy"),
        http(PAGE, "403 Forbidden"),
        http(PAGE, "405 Method Not Allowed", "x-amzn-waf-action: captcha\r\n"),
        http(PAGE, "429 Too Many Requests"),
        http(PAGE, "500 Oops"),
        b"",
    ],
)
async def test_a_page_or_a_redirect_and_what_may_be_about_this_program_alone_is_no_finding(
    tmp_path: Path, answer: bytes
) -> None:
    assert await answered(tmp_path, answer) == ()


@pytest.mark.parametrize("status", ["400 Bad Request", "404 Not Found", "405 Not Allowed", "422 Unprocessable Content"])
async def test_what_is_wrong_for_every_browser_is_told(tmp_path: Path, status: str) -> None:
    (finding,) = await answered(tmp_path, http(PAGE, status))
    assert f"(HTTP {status[:3]})" in finding.detail
    # A firewall may give programs, and only them, the same answer.
    assert "if it lets people sign in there, it only turns programs away, and nothing is wrong" in finding.detail


async def test_what_is_said_of_the_client_outright_is_told_with_any_status(tmp_path: Path) -> None:
    """As league/oauth2-server does: it says `invalid_client` also where only the redirect URI is another one."""
    (finding,) = await answered(tmp_path, http(b'{"error": "invalid_client"}', "401 Unauthorized"))
    assert "(HTTP 401)" in finding.detail


async def test_a_scope_that_is_not_known_is_no_redirect_uris_fault_alone(tmp_path: Path) -> None:
    (finding,) = await answered(tmp_path, http(b'{"error": "invalid_scope"}', "400 Bad Request"))
    assert "`scopes`" in finding.detail
    assert "`scopes`" in finding.told(translation("fr"))
