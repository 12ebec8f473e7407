"""`preset:` of `kind: oauth2`: ten lines are a whole configuration, and these are the values behind each preset."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from bridge.clock import SystemClock
from bridge.config.endpoints import effective_endpoint
from bridge.config.generic import ClientAuthentication, GenericProvider
from bridge.config.load import parse_config
from bridge.config.presets import OAUTH2_PRESETS, OAUTH2_SERVERS, OAuth2Preset
from bridge.config.provider import Flow
from bridge.errors import ConfigError
from bridge.model import Endpoint, Mechanism, Protocol, TlsMode
from bridge.oauth import registry
from bridge.oauth.base import BrowserProvider

TEN_LINES = """\
# yaml-language-server: $schema=./config.schema.json
providers:
  theirs:
    kind: oauth2
    preset: {preset}
    client_id: mail-bridge
    client_secret: text{more}
accounts:
  - address: alice@example.com
    provider: theirs
"""

YAHOO, AOL, FASTMAIL, YANDEX = OAuth2Preset.YAHOO, OAuth2Preset.AOL, OAuth2Preset.FASTMAIL, OAuth2Preset.YANDEX
HOSTS = {
    YAHOO: ("imap.mail.yahoo.com", "pop.mail.yahoo.com", "smtp.mail.yahoo.com"),
    AOL: ("imap.aol.com", "pop.aol.com", "smtp.aol.com"),
    FASTMAIL: ("imap.fastmail.com", "pop.fastmail.com", "smtp.fastmail.com"),
    YANDEX: ("imap.yandex.com", "pop.yandex.com", "smtp.yandex.com"),
}
URLS = {
    YAHOO: ("https://api.login.yahoo.com/oauth2/request_auth", "https://api.login.yahoo.com/oauth2/get_token"),
    AOL: ("https://api.login.aol.com/oauth2/request_auth", "https://api.login.aol.com/oauth2/get_token"),
    FASTMAIL: ("https://api.fastmail.com/oauth/authorize", "https://api.fastmail.com/oauth/refresh"),
    YANDEX: ("https://oauth.yandex.com/authorize", "https://oauth.yandex.com/token"),
}
SCOPES = {
    YAHOO: ("mail-w",),
    AOL: ("mail-w",),
    FASTMAIL: tuple(f"https://www.fastmail.com/dev/protocol-{name}" for name in ("imap", "pop", "smtp")),
    YANDEX: ("mail:imap_full", "mail:smtp"),
}
BASIC = {YAHOO, AOL}


def provider_of(preset: OAuth2Preset, *more: str) -> GenericProvider:
    text = TEN_LINES.format(preset=preset.value, more="".join(f"\n    {line}" for line in more))
    found = parse_config(text, directory=Path("/nowhere"), environ={}).config.providers["theirs"]
    assert isinstance(found, GenericProvider)
    return found


def test_the_presets_are_these_and_zoho_is_none_of_them() -> None:
    """Zoho's mail servers offered only passwords when we looked: a preset would promise a log-in that nobody has seen
    work."""
    assert {preset.value for preset in OAuth2Preset} == {"yahoo", "aol", "fastmail", "yandex"}
    assert set(OAUTH2_PRESETS) == set(OAUTH2_SERVERS) == set(OAuth2Preset) == set(HOSTS)
    with pytest.raises(ConfigError):
        parse_config(TEN_LINES.format(preset="zoho", more=""), directory=Path("/nowhere"), environ={})


@pytest.mark.parametrize("preset", list(OAuth2Preset))
def test_ten_lines_lead_to_the_right_mail_servers(preset: OAuth2Preset) -> None:
    provider = provider_of(preset)
    for protocol, host, port in zip(Protocol, HOSTS[preset], (993, 995, 465), strict=True):
        assert effective_endpoint(provider, protocol) == Endpoint(host, port, TlsMode.IMPLICIT)


@pytest.mark.parametrize("preset", list(OAuth2Preset))
async def test_ten_lines_lead_to_the_right_sign_in(preset: OAuth2Preset) -> None:
    config = provider_of(preset)
    assert (config.authorization_url, config.token_url) == URLS[preset]
    assert config.effective_scopes == SCOPES[preset]
    assert config.flow is Flow.BROWSER
    assert config.sasl is Mechanism.XOAUTH2
    assert config.pkce
    assert (config.client_authentication is ClientAuthentication.BASIC) == (preset in BASIC)
    provider = registry.create("theirs", config, SystemClock())
    assert isinstance(provider, BrowserProvider)
    request = await provider.begin(login_hint="alice@example.com", redirect_uri="http://localhost:3017/")
    await provider.close()
    url = urlsplit(request.url)
    assert f"{url.scheme}://{url.netloc}{url.path}" == URLS[preset][0]
    assert parse_qs(url.query)["scope"] == [" ".join(SCOPES[preset])]


@pytest.mark.parametrize("preset", list(OAuth2Preset))
def test_what_the_file_says_wins(preset: OAuth2Preset) -> None:
    provider = provider_of(
        preset,
        "scopes: [mail-r]",
        "sasl: oauthbearer",
        "client_authentication: body",
        "smtp: {port: 587}",
        "imap: {host: mail.example.com}",
    )
    assert provider.effective_scopes == ("mail-r",)
    assert provider.client_authentication is ClientAuthentication.BODY
    smtp = effective_endpoint(provider, Protocol.SMTP)
    assert smtp == Endpoint(HOSTS[preset][2], 587, TlsMode.STARTTLS, mechanism=Mechanism.OAUTHBEARER)
    imap = effective_endpoint(provider, Protocol.IMAP)
    assert imap == Endpoint("mail.example.com", 993, TlsMode.IMPLICIT, mechanism=Mechanism.OAUTHBEARER)
    assert provider.token_url == URLS[preset][1]


@pytest.mark.parametrize("preset", list(OAuth2Preset))
def test_a_client_without_a_secret_is_public(preset: OAuth2Preset) -> None:
    text = TEN_LINES.format(preset=preset.value, more="").replace("    client_secret: text\n", "")
    found = parse_config(text, directory=Path("/nowhere"), environ={}).config.providers["theirs"]
    assert found.client_secret is None
