"""Mail servers: those of a preset, and those that the configuration gives instead."""

from __future__ import annotations

import pytest

from bridge.config.endpoints import effective_endpoint
from bridge.config.generic import GenericProvider
from bridge.config.google import GoogleProvider
from bridge.config.microsoft import MicrosoftProvider
from bridge.config.provider import EndpointOverride
from bridge.config.providers import ProviderConfig
from bridge.model import Endpoint, Protocol, TlsMode
from bridge.secret import Secret

GOOGLE = GoogleProvider(kind="google", client_id="id", client_secret=Secret("CANARY"))
MICROSOFT = MicrosoftProvider(kind="microsoft", client_id="id", tenant="contoso.com")
GENERIC = GenericProvider(
    kind="oauth2",
    client_id="id",
    authorization_url="https://idp.example/a",
    token_url="https://idp.example/t",
    scopes=("mail",),
)
IMPLICIT, STARTTLS = TlsMode.IMPLICIT, TlsMode.STARTTLS


def endpoint(provider: ProviderConfig, protocol: Protocol, **override: object) -> Endpoint | None:
    changes = {protocol.value: EndpointOverride.model_validate(override)} if override else {}
    return effective_endpoint(provider.model_copy(update=changes), protocol)


@pytest.mark.parametrize(
    ("provider", "protocol", "where", "connections"),
    [
        (GOOGLE, Protocol.IMAP, ("imap.gmail.com", 993, IMPLICIT), 15),
        (GOOGLE, Protocol.POP3, ("pop.gmail.com", 995, IMPLICIT), None),
        (GOOGLE, Protocol.SMTP, ("smtp.gmail.com", 465, IMPLICIT), None),
        (MICROSOFT, Protocol.IMAP, ("outlook.office365.com", 993, IMPLICIT), None),
        (MICROSOFT, Protocol.POP3, ("outlook.office365.com", 995, IMPLICIT), None),
        (MICROSOFT, Protocol.SMTP, ("smtp.office365.com", 587, STARTTLS), 3),
    ],
)
def test_a_preset_knows_the_server_and_its_limit_on_connections(
    provider: ProviderConfig, protocol: Protocol, where: tuple[str, int, TlsMode], connections: int | None
) -> None:
    found = endpoint(provider, protocol)
    assert found is not None
    assert (found.host, found.port, found.tls) == where
    assert found.connections == connections
    assert (found.extensions is not None) == (protocol is not Protocol.POP3)


@pytest.mark.parametrize(
    ("provider", "protocol", "override", "port", "tls"),
    [
        (GENERIC, Protocol.IMAP, {}, 993, IMPLICIT),
        (GENERIC, Protocol.IMAP, {"tls": "starttls"}, 143, STARTTLS),
        (GENERIC, Protocol.POP3, {"tls": "starttls"}, 110, STARTTLS),
        (GENERIC, Protocol.SMTP, {}, 465, IMPLICIT),
        (GENERIC, Protocol.SMTP, {"port": 587}, 587, STARTTLS),
        (GENERIC, Protocol.SMTP, {"port": 2525}, 2525, IMPLICIT),
        (GENERIC, Protocol.SMTP, {"port": 587, "tls": "implicit"}, 587, IMPLICIT),
        (MICROSOFT, Protocol.SMTP, {}, 587, STARTTLS),
        (MICROSOFT, Protocol.SMTP, {"port": 25}, 25, STARTTLS),
        (GOOGLE, Protocol.SMTP, {"tls": "starttls"}, 587, STARTTLS),
    ],
)
def test_the_default_port_follows_the_tls_mode(
    provider: ProviderConfig, protocol: Protocol, override: dict[str, object], port: int, tls: TlsMode
) -> None:
    found = endpoint(provider, protocol, host="mail.example.com", **override)
    assert found == Endpoint("mail.example.com", port, tls)


def test_of_another_host_nothing_is_known() -> None:
    for protocol in Protocol:
        found = endpoint(MICROSOFT, protocol, host="exchange.contoso.com")
        assert found is not None
        assert (found.extensions, found.connections) == (None, None)


def test_of_the_same_host_everything_is_still_known() -> None:
    preset = endpoint(MICROSOFT, Protocol.SMTP)
    assert endpoint(MICROSOFT, Protocol.SMTP, host="SMTP.Office365.com") == preset
    other_port = endpoint(MICROSOFT, Protocol.SMTP, port=25)
    assert other_port is not None
    assert preset is not None
    assert (other_port.connections, other_port.extensions) == (3, preset.extensions)


def test_without_a_host_there_is_no_server() -> None:
    assert all(effective_endpoint(GENERIC, protocol) is None for protocol in Protocol)
    assert endpoint(GENERIC, Protocol.IMAP, port=993) is None


def test_the_providers_ca_file_is_for_its_mail_servers_too() -> None:
    provider = GOOGLE.model_copy(update={"ca_file": "/etc/company.pem"})
    found = effective_endpoint(provider, Protocol.IMAP)
    assert found is not None
    assert found.ca_file == "/etc/company.pem"
