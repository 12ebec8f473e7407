"""Config and its parts: frozen pydantic models; the JSON Schema comes from here.

Values arrive here as text, with `${…}` references already resolved (load.py); each field reads its text as what it
needs, so that `client_id: 011` stays a text and `port: ${PORT}` becomes a number. What a value, or one part, can say
about itself is checked here; what needs two parts (an account naming a provider) is in checks.py.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationInfo,
    field_validator,
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

LONGEST_ADDRESS = 320
"""Characters: 64 before the @ and 255 after it (RFC 3696, erratum 1690, before the path limit)."""


class BadValue(ValueError):
    """What is wrong with a value, in two sentences: the value may have come from a `${…}` reference.

    `str(error)` quotes the value; `general` says the same without a trace of it. A plain ValueError of this module
    quotes nothing.
    """

    def __init__(self, quoting: str, general: str) -> None:
        super().__init__(quoting)
        self.general = general


class _Part(BaseModel):
    """A part of the configuration: frozen, and a key that is not known is an error."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        arbitrary_types_allowed=True,
        hide_input_in_errors=True,  # the input may be a secret
    )


class _SecretText:
    """Lets pydantic take a string and keep it as Secret[str]."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def wrap(value: Any) -> Secret[str]:
            if isinstance(value, Secret):
                return value
            if not isinstance(value, str) or not value:
                raise ValueError("must be a text that is not empty")
            return Secret(value)

        return core_schema.no_info_plain_validator_function(wrap)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "minLength": 1}


SecretText = Annotated[Secret[str], _SecretText]


def _is_plain(value: str) -> bool:
    """No spaces, no control characters: nothing that could break a header, a log line or a protocol's line."""
    return value.isprintable() and not any(c.isspace() for c in value)


def _name(value: str) -> str:
    name = value.strip()
    if not name or not _is_plain(name):
        raise ValueError("must be a text without spaces, and not empty")
    return name


Name = Annotated[str, AfterValidator(_name)]
"""A word that goes into a request as it is: a client id, a scope."""


def _https_url(value: str) -> str:
    text = value.strip()
    try:
        url = urlsplit(text)
        host, _ = url.hostname, url.port
    except ValueError:
        raise ValueError("is not a URL such as https://example.com/path") from None
    if url.username is not None or url.password is not None:
        raise ValueError("must not hold a user name or a password")
    if not _is_plain(text) or not host:
        raise ValueError("is not a URL such as https://example.com/path")
    if url.scheme == "https" or (url.scheme == "http" and is_loopback(host)):
        return text
    raise ValueError("must begin with https:// (http:// is for localhost only)")


HttpsUrl = Annotated[str, AfterValidator(_https_url)]


def _proxy_url(value: str) -> str:
    text = value.strip()
    try:
        url = urlsplit(text)
        is_good = url.scheme in {"http", "https"} and bool(url.hostname) and url.port is not None and _is_plain(text)
    except ValueError:
        is_good = False
    if not is_good:
        raise ValueError("must look like http://proxy.example.com:3128")
    if url.username is not None or url.password is not None:
        raise ValueError("must not hold a user name or a password: a proxy that wants them is not supported")
    return text


ProxyUrl = Annotated[str, AfterValidator(_proxy_url)]

_DOMAIN = re.compile(r"[\w](?:[\w-]*\w)?(?:\.\w(?:[\w-]*\w)?)*")


def _host_name(value: str) -> str:
    host = value.strip()
    if is_host(host):
        return host
    if "://" in host or host.count(":") == 1:
        raise ValueError("must be the name alone, such as imap.example.com: the port has a key of its own, `port`")
    raise ValueError("must be the name of a server, such as imap.example.com")


HostName = Annotated[str, AfterValidator(_host_name)]


def is_host(text: str) -> bool:
    """True for a name or an IP address, without brackets or port."""
    if _DOMAIN.fullmatch(text):
        return len(text) <= 253  # RFC 1035 section 2.3.4
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _mail_address(value: str) -> str:
    address = unicodedata.normalize("NFC", value).strip().lower()
    local, at, domain = address.rpartition("@")
    is_good = at and local and _DOMAIN.fullmatch(domain) and _is_plain(address) and "@" not in local
    if not is_good or len(address) > LONGEST_ADDRESS or ("*" in local and local != "*"):
        raise ValueError('must be an address such as alice@example.com, or "*@example.com" for a whole domain')
    return address


MailAddress = Annotated[str, AfterValidator(_mail_address)]


def _person(value: str) -> str:
    if value.startswith("*@"):
        raise ValueError("must be the address of one person, such as alice@example.com, not a whole domain")
    return value


PersonAddress = Annotated[MailAddress, AfterValidator(_person)]


def _username(value: str) -> str:
    name = unicodedata.normalize("NFC", value).strip()
    if not name or not name.isprintable() or len(name) > LONGEST_ADDRESS:
        raise ValueError(f"must be a user name: 1 to {LONGEST_ADDRESS} characters, without line breaks")
    if "*" in name:
        raise ValueError('must be one user name; for everybody of a domain, add an account "*@example.com"')
    return name


Username = Annotated[str, AfterValidator(_username)]


def same_name(username: str) -> str:
    """The form in which two user names are compared: spelling of accents, case and outer spaces do not matter."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", username).strip().casefold())


def _absolute(value: str, info: ValidationInfo) -> str:
    """Relative paths are relative to the YAML's directory, which the loader gives as context."""
    if not value.strip() or not value.isprintable():
        raise ValueError("must be the path of a file")
    try:
        path = Path(value.strip()).expanduser()
    except RuntimeError:
        raise ValueError("begins with ~, and there is no such home directory; write the whole path") from None
    directory = (info.context or {}).get("directory")
    return str(path if directory is None else Path(directory) / path)


FilePath = Annotated[str, AfterValidator(_absolute)]
"""Absolute once loaded."""


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

    host: HostName | None = Field(None, description="Name of the mail server; its certificate must carry it.")
    port: int | None = Field(None, ge=1, le=65535)
    tls: TlsMode | None = Field(None, description="implicit (TLS from the first byte) or starttls")


class Flow(str, Enum):
    """How a token is obtained."""

    BROWSER = "browser"


class _Provider(_Part):
    """What all kinds of provider have."""

    client_id: Name = Field(description="The id that the provider gave to your app registration.")
    client_secret: SecretText | None = Field(
        None, description="Its secret: ${ENV}, ${file:path}, ${keyring:name} or the text itself."
    )
    scopes: tuple[Name, ...] | None = Field(None, min_length=1, description="Scopes to ask for, instead of the preset.")
    redirect_uri: HttpsUrl = Field(
        "http://localhost:3017/",
        description="Where the browser comes back to, exactly as registered; by default the console at localhost.",
    )
    flow: Flow = Flow.BROWSER
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
_SIGN_IN_SCOPES = frozenset({"openid", "profile", "offline_access", "email"})
"""These belong to no service and go with any."""


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

    @field_validator("tenant")
    @classmethod
    def _is_tenant(cls, tenant: str | None) -> str | None:
        if tenant is not None and not _TENANT.fullmatch(tenant.strip()):
            raise BadValue(
                f"{tenant!r} is not the GUID or the domain of a tenant", "is not the GUID or the domain of a tenant"
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
        bare = [scope for scope in scopes or () if "://" not in scope and scope not in _SIGN_IN_SCOPES]
        if bare or len(hosts) > 1:
            sentence = (
                "one token is for one service, and mail servers refuse one that is for another; "
                "use https://outlook.office.com/IMAP.AccessAsUser.All and the like only"
            )
            raise BadValue(f"{', '.join(bare or sorted(hosts))}: {sentence}", sentence)
        return scopes

    @model_validator(mode="after")
    def _one_tenant(self) -> MicrosoftProvider:
        urls = {"authorization_url": self.authorization_url, "token_url": self.token_url}
        if self.tenant is not None:
            if any(urls.values()):
                raise ValueError("give either `tenant` or the two URLs, not both")
            return self
        missing = [key for key, url in urls.items() if not url]
        if missing:
            raise ValueError(f"give `tenant`, or both URLs as the portal shows them (missing: {', '.join(missing)})")
        if len({_microsoft_endpoint(leaf, url or "") for leaf, url in zip(_LEAVES, urls.values(), strict=True)}) > 1:
            raise ValueError("authorization_url and token_url name different hosts or tenants")
        return self


_LEAVES = ("authorize", "token")


def _microsoft_endpoint(leaf: str, value: str) -> tuple[str, str]:
    """Host and tenant of a v2 endpoint; ValueError says what is wrong with it and what to use."""
    url = urlsplit(value)
    match = _V2.fullmatch(url.path)
    if match is None and (old := _V1.fullmatch(url.path)):
        raise BadValue(
            f"this is a v1 endpoint; use the v2 one: {url.scheme}://{url.netloc}/{old[1]}/oauth2/v2.0/{leaf}",
            f"this is a v1 endpoint; use the v2 one, which ends in /oauth2/v2.0/{leaf}",
        )
    if match is not None and match[2] != leaf:
        raise ValueError(f"this is the other endpoint; it must end in /oauth2/v2.0/{leaf}")
    if url.scheme != "https" or match is None or url.query or url.fragment:
        raise ValueError(f"must look like https://{MICROSOFT_AUTHORITY_HOST}/<tenant>/oauth2/v2.0/{leaf}")
    if not _TENANT.fullmatch(match[1]):
        raise BadValue(f"put your tenant's id in place of {match[1]}", "put your tenant's id into the URL")
    return url.netloc.lower(), match[1].lower()


class GenericProvider(_Provider):
    """Any other OAuth 2.0 provider (RFC 6749)."""

    kind: Literal["oauth2"]
    authorization_url: HttpsUrl
    token_url: HttpsUrl
    revocation_url: HttpsUrl | None = None
    scopes: tuple[Name, ...] = Field(
        min_length=1, description="Scopes to ask for; `openid email` tells us who signed in."
    )

    @property
    def effective_scopes(self) -> tuple[str, ...]:
        """What to ask for."""
        return self.scopes


ProviderConfig = Annotated[GoogleProvider | MicrosoftProvider | GenericProvider, Field(discriminator="kind")]


class AccountConfig(_Part):
    """One mailbox, or all of a domain."""

    address: MailAddress = Field(description='alice@example.com, or "*@example.com" for everybody of a domain.')
    provider: str = Field(min_length=1, description="Name of one of `providers`.")
    sign_in_as: PersonAddress | None = Field(
        None, description="Who signs in, where that is not the address itself: a shared mailbox, or another UPN."
    )
    aliases: tuple[Username, ...] = Field((), description="Further user names that mean this account.")

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

    address: str = Field(description='127.0.0.1:1143, localhost:1143 or "[::1]:1143"')
    tls: TlsMode | None = Field(None, description="TLS for the mail client; needs certificate and key.")
    certificate: FilePath | None = Field(None, description="PEM file: certificate, then its chain.")
    key: FilePath | None = Field(None, description="PEM file: private key, without a password.")

    @field_validator("address")
    @classmethod
    def _is_address(cls, value: str) -> str:
        _split_address(value.strip())
        return value.strip()

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
            remedy = (
                "can be reached from other machines, and passwords would cross the network in clear: "
                "use 127.0.0.1, or add tls, certificate and key"
            )
            raise BadValue(f"{host} {remedy}", f"this address {remedy}")
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The text alone will do."""
        section = handler(core)
        return {"anyOf": [{"type": "string", "minLength": 1}, handler.resolve_ref_schema(section)]}


_PORT = re.compile(r"[0-9]{1,5}")


def _split_address(value: str) -> tuple[str, int]:
    host, colon, port = value.rpartition(":")
    if not colon and _PORT.fullmatch(port):
        raise BadValue(f"write the address, too: 127.0.0.1:{port}", "write the address, too: 127.0.0.1:PORT")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""  # IPv6 without brackets: which colon is the port's?
    if not is_host(host) or not _PORT.fullmatch(port) or int(port) > 65535:
        sentence = "is not an address and a port such as 127.0.0.1:1143"
        raise BadValue(f"{value!r} {sentence}", sentence)
    return host, int(port)


def _listeners(default: str) -> Any:
    return Field(
        default_factory=lambda: (ListenAddress(address=default),),
        description=f"Default {default}; a list where there are several; `off` for none.",
    )


_OFF = frozenset({"off", "no", "none", "false"})


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
            if item is False or item is None or (isinstance(item, str) and item.strip().lower() in _OFF):
                return []
            return item if isinstance(item, (list, tuple)) else [item]

        return {key: as_list(item) for key, item in value.items()}

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """One address, several, or `off`, which editors read as a text or as false."""
        section = handler.resolve_ref_schema(handler(core))
        for name, field in section["properties"].items():
            described = {"description": field.pop("description"), "default": field.pop("default", None)}
            several = {key: value for key, value in field.items() if key != "title"}
            described["default"] = cls.model_fields[name].get_default(call_default_factory=True)[0].address
            section["properties"][name] = {**described, "anyOf": [{"enum": ["off", False]}, several["items"], several]}
        return section

    def of(self, protocol: Protocol) -> tuple[ListenAddress, ...]:
        """Where this protocol is served."""
        addresses: tuple[ListenAddress, ...] = getattr(self, protocol.value)
        return addresses


class StoreConfig(_Part):
    """Where sealed tokens live, and where their key lives."""

    path: FilePath | None = Field(None, description="SQLite file; default: in the user's data directory.")
    url: SecretText | None = Field(None, description="SQLAlchemy URL of a shared database, for several nodes.")
    key_file: FilePath | None = Field(None, description="File with the 32-byte key; default: the OS keyring holds it.")

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
