"""Whether Microsoft knows the tenant: asked of its discovery document."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest
import trustme

from bridge.config.load import parse_config
from bridge.control.contract import Finding, Outcome
from bridge.doctor import discovery, findings
from bridge.doctor.discovery import discovery_findings
from tests.doctor.servers import Talk, server_context, serving
from tests.servers.authorization import AuthorizationServer
from tests.servers.authorization_controls import TENANT


async def found(url: str, ca_file: Path) -> Finding:
    text = f"""
providers:
  office:
    kind: microsoft
    client_id: c
    authorization_url: {url}/oauth2/v2.0/authorize
    token_url: {url}/oauth2/v2.0/token
    ca_file: {ca_file}
  gmail: {{kind: google, client_id: c, client_secret: CANARY}}
accounts: [{{address: alice@example.com, provider: office}}]
"""
    config = parse_config(text, directory=Path("/nowhere"), environ={}).config
    (finding,) = await discovery_findings(config)  # Google has no tenant
    assert (finding.check, finding.subject) == ("tenant", "office")
    return finding


async def test_a_tenant_is_known_or_not(authorization_server: AuthorizationServer) -> None:
    server, ca_file = authorization_server, authorization_server.authority.ca_file
    known = await found(f"{server.url}/{TENANT}", ca_file)
    assert (known.outcome, known.sentence) == (Outcome.OK, discovery.ANSWERS)
    unknown = await found(f"{server.url}/contoso.example", ca_file)
    assert (unknown.outcome, unknown.sentence) == (Outcome.FAILED, discovery.UNKNOWN)


def answering(context: ssl.SSLContext, status: str, body: str) -> Talk:
    def talk(sock: socket.socket) -> None:
        with context.wrap_socket(sock, server_side=True) as tls:
            tls.recv(4096)
            tls.sendall(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())

    return talk


@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
        ("200 OK", "{}", discovery.ODD),
        ("404 Not Found", '{"error": "else"}', discovery.ODD),
        ("403 Forbidden", '{"error": {"code": 403}}', discovery.ODD),
        ("200 OK", "<html>Please log in to the hotel</html>", findings.VERBATIM),
        ("503 Busy", "{}", findings.VERBATIM),
    ],
)
async def test_what_is_no_discovery_document_is_not_ok(tmp_path: Path, status: str, body: str, sentence: str) -> None:
    authority = trustme.CA()
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    with serving(answering(server_context(authority), status, body)) as port:
        finding = await found(f"https://localhost:{port}/contoso.com", ca_file)
    assert (finding.outcome, finding.sentence) == (Outcome.FAILED, sentence)
