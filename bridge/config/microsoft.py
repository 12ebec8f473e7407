"""Microsoft as configured: tenant or URLs, cloud, secret or certificate, and what goes together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationInfo, field_validator, model_validator

from bridge.advice.said import Said, said
from bridge.config.presets import CLOUDS, MICROSOFT_AUTHORITY_HOST, NATIONAL_HOSTS, Cloud, CloudPreset
from bridge.config.provider import Flow, GrantIdentity, Provider, only, unwanted
from bridge.config.values import BadValue, FilePath, HttpsUrl
from bridge.model import Endpoint, Mechanism, Protocol

_V2 = re.compile(r"/([^/]+)/oauth2/v2\.0/(authorize|token)/?")
_V1 = re.compile(r"/([^/]+)/oauth2/(authorize|token)/?")
_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*")
GUID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
SIGN_IN_SCOPES = frozenset({"openid", "profile", "offline_access", "email"})
"""Scopes that belong to no service and go with those of any."""
MSAL_SCOPES = frozenset({"openid", "profile", "offline_access"})
"""msal adds these itself, and raises ValueError when it is given one."""
SHARED_TENANTS = frozenset({"common", "organizations", "consumers", "9188040d-6c67-4c5b-b112-36a304b66dad"})
"""Tenant names that let in people of any organization, or private persons; the GUID is that of `consumers`, which
their ID tokens name."""


class MicrosoftProvider(Provider):
    """Office 365, Exchange Online and Outlook.com, with an app registration in Entra."""

    kind: Literal["microsoft"]
    tenant: str | None = Field(None, description="GUID or domain of the tenant: the short form of the two URLs.")
    authorization_url: HttpsUrl | None = Field(
        None, description="OAuth 2.0 authorization endpoint (v2), as the portal's Endpoints page shows it."
    )
    token_url: HttpsUrl | None = Field(None, description="OAuth 2.0 token endpoint (v2), from the same page.")
    cloud: Cloud | None = Field(None, description="Which of Microsoft's clouds; the URLs tell, else public.")
    client_certificate: FilePath | None = Field(
        None, description="PEM file: the certificate uploaded to the app, in place of client_secret."
    )
    client_certificate_key: FilePath | None = Field(
        None, description="PEM file: its private key, without a password; by default in client_certificate too."
    )
    discovery: bool = Field(
        True, description="False for a host that is not one of Microsoft's: its address is then taken as it is."
    )

    @property
    def authority(self) -> str:
        """`https://host/tenant`, as msal wants it."""
        if self.tenant is not None:
            return f"https://{self._preset.authority_host}/{self.tenant}"
        url = urlsplit(self.authorization_url or "")
        match = _V2.fullmatch(url.path)
        assert match is not None  # noqa: S101  checked by _one_tenant
        return f"https://{url.netloc.lower()}/{match[1]}"

    @property
    def effective_cloud(self) -> Cloud:
        """As configured, or derived from the host of the URLs."""
        host = urlsplit(self.authorization_url or "").netloc.lower()
        guess = (cloud for cloud, preset in CLOUDS.items() if preset.authority_host == host)
        return self.cloud or next(guess, Cloud.PUBLIC)

    @property
    def effective_scopes(self) -> tuple[str, ...]:
        """The scopes to request; those that msal adds itself need not be among them."""
        app_only = self.flow is Flow.CLIENT_CREDENTIALS
        return self.scopes or ((self._preset.app_scope,) if app_only else self._preset.scopes)

    @property
    def servers(self) -> Mapping[Protocol, Endpoint]:
        """The mail servers of its cloud; none where we know none, because its tokens are not for another cloud's."""
        is_national = self.cloud is None and urlsplit(self.authority).hostname in NATIONAL_HOSTS
        return {} if is_national else self._preset.servers

    @property
    def mechanism(self) -> Mechanism:
        """How a token is shown to the mail servers: Exchange does not support OAUTHBEARER."""
        return Mechanism.XOAUTH2

    @property
    def grant_identity(self) -> GrantIdentity:
        """What a stored sign-in depends on."""
        return *self.client_identity, *sorted(set(self.effective_scopes) - MSAL_SCOPES)

    @property
    def client_identity(self) -> GrantIdentity:
        """The same without the scopes."""
        return self.kind, self.client_id, self.authority.lower(), self.flow.is_unattended

    @property
    def _preset(self) -> CloudPreset:
        return CLOUDS[self.effective_cloud]

    @field_validator("tenant")
    @classmethod
    def _is_tenant(cls, tenant: str | None) -> str | None:
        if tenant is not None and "://" in tenant:
            raise BadValue(
                said("a URL belongs under `authorization_url` or `token_url`; the tenant is its GUID or its domain")
            )
        if tenant is not None and not _is_whole(tenant.strip()):
            raise BadValue(
                said("{tenant} is not the GUID or the domain of a tenant", tenant=repr(tenant)),
                said("is not the GUID or the domain of a tenant"),
            )
        return tenant and tenant.strip()

    @field_validator("authorization_url", "token_url")
    @classmethod
    def _is_v2(cls, url: str | None, info: ValidationInfo) -> str | None:
        if url is not None:
            _microsoft_endpoint("authorize" if info.field_name == "authorization_url" else "token", url)
        return url

    @field_validator("scopes")
    @classmethod
    def _one_audience(cls, scopes: tuple[str, ...] | None) -> tuple[str, ...] | None:
        hosts = {urlsplit(scope).netloc for scope in scopes or () if "://" in scope}
        bare = [scope for scope in scopes or () if "://" not in scope and scope not in SIGN_IN_SCOPES]
        if bare or len(hosts) > 1 or "graph.microsoft.com" in hosts:
            sentence = said(
                "a token is valid for one service only, and mail servers refuse one for another service; use only "
                "scopes such as https://outlook.office.com/IMAP.AccessAsUser.All"
            )
            quoting = Said("{names}: {sentence}", (("names", ", ".join(bare or sorted(hosts))), ("sentence", sentence)))
            raise BadValue(quoting, sentence)
        return scopes

    @model_validator(mode="after")
    def _one_tenant(self) -> MicrosoftProvider:
        urls = {"authorization_url": self.authorization_url, "token_url": self.token_url}
        if self.tenant is not None:
            if any(urls.values()):
                raise BadValue(said("give either `tenant` or the two URLs, not both"))
            return self
        missing = [key for key, url in urls.items() if not url]
        if missing:
            keys = ", ".join(missing)
            raise BadValue(said("give `tenant`, or both URLs as the portal shows them (missing: {keys})", keys=keys))
        if len({_microsoft_endpoint(leaf, url or "") for leaf, url in zip(_LEAVES, urls.values(), strict=True)}) > 1:
            raise BadValue(said("authorization_url and token_url name different hosts or tenants"))
        return self

    @model_validator(mode="after")
    def _fits_its_flow(self) -> MicrosoftProvider:
        only(
            self.flow, Flow.BROWSER, Flow.DEVICE, Flow.CLIENT_CREDENTIALS, why=said("only Google has service accounts")
        )
        if self.client_certificate is None:
            unwanted(self, "client_certificate_key", why=said("it belongs to `client_certificate`"))
        elif self.client_secret is not None:
            raise BadValue(said("give either `client_secret` or `client_certificate`, not both"))
        if self.flow is Flow.DEVICE:
            why = said("Microsoft lets only public clients use `flow: device`")
            unwanted(self, "client_secret", "client_certificate", why=why)
        if self.flow is not Flow.CLIENT_CREDENTIALS:
            return self
        if self.client_secret is None and self.client_certificate is None:
            raise BadValue(said("`flow: client_credentials` needs `client_secret` or `client_certificate`"))
        if self.authority.rsplit("/", 1)[-1].lower() in SHARED_TENANTS:
            raise BadValue(said("`flow: client_credentials` needs the tenant's own GUID or domain"))
        if any(not scope.endswith("/.default") for scope in self.scopes or ()):
            scope = self._preset.app_scope
            raise BadValue(said("with `flow: client_credentials` the only scope is {scope}", scope=scope))
        return self


def _is_whole(tenant: str) -> bool:
    """A GUID, a domain, or one of Microsoft's words: `contoso` alone is no tenant."""
    return bool(_TENANT.fullmatch(tenant)) and (
        "." in tenant or bool(GUID.fullmatch(tenant)) or tenant in SHARED_TENANTS
    )


_LEAVES = ("authorize", "token")


def _microsoft_endpoint(leaf: str, value: str) -> tuple[str, str]:
    """Host and tenant of a v2 endpoint; ValueError says what is wrong with it and what to use."""
    url = urlsplit(value)
    match = _V2.fullmatch(url.path)
    if match is None and (old := _V1.fullmatch(url.path)):
        raise BadValue(
            said(
                "this is a v1 endpoint; use the v2 one: {url}",
                url=f"{url.scheme}://{url.netloc}/{old[1]}/oauth2/v2.0/{leaf}",
            ),
            said("this is a v1 endpoint; use the v2 one, which ends in {path}", path=f"/oauth2/v2.0/{leaf}"),
        )
    if match is not None and match[2] != leaf:
        raise BadValue(said("this is the other endpoint; it must end in /oauth2/v2.0/{leaf}", leaf=leaf))
    if url.scheme != "https" or match is None or url.query or url.fragment:
        example = f"https://{MICROSOFT_AUTHORITY_HOST}/<tenant>/oauth2/v2.0/{leaf}"
        raise BadValue(said("must look like {example}", example=example))
    if not _TENANT.fullmatch(match[1]):
        raise BadValue(
            said("put your tenant's id in place of {text}", text=match[1]), said("put your tenant's id into the URL")
        )
    return url.netloc.lower(), match[1].lower()
