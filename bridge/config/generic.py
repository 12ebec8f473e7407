"""Any other OAuth 2.0 provider as configured: its URLs or a preset, with what each flow needs."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Literal

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from bridge.advice.said import said
from bridge.config.presets import OAUTH2_PRESETS, OAUTH2_SERVERS, OAuth2Preset
from bridge.config.provider import Flow, GrantIdentity, Provider, only, required
from bridge.config.values import HttpsUrl, Name
from bridge.model import Endpoint, Mechanism, Protocol


class ClientAuthentication(str, Enum):
    """How the client secret is shown to the token endpoint (RFC 6749 section 2.3.1)."""

    BODY = "body"
    BASIC = "basic"


class GenericProvider(Provider):
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
    resource: Name | None = Field(None, description="What tokens are for, where the server must be told (RFC 8707).")
    audience: Name | None = Field(None, description="The same, where the server calls it so, as Auth0 does.")
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
    def purpose(self) -> Mapping[str, str]:
        """What tokens are for, as parameters of each token request."""
        known = {"resource": self.resource, "audience": self.audience}
        return {name: value for name, value in known.items() if value is not None}

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
        return *self.client_identity, *sorted(self.scopes), *sorted(self.purpose.items())

    @property
    def client_identity(self) -> GrantIdentity:
        """The same without the scopes and the purpose."""
        where = (self.token_url, "" if self.flow.is_unattended else self.authorization_url or self.device_url)
        return self.kind, self.client_id, self.flow.is_unattended, *where

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, value: Any) -> Any:
        if not isinstance(value, dict) or not isinstance(named := value.get("preset"), str):
            return value
        # A misspelt preset is reported as such; some preset stands in for it, since it would be noise to report the
        # keys that it would have filled in as missing.
        known = next((preset for preset in OAuth2Preset if preset.value == named), OAuth2Preset.YAHOO)
        return {**OAUTH2_PRESETS[known], **value}

    @model_validator(mode="after")
    def _fits_its_flow(self) -> GenericProvider:
        only(
            self.flow, Flow.BROWSER, Flow.DEVICE, Flow.CLIENT_CREDENTIALS, why=said("only Google has service accounts")
        )
        match self.flow:
            case Flow.BROWSER:
                required(self, "authorization_url")
            case Flow.DEVICE:
                required(self, "device_url")
            case _:
                required(self, "client_secret")
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """A preset brings the URLs and the scopes."""
        section = handler.resolve_ref_schema(handler(core))
        section["required"] = ["client_id", "kind"]
        section["anyOf"] = [{"required": ["preset"]}, {"required": ["token_url", "scopes"]}]
        return section
