"""Who issues tokens, as configured: one model for each `kind`, with what each flow needs and what goes together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Annotated, Any, Literal, NoReturn
from urllib.parse import urlsplit

from pydantic import (
    Field,
    GetJsonSchemaHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import CoreSchema, InitErrorDetails

from bridge.advice.said import Said, said
from bridge.config.presets import (
    CLOUDS,
    GOOGLE_AUTHORIZATION_URL,
    GOOGLE_MAIL_SCOPE,
    GOOGLE_REVOCATION_URL,
    GOOGLE_SCOPES,
    GOOGLE_SERVERS,
    GOOGLE_TOKEN_URL,
    MICROSOFT_AUTHORITY_HOST,
    OAUTH2_PRESETS,
    OAUTH2_SERVERS,
    Cloud,
    CloudPreset,
    OAuth2Preset,
)
from bridge.config.values import (
    BadValue,
    Day,
    FilePath,
    HostName,
    HttpsUrl,
    Name,
    Part,
    ProxyUrl,
    SecretText,
    both,
    either,
)
from bridge.model import Endpoint, Mechanism, Protocol, TlsMode


class EndpointOverride(Part):
    """Parts of an upstream mail server that differ from the provider's preset."""

    host: HostName | None = Field(None, description="Name of the mail server; its certificate must carry it.")
    port: int | None = Field(None, ge=1, le=65535)
    tls: TlsMode | None = Field(None, description="implicit (TLS from the first byte) or starttls")


class Flow(str, Enum):
    """How a token is obtained."""

    BROWSER = "browser"
    """A person signs in, in a browser that comes back to us (RFC 6749 section 4.1 with RFC 7636)."""
    DEVICE = "device"
    """A person types a code into any browser anywhere (RFC 8628)."""
    CLIENT_CREDENTIALS = "client_credentials"
    """Nobody signs in: the app itself may open mailboxes (RFC 6749 section 4.4)."""
    SERVICE_ACCOUNT = "service_account"
    """Nobody signs in: a Google service account acts for each mailbox (RFC 7523, domain-wide delegation)."""

    @property
    def is_unattended(self) -> bool:
        """True if nobody signs in."""
        return self in {Flow.CLIENT_CREDENTIALS, Flow.SERVICE_ACCOUNT}


GrantIdentity = tuple[object, ...]
"""What a stored sign-in depends on: it is of no use any more exactly when this changes. JSON can write it."""


class _Provider(Part):
    """What all kinds of provider have."""

    client_id: Name = Field(description="The id that the provider gave to your app registration.")
    client_secret: SecretText | None = Field(
        None, description="Its secret: ${ENV}, ${file:path}, ${keyring:name} or the text itself."
    )
    client_secret_expires: Day | None = Field(
        None, description="Last day of client_secret (or of the certificate), such as 2027-01-31; warned of in time."
    )
    scopes: tuple[Name, ...] | None = Field(None, min_length=1, description="Scopes to ask for, instead of the preset.")
    redirect_uri: HttpsUrl = Field(
        "http://localhost:3017/",
        description="Where the browser comes back to, exactly as registered; by default the console at localhost.",
    )
    flow: Flow = Field(Flow.BROWSER, description="How a token is obtained.")
    ca_file: FilePath | None = Field(None, description="PEM file to trust instead of the system's certificates.")
    proxy: ProxyUrl | None = Field(None, description="http://host:port for requests to the provider.")
    imap: EndpointOverride | None = None
    pop3: EndpointOverride | None = None
    smtp: EndpointOverride | None = None

    def override(self, protocol: Protocol) -> EndpointOverride | None:
        """The admin's changes to the preset endpoint of this protocol."""
        override: EndpointOverride | None = getattr(self, protocol.value)
        return override


class GoogleProvider(_Provider):
    """Gmail and Google Workspace: an OAuth client of type Desktop app, or a service account."""

    kind: Literal["google"]
    client_id: Name = Field("", description="Of the OAuth client; a service account needs none.")
    client_secret: SecretText | None = Field(None, description="Google shows it once, when the client is created.")
    service_account_file: FilePath | None = Field(
        None, description="flow: service_account: the JSON key that Google made for the service account."
    )
    authorization_url: HttpsUrl = GOOGLE_AUTHORIZATION_URL
    token_url: HttpsUrl = GOOGLE_TOKEN_URL
    revocation_url: HttpsUrl = GOOGLE_REVOCATION_URL

    @property
    def effective_scopes(self) -> tuple[str, ...]:
        """What to ask for; nobody has to be named where nobody signs in."""
        return self.scopes or ((GOOGLE_MAIL_SCOPE,) if self.flow.is_unattended else GOOGLE_SCOPES)

    @property
    def servers(self) -> Mapping[Protocol, Endpoint]:
        """The mail servers of the preset."""
        return GOOGLE_SERVERS

    @property
    def mechanism(self) -> Mechanism:
        """How a token is shown to the mail servers."""
        return Mechanism.XOAUTH2

    @property
    def grant_identity(self) -> GrantIdentity:
        """What a stored sign-in depends on."""
        who = self.service_account_file if self.flow.is_unattended else self.client_id
        return self.kind, who, self.authorization_url, self.token_url, *sorted(self.effective_scopes)

    @model_validator(mode="after")
    def _fits_its_flow(self) -> GoogleProvider:
        _only(self.flow, Flow.BROWSER, Flow.SERVICE_ACCOUNT, why=said("Google allows no other for mail"))
        if self.flow is Flow.SERVICE_ACCOUNT:
            _required(self, "service_account_file")
            _unwanted(self, "client_id", "client_secret", why=said("a service account has its key file"))
        else:
            _required(self, "client_id", "client_secret")
            _unwanted(self, "service_account_file", why=said("it belongs to `flow: service_account`"))
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Either a client or a service account."""
        section = handler.resolve_ref_schema(handler(core))
        section["anyOf"] = [{"required": ["client_id", "client_secret"]}, {"required": ["service_account_file"]}]
        return section


_V2 = re.compile(r"/([^/]+)/oauth2/v2\.0/(authorize|token)/?")
_V1 = re.compile(r"/([^/]+)/oauth2/(authorize|token)/?")
_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*")
SIGN_IN_SCOPES = frozenset({"openid", "profile", "offline_access", "email"})
"""These belong to no service and go with any."""
MSAL_SCOPES = frozenset({"openid", "profile", "offline_access"})
"""msal adds these itself, and raises ValueError when it is given one."""
SHARED_TENANTS = frozenset({"common", "organizations", "consumers"})
"""Tenant names that let in people of any organization, or private persons."""


class MicrosoftProvider(_Provider):
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
        """As written, or by the host of the URLs."""
        host = urlsplit(self.authorization_url or "").netloc.lower()
        guess = (cloud for cloud, preset in CLOUDS.items() if preset.authority_host == host)
        return self.cloud or next(guess, Cloud.PUBLIC)

    @property
    def effective_scopes(self) -> tuple[str, ...]:
        """What to ask for; those that msal adds itself need not be among them."""
        app_only = self.flow is Flow.CLIENT_CREDENTIALS
        return self.scopes or ((self._preset.app_scope,) if app_only else self._preset.scopes)

    @property
    def servers(self) -> Mapping[Protocol, Endpoint]:
        """The mail servers of its cloud."""
        return self._preset.servers

    @property
    def mechanism(self) -> Mechanism:
        """How a token is shown to the mail servers: Exchange knows no OAUTHBEARER."""
        return Mechanism.XOAUTH2

    @property
    def grant_identity(self) -> GrantIdentity:
        """What a stored sign-in depends on."""
        scopes = sorted(set(self.effective_scopes) - MSAL_SCOPES)
        return self.kind, self.client_id, self.authority.lower(), self.flow.is_unattended, *scopes

    @property
    def _preset(self) -> CloudPreset:
        return CLOUDS[self.effective_cloud]

    @field_validator("tenant")
    @classmethod
    def _is_tenant(cls, tenant: str | None) -> str | None:
        if tenant is not None and not _TENANT.fullmatch(tenant.strip()):
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
        if bare or len(hosts) > 1:
            sentence = said(
                "one token is for one service, and mail servers refuse one that is for another; "
                "use https://outlook.office.com/IMAP.AccessAsUser.All and the like only"
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
        _only(self.flow, Flow.BROWSER, Flow.DEVICE, Flow.CLIENT_CREDENTIALS, why=said("service accounts are Google's"))
        if self.client_certificate is None:
            _unwanted(self, "client_certificate_key", why=said("it belongs to `client_certificate`"))
        elif self.client_secret is not None:
            raise BadValue(said("give either `client_secret` or `client_certificate`, not both"))
        if self.flow is Flow.DEVICE:
            why = said("Microsoft lets only public clients use `flow: device`")
            _unwanted(self, "client_secret", "client_certificate", why=why)
        if self.flow is not Flow.CLIENT_CREDENTIALS:
            return self
        if self.client_secret is None and self.client_certificate is None:
            raise BadValue(said("`flow: client_credentials` needs `client_secret` or `client_certificate`"))
        if self.authority.rsplit("/", 1)[-1].lower() in SHARED_TENANTS:
            raise BadValue(said("`flow: client_credentials` needs the tenant's own GUID or domain"))
        if any(not scope.endswith("/.default") for scope in self.scopes or ()):
            scope = self._preset.app_scope
            raise BadValue(said("with `flow: client_credentials` the one scope is {scope}", scope=scope))
        return self


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


class ClientAuthentication(str, Enum):
    """How the client secret is shown to the token endpoint (RFC 6749 section 2.3.1)."""

    BODY = "body"
    BASIC = "basic"


class GenericProvider(_Provider):
    """Any other OAuth 2.0 provider (RFC 6749)."""

    kind: Literal["oauth2"]
    preset: OAuth2Preset | None = Field(None, description="A well-known provider; what the file says besides wins.")
    authorization_url: HttpsUrl | None = Field(None, description="flow: browser: where people sign in.")
    device_url: HttpsUrl | None = Field(None, description="flow: device: the device authorization endpoint.")
    token_url: HttpsUrl
    revocation_url: HttpsUrl | None = None
    scopes: tuple[Name, ...] = Field(
        min_length=1, description="Scopes to ask for; `openid email` tells us who signed in."
    )
    sasl: Mechanism = Field(Mechanism.XOAUTH2, description="How the mail servers take a token.")
    pkce: bool = Field(True, description="False only for a server that refuses RFC 7636's parameters.")
    client_authentication: ClientAuthentication = Field(
        ClientAuthentication.BODY, description="How the token endpoint wants client_secret."
    )

    @property
    def effective_scopes(self) -> tuple[str, ...]:
        """What to ask for."""
        return self.scopes

    @property
    def servers(self) -> Mapping[Protocol, Endpoint]:
        """The mail servers of the preset; without one the admin names them."""
        return OAUTH2_SERVERS[self.preset] if self.preset is not None else {}

    @property
    def mechanism(self) -> Mechanism:
        """How a token is shown to the mail servers."""
        return self.sasl

    @property
    def grant_identity(self) -> GrantIdentity:
        """What a stored sign-in depends on; device and browser lead to the same grant."""
        where = (self.token_url, "" if self.flow.is_unattended else self.authorization_url or self.device_url)
        return self.kind, self.client_id, self.flow.is_unattended, *where, *sorted(self.scopes)

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, value: Any) -> Any:
        if not isinstance(value, dict) or not isinstance(named := value.get("preset"), str):
            return value
        # A misspelt one is reported as such; that what it would have filled in is missing, too, would be noise.
        known = next((preset for preset in OAuth2Preset if preset.value == named), OAuth2Preset.YAHOO)
        return {**OAUTH2_PRESETS[known], **value}

    @model_validator(mode="after")
    def _fits_its_flow(self) -> GenericProvider:
        _only(self.flow, Flow.BROWSER, Flow.DEVICE, Flow.CLIENT_CREDENTIALS, why=said("service accounts are Google's"))
        match self.flow:
            case Flow.BROWSER:
                _required(self, "authorization_url")
            case Flow.DEVICE:
                _required(self, "device_url")
            case _:
                _required(self, "client_secret")
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """A preset brings the URLs and the scopes."""
        section = handler.resolve_ref_schema(handler(core))
        section["required"] = ["client_id", "kind"]
        section["anyOf"] = [{"required": ["preset"]}, {"required": ["token_url", "scopes"]}]
        return section


ProviderConfig = Annotated[GoogleProvider | MicrosoftProvider | GenericProvider, Field(discriminator="kind")]


# --- what goes together ---------------------------------------------------------------------------------------------


def _only(flow: Flow, *allowed: Flow, why: Said) -> None:
    if flow not in allowed:
        choices = either([one.value for one in allowed])
        raise BadValue(said("`flow` must be {choices} here: {why}", choices=choices, why=why))


def _required(part: Part, *keys: str) -> None:
    missing = [key for key in keys if getattr(part, key) in {None, ""}]
    if missing:
        _missing(type(part).__name__, missing)


def _missing(title: str, keys: Iterable[str]) -> NoReturn:
    """As pydantic says it of a field that has no default, so that the error stands at the key's own place."""
    details = [InitErrorDetails(type="missing", loc=(key,), input={}) for key in keys]
    raise ValidationError.from_exception_data(title, details, hide_input=True)


def _unwanted(part: Part, *keys: str, why: Said) -> None:
    written = [f"`{key}`" for key in keys if key in part.model_fields_set]
    if written:
        raise BadValue(said("remove {keys}: {why}", keys=both(written), why=why))
