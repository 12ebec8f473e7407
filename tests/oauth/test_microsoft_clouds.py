"""Microsoft's clouds by their own host names: the real msal, through a proxy that directs them all to our server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import pytest

from bridge.clock import SystemClock
from bridge.config.endpoints import effective_endpoint
from bridge.config.microsoft import MicrosoftProvider
from bridge.errors import ProviderRefused
from bridge.model import Protocol, TokenSet
from bridge.oauth import registry
from bridge.oauth.base import BrowserProvider, DeviceProvider, Provider
from bridge.secret import Secret
from tests.servers.authorization import AuthorizationServer
from tests.servers.authorization_controls import CLOUD_HOSTS, MICROSOFT_CLIENT, PUBLIC_CLIENT, REDIRECT, TENANT
from tests.servers.tunnel import Tunnel, tunnel

ALICE = "alice@example.com"
PUBLIC = [
    "https://outlook.office.com/" + right for right in ("IMAP.AccessAsUser.All", "POP.AccessAsUser.All", "SMTP.Send")
]

CLOUDS: dict[str, tuple[str, list[str], str, tuple[str, str]]] = {
    "public": (
        "login.microsoftonline.com",
        PUBLIC,
        "https://outlook.office365.com/.default",
        ("outlook.office365.com", "smtp.office365.com"),
    ),
    "us-gov": (
        "login.microsoftonline.us",
        ["https://outlook.office365.us/.default"],
        "https://outlook.office365.us/.default",
        ("outlook.office365.us", "smtp.office365.us"),
    ),
    "us-dod": (
        "login.microsoftonline.us",
        ["https://outlook-dod.office365.us/.default"],
        "https://outlook-dod.office365.us/.default",
        ("outlook-dod.office365.us", "outlook-dod.office365.us"),
    ),
    "china": (
        "login.partner.microsoftonline.cn",
        ["https://partner.outlook.cn/.default"],
        "https://partner.outlook.cn/.default",
        ("partner.outlook.cn", "smtp.partner.outlook.cn"),
    ),
}
"""For each cloud: sign-in host, a person's scopes, the app's scope, mail servers for IMAP and SMTP."""

OF_MSAL = {"openid", "profile", "offline_access"}


@pytest.fixture
def proxy(authorization_server: AuthorizationServer) -> Iterator[Tunnel]:
    with tunnel(urlsplit(authorization_server.url).port or 0) as running:
        yield running


@asynccontextmanager
async def adapter(server: AuthorizationServer, proxy: Tunnel, **keys: Any) -> AsyncIterator[Provider]:
    section = {"kind": "microsoft", "proxy": proxy.url, "ca_file": str(server.authority.ca_file), **keys}
    config = MicrosoftProvider.model_validate(section)
    provider = registry.create("trial", config, SystemClock())
    try:
        yield provider
    finally:
        await provider.close()


@pytest.mark.parametrize("cloud", CLOUDS)
async def test_a_browser_is_sent_to_its_cloud_and_asked_for_its_scopes(
    authorization_server: AuthorizationServer, proxy: Tunnel, cloud: str
) -> None:
    host, scopes, _, _ = CLOUDS[cloud]
    keys = {"client_id": PUBLIC_CLIENT, "tenant": TENANT, "cloud": cloud}
    async with adapter(authorization_server, proxy, **keys) as provider:
        assert isinstance(provider, BrowserProvider)
        request = await provider.begin(login_hint=ALICE, redirect_uri=REDIRECT)
        url = urlsplit(request.url)
        assert (url.scheme, url.netloc, url.path) == ("https", host, f"/{TENANT}/oauth2/v2.0/authorize")
        assert set(parse_qs(url.query)["scope"][0].split()) == {*scopes, *OF_MSAL}
        local = request.url.replace(f"https://{host}", authorization_server.url)
        tokens = await provider.redeem(request, authorization_server.consent(local, ALICE))
        assert (await provider.refresh(tokens.grant, subject=ALICE)).grant
    assert set(proxy.hosts) == {f"{host}:443"}


@pytest.mark.parametrize("cloud", CLOUDS)
async def test_a_code_comes_from_its_cloud(
    authorization_server: AuthorizationServer, proxy: Tunnel, cloud: str
) -> None:
    host, scopes, _, _ = CLOUDS[cloud]
    keys = {"client_id": PUBLIC_CLIENT, "tenant": TENANT, "cloud": cloud, "flow": "device"}
    async with adapter(authorization_server, proxy, **keys) as provider:
        assert isinstance(provider, DeviceProvider)
        request = await provider.begin_device()
        authorization_server.approve_device(request.user_code, ALICE)
        assert isinstance(await provider.poll(request), TokenSet)
    [asked] = [asked for asked in authorization_server.requests if asked["kind"] == "device"]
    assert set(asked["scope"].split()) == {*scopes, *OF_MSAL}
    assert set(proxy.hosts) == {f"{host}:443"}


@pytest.mark.parametrize("cloud", CLOUDS)
async def test_an_app_asks_its_cloud_for_all_that_it_was_given(
    authorization_server: AuthorizationServer, proxy: Tunnel, cloud: str
) -> None:
    host, _, scope, _ = CLOUDS[cloud]
    authorization_server.apps[MICROSOFT_CLIENT] = {ALICE}
    secret = authorization_server.clients[MICROSOFT_CLIENT].secret
    keys = {"client_id": MICROSOFT_CLIENT, "client_secret": secret, "tenant": TENANT, "cloud": cloud}
    async with adapter(authorization_server, proxy, flow="client_credentials", **keys) as provider:
        await provider.refresh(Secret(""), subject=ALICE)
    [asked] = [asked for asked in authorization_server.requests if asked["kind"] == "token"]
    assert asked["scope"] == scope
    assert set(proxy.hosts) == {f"{host}:443"}


@pytest.mark.parametrize("cloud", CLOUDS)
def test_its_mail_servers_are_its_own(cloud: str) -> None:
    keys = {"kind": "microsoft", "client_id": "id", "tenant": TENANT, "cloud": cloud}
    config = MicrosoftProvider.model_validate(keys)
    ends = [effective_endpoint(config, protocol) for protocol in (Protocol.IMAP, Protocol.SMTP)]
    assert tuple(end.host for end in ends if end is not None) == CLOUDS[cloud][3]


@pytest.mark.parametrize("country", ["fr", "de", "sg"])
def test_no_token_of_a_cloud_whose_mail_servers_are_unknown_goes_to_those_of_another(country: str) -> None:
    at = f"https://login.sovcloud-identity.{country}/{TENANT}/oauth2/v2.0"
    urls = {"authorization_url": f"{at}/authorize", "token_url": f"{at}/token"}
    keys = {"kind": "microsoft", "client_id": "id", "imap": {"host": "outlook.sovcloud.example"}, **urls}
    config = MicrosoftProvider.model_validate(keys)
    ends = {protocol: effective_endpoint(config, protocol) for protocol in Protocol}
    assert [(protocol, end.host) for protocol, end in ends.items() if end] == [
        (Protocol.IMAP, "outlook.sovcloud.example")
    ]


@pytest.mark.parametrize("host", CLOUD_HOSTS)
async def test_every_sign_in_host_of_microsofts_is_known_by_its_urls_too(
    authorization_server: AuthorizationServer, proxy: Tunnel, host: str
) -> None:
    """Also the national clouds of France, Germany and Singapore, for which the admin configures the mail servers."""
    urls = {
        name: f"https://{host}/{TENANT}/oauth2/v2.0/{leaf}"
        for name, leaf in (("authorization_url", "authorize"), ("token_url", "token"))
    }
    async with adapter(authorization_server, proxy, client_id=PUBLIC_CLIENT, **urls) as provider:
        request = await cast(BrowserProvider, provider).begin(login_hint="", redirect_uri=REDIRECT)
        assert urlsplit(request.url).netloc == host
    assert proxy.hosts == [f"{host}:443"]


async def test_a_host_that_is_not_microsofts_is_not_even_asked(
    authorization_server: AuthorizationServer, proxy: Tunnel
) -> None:
    urls = {
        name: f"https://login.microsoftonline.example/{TENANT}/oauth2/v2.0/{leaf}"
        for name, leaf in (("authorization_url", "authorize"), ("token_url", "token"))
    }
    async with adapter(authorization_server, proxy, client_id=PUBLIC_CLIENT, **urls) as provider:
        with pytest.raises(ProviderRefused, match="not one of Microsoft's sign-in hosts"):
            await cast(BrowserProvider, provider).begin(login_hint="", redirect_uri=REDIRECT)
    assert proxy.hosts == []
