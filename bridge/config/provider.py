"""What every kind of provider has in the configuration, and how its rules are told."""

from __future__ import annotations

from enum import Enum

from pydantic import Field, ValidationError
from pydantic_core import InitErrorDetails

from bridge.advice.said import Said, said
from bridge.config.console import USUAL_CONSOLE, console_url
from bridge.config.values import (
    BadValue,
    ClientSecret,
    Day,
    FilePath,
    HostName,
    HttpsUrl,
    Name,
    Part,
    ProxyUrl,
    both,
    either,
)
from bridge.model import Protocol, TlsMode


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
"""What a stored sign-in depends on: it becomes useless exactly when this changes. JSON can represent it."""


class Provider(Part):
    """What all kinds of provider have."""

    client_id: Name = Field(description="The id that the provider gave to your app registration.")
    client_secret: ClientSecret | None = Field(
        None, description="Its secret: ${ENV}, ${file:path}, ${keyring:name} or the text itself."
    )
    client_secret_expires: Day | None = Field(
        None, description="Last day of client_secret (or of the certificate), such as 2027-01-31; warned of in time."
    )
    scopes: tuple[Name, ...] | None = Field(None, min_length=1, description="Scopes to ask for, instead of the preset.")
    redirect_uri: HttpsUrl = Field(
        console_url(USUAL_CONSOLE),
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


# --- what goes together ---------------------------------------------------------------------------------------------


def only(flow: Flow, *allowed: Flow, why: Said) -> None:
    """Raises: BadValue for another flow."""
    if flow not in allowed:
        choices = either([one.value for one in allowed])
        raise BadValue(said("`flow` must be {choices} here: {why}", choices=choices, why=why))


def required(part: Part, *keys: str) -> None:
    """Raises: ValidationError where one of them is missing or empty."""
    missing = [key for key in keys if getattr(part, key) in {None, ""}]
    if missing:  # as pydantic tells it of a field without a default, so that the error stands at the key's own place
        details = [InitErrorDetails(type="missing", loc=(key,), input={}) for key in missing]
        raise ValidationError.from_exception_data(type(part).__name__, details, hide_input=True)


def unwanted(part: Part, *keys: str, why: Said) -> None:
    """Raises: BadValue where one of them is written."""
    written = [f"`{key}`" for key in keys if key in part.model_fields_set]
    if written:
        raise BadValue(said("remove {keys}: {why}", keys=both(written), why=why))
