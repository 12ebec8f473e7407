"""Config and its parts: frozen pydantic models; the JSON Schema comes from here.

Values arrive here as plain YAML scalars, with `${…}` references already resolved (load.py). What a single value can
say about itself is checked here; what needs two places (an account naming a provider) is checked in `Config`.
"""

from __future__ import annotations

import ipaddress
import re
from enum import Enum
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema

from bridge.config.presets import (
    GOOGLE_AUTHORIZATION_URL,
    GOOGLE_REVOCATION_URL,
    GOOGLE_SCOPES,
    GOOGLE_TOKEN_URL,
    MICROSOFT_AUTHORITY_HOST,
    MICROSOFT_SCOPES,
)
from bridge.model import Protocol, TlsMode
from bridge.secret import Secret


class _Part(BaseModel):
    """A part of the configuration: frozen, and a key that is not known is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class _SecretText:
    """Lets pydantic take a string and keep it as Secret[str]."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def wrap(value: Any) -> Secret[str]:
            if isinstance(value, Secret):
                return value
            if not isinstance(value, str) or not value:
                raise ValueError("must be a non-empty text; quote it if YAML reads it as a number")
            return Secret(value)

        return core_schema.no_info_plain_validator_function(wrap)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "minLength": 1}


SecretText = Annotated[Secret[str], _SecretText]


def _https_url(value: str) -> str:
    url = urlsplit(value.strip())
    if url.username or url.password:
        raise ValueError("must not hold a user name or a password")
    if url.scheme == "https" and url.hostname:
        return value.strip()
    if url.scheme == "http" and url.hostname and is_loopback(url.hostname):
        return value.strip()
    raise ValueError("must be an https:// URL")


HttpsUrl = Annotated[str, AfterValidator(_https_url)]


def _mail_address(value: str) -> str:
    address = value.strip().lower()
    local, at, domain = address.rpartition("@")
    if not at or not local or not domain or " " in address or ("*" in address and local != "*"):
        raise ValueError('must be an address such as alice@example.com, or "*@example.com" for a whole domain')
    return address


MailAddress = Annotated[str, AfterValidator(_mail_address)]


def is_loopback(host: str) -> bool:
    """True for localhost and for addresses that only this machine can reach."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class EndpointOverride(_Part):
    """Parts of an upstream mail server that differ from the provider's preset."""

    host: str | None = Field(None, min_length=1, description="Name of the mail server; its certificate must carry it.")
    port: int | None = Field(None, ge=1, le=65535)
    tls: TlsMode | None = Field(None, description="implicit (TLS from the first byte) or starttls")


class Flow(str, Enum):
    """How a token is obtained."""

    BROWSER = "browser"


class _Provider(_Part):
    """What all kinds of provider have."""

    client_id: str = Field(min_length=1, description="The id that the provider gave to your app registration.")
    client_secret: SecretText | None = Field(
        None, description="Its secret: ${ENV}, ${file:path}, ${keyring:name} or the text itself."
    )
    scopes: tuple[str, ...] | None = Field(None, min_length=1, description="Scopes to ask for, instead of the preset.")
    redirect_uri: HttpsUrl = Field(
        "http://localhost:3017/", description="Where the browser comes back to; exactly as registered."
    )
    flow: Flow = Flow.BROWSER
    ca_file: str | None = Field(None, description="PEM file to trust instead of the system's certificates.")
    proxy: str | None = Field(None, description="http://host:port for requests to the provider.")
    imap: EndpointOverride | None = None
    pop3: EndpointOverride | None = None
    smtp: EndpointOverride | None = None

    def override(self, protocol: Protocol) -> EndpointOverride | None:
        """The admin's changes to the preset endpoint of this protocol."""
        override: EndpointOverride | None = getattr(self, protocol.value)
        return override


class GoogleProvider(_Provider):
    """Gmail and Google Workspace, with an OAuth client of type Desktop app."""

    kind: Literal["google"]
    client_secret: SecretText = Field(description="Google shows it once, when the client is created.")
    authorization_url: HttpsUrl = GOOGLE_AUTHORIZATION_URL
    token_url: HttpsUrl = GOOGLE_TOKEN_URL
    revocation_url: HttpsUrl = GOOGLE_REVOCATION_URL

    @property
    def effective_scopes(self) -> tuple[str, ...]:
        """What to ask for."""
        return self.scopes or GOOGLE_SCOPES


_V2 = re.compile(r"/([^/]+)/oauth2/v2\.0/(authorize|token)/?")
_V1 = re.compile(r"/([^/]+)/oauth2/(authorize|token)/?")
_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*")


class MicrosoftProvider(_Provider):
    """Office 365, Exchange Online and Outlook.com, with an app registration in Entra."""

    kind: Literal["microsoft"]
    tenant: str | None = Field(None, description="GUID or domain of the tenant: the short form of the two URLs.")
    authorization_url: HttpsUrl | None = Field(
        None, description="OAuth 2.0 authorization endpoint (v2), as the portal's Endpoints page shows it."
    )
    token_url: HttpsUrl | None = Field(None, description="OAuth 2.0 token endpoint (v2), from the same page.")
    discovery: bool = Field(
        True, description="False for a host that is not one of Microsoft's: its address is then taken as it is."
    )

    @property
    def authority(self) -> str:
        """`https://host/tenant`, as msal wants it."""
        if self.tenant is not None:
            return f"https://{MICROSOFT_AUTHORITY_HOST}/{self.tenant}"
        url = urlsplit(self.authorization_url or "")
        match = _V2.fullmatch(url.path)
        assert match is not None  # noqa: S101  checked by _one_tenant
        return f"https://{url.netloc.lower()}/{match[1]}"

    @property
    def effective_scopes(self) -> tuple[str, ...]:
        """What to ask for; never openid, profile or offline_access, which msal adds itself."""
        return self.scopes or MICROSOFT_SCOPES

    @model_validator(mode="after")
    def _one_tenant(self) -> MicrosoftProvider:
        urls = {"authorization_url": self.authorization_url, "token_url": self.token_url}
        if self.tenant is not None:
            if any(urls.values()):
                raise ValueError("give either `tenant` or the two URLs, not both")
            if not _TENANT.fullmatch(self.tenant):
                raise ValueError(f"tenant: {self.tenant!r} is not a GUID or a domain")
            return self
        missing = [key for key, url in urls.items() if not url]
        if missing:
            raise ValueError(f"give `tenant`, or both URLs as the portal shows them (missing: {', '.join(missing)})")
        seen = [_microsoft_endpoint(key, url or "") for key, url in urls.items()]
        if seen[0] != seen[1]:
            raise ValueError("authorization_url and token_url name different hosts or tenants")
        return self

    @model_validator(mode="after")
    def _one_audience(self) -> MicrosoftProvider:
        hosts = {urlsplit(s).netloc for s in self.effective_scopes if "://" in s}
        bare = [s for s in self.effective_scopes if "://" not in s and s not in {"openid", "profile", "offline_access", "email"}]
        if bare or len(hosts) > 1:
            wrong = ", ".join(bare) or ", ".join(sorted(hosts))
            raise ValueError(
                f"scopes: one token has one audience; {wrong} would make it a Microsoft Graph token, which mail servers "
                "refuse. Use https://outlook.office.com/IMAP.AccessAsUser.All and the like only"
            )
        return self


def _microsoft_endpoint(key: str, value: str) -> tuple[str, str]:
    """Host and tenant of a v2 endpoint; ValueError says what is wrong with it and what to use."""
    url = urlsplit(value)
    leaf = "authorize" if key == "authorization_url" else "token"
    match = _V2.fullmatch(url.path)
    if match is None and (old := _V1.fullmatch(url.path)):
        raise ValueError(
            f"{key}: this is a v1 endpoint; use the v2 one: "
            f"{url.scheme}://{url.netloc}/{old[1]}/oauth2/v2.0/{leaf}"
        )
    if match is not None and match[2] != leaf:
        raise ValueError(f"{key}: this is the other endpoint; it must end in /oauth2/v2.0/{leaf}")
    if url.scheme != "https" or match is None or url.query or url.fragment:
        raise ValueError(f"{key}: must look like https://{MICROSOFT_AUTHORITY_HOST}/<tenant>/oauth2/v2.0/{leaf}")
    if "<" in match[1] or "{" in match[1]:
        raise ValueError(f"{key}: put your tenant's id in place of {match[1]}")
    return url.netloc.lower(), match[1].lower()


class GenericProvider(_Provider):
    """Any other OAuth 2.0 provider (RFC 6749)."""

    kind: Literal["oauth2"]
    authorization_url: HttpsUrl
    token_url: HttpsUrl
    revocation_url: HttpsUrl | None = None
    scopes: tuple[str, ...] = Field(min_length=1, description="Scopes to ask for; `openid email` tells us who signed in.")

    @property
    def effective_scopes(self) -> tuple[str, ...]:
        """What to ask for."""
        return self.scopes


ProviderConfig = Annotated[GoogleProvider | MicrosoftProvider | GenericProvider, Field(discriminator="kind")]


class AccountConfig(_Part):
    """One mailbox, or all of a domain."""

    address: MailAddress = Field(description='alice@example.com, or "*@example.com" for everybody of a domain.')
    provider: str = Field(min_length=1, description="Name of one of `providers`.")
    sign_in_as: MailAddress | None = Field(
        None, description="Who signs in, where that is not the address itself: a shared mailbox, or another UPN."
    )
    aliases: tuple[MailAddress | str, ...] = Field((), description="Further user names that mean this account.")

    @property
    def is_pattern(self) -> bool:
        """True for a whole domain."""
        return self.address.startswith("*@")

    @model_validator(mode="after")
    def _pattern_is_plain(self) -> AccountConfig:
        if self.is_pattern and (self.sign_in_as or self.aliases):
            raise ValueError('sign_in_as and aliases belong to one address, not to a "*@domain" pattern')
        return self


class ListenAddress(_Part):
    """A local address to listen on."""

    address: str = Field(description="127.0.0.1:1143, localhost:1143 or [::1]:1143")
    tls: TlsMode | None = Field(None, description="TLS for the mail client; needs certificate and key.")
    certificate: str | None = Field(None, description="PEM file: certificate, then its chain.")
    key: str | None = Field(None, description="PEM file: private key, without a password.")

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"address": value} if isinstance(value, str) else value

    @property
    def host(self) -> str:
        """Host part, without brackets."""
        return _split_address(self.address)[0]

    @property
    def port(self) -> int:
        """Port part."""
        return _split_address(self.address)[1]

    @model_validator(mode="after")
    def _complete(self) -> ListenAddress:
        host, _ = _split_address(self.address)
        if self.tls is not None and not (self.certificate and self.key):
            raise ValueError("tls needs `certificate` and `key`, two PEM files")
        if self.tls is None and (self.certificate or self.key):
            raise ValueError("certificate and key are of no use without `tls: implicit` or `tls: starttls`")
        if not is_loopback(host) and self.tls is None:
            raise ValueError(
                f"{host} can be reached from other machines, and passwords would cross the network in clear: "
                "use 127.0.0.1, or add tls, certificate and key"
            )
        return self


def _split_address(value: str) -> tuple[str, int]:
    host, colon, port = value.rpartition(":")
    host = host.strip("[]")
    if not colon or not host or not port.isdecimal() or not 0 <= int(port) <= 65535:
        raise ValueError(f"{value!r} is not an address and a port such as 127.0.0.1:1143")
    return host, int(port)


def _listeners(default: str) -> Any:
    return Field(
        default_factory=lambda: (ListenAddress(address=default),),
        description=f"Default {default}; a list where there are several; `off` for none.",
    )


class Listeners(_Part):
    """Local ports, one for each protocol, for all accounts and providers."""

    imap: tuple[ListenAddress, ...] = _listeners("127.0.0.1:1143")
    pop3: tuple[ListenAddress, ...] = _listeners("127.0.0.1:1110")
    smtp: tuple[ListenAddress, ...] = _listeners("127.0.0.1:1587")

    @model_validator(mode="before")
    @classmethod
    def _lists(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value

        def as_list(item: Any) -> Any:
            if item is False or item is None:  # YAML reads a bare `off` as false
                return []
            return item if isinstance(item, (list, tuple)) else [item]

        return {key: as_list(item) for key, item in value.items()}

    def of(self, protocol: Protocol) -> tuple[ListenAddress, ...]:
        """Where this protocol is served."""
        addresses: tuple[ListenAddress, ...] = getattr(self, protocol.value)
        return addresses


class StoreConfig(_Part):
    """Where sealed tokens live, and where their key lives."""

    path: str | None = Field(None, description="SQLite file; default: in the user's data directory.")
    url: SecretText | None = Field(None, description="SQLAlchemy URL of a shared database, for several nodes.")
    key_file: str | None = Field(None, description="File with the 32-byte key; default: the OS keyring holds it.")

    @model_validator(mode="after")
    def _one_place(self) -> StoreConfig:
        if self.path and self.url:
            raise ValueError("give `path` (one machine) or `url` (several), not both")
        return self


class LogConfig(_Part):
    """What is logged, and how."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"


class Config(_Part):
    """The whole file."""

    providers: dict[str, ProviderConfig] = Field(min_length=1)
    accounts: tuple[AccountConfig, ...] = Field(min_length=1)
    listeners: Listeners = Field(default_factory=Listeners)
    console: ListenAddress = Field(default_factory=lambda: ListenAddress(address="127.0.0.1:3017"))
    store: StoreConfig = Field(default_factory=StoreConfig)
    log: LogConfig = Field(default_factory=LogConfig)
    language: Literal["en", "fr", "auto"] = "auto"
