"""Google as configured: an OAuth client or a service account, with what each needs and what goes together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from bridge.advice.said import said
from bridge.config.presets import (
    GOOGLE_AUTHORIZATION_URL,
    GOOGLE_MAIL_SCOPE,
    GOOGLE_REVOCATION_URL,
    GOOGLE_SCOPES,
    GOOGLE_SERVERS,
    GOOGLE_TOKEN_URL,
)
from bridge.config.provider import Flow, GrantIdentity, Provider, only, required, unwanted
from bridge.config.values import ClientSecret, FilePath, HttpsUrl, Name
from bridge.model import Endpoint, Mechanism, Protocol


class GoogleProvider(Provider):
    """Gmail and Google Workspace: an OAuth client of type Desktop app, or a service account."""

    kind: Literal["google"]
    client_id: Name = Field("", description="Of the OAuth client; a service account needs none.")
    client_secret: ClientSecret | None = Field(None, description="Google shows it once, when the client is created.")
    service_account_file: FilePath | None = Field(
        None, description="flow: service_account: the JSON key that Google made for the service account."
    )
    authorization_url: HttpsUrl = GOOGLE_AUTHORIZATION_URL
    token_url: HttpsUrl = GOOGLE_TOKEN_URL
    revocation_url: HttpsUrl = GOOGLE_REVOCATION_URL

    @property
    def effective_scopes(self) -> tuple[str, ...]:
        """The scopes to request; those that tell who has signed in are not needed where nobody signs in."""
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
        return *self.client_identity, *sorted(self.effective_scopes)

    @property
    def client_identity(self) -> GrantIdentity:
        """The same without the scopes."""
        who = self.service_account_file if self.flow.is_unattended else self.client_id
        return self.kind, who, self.authorization_url, self.token_url

    @model_validator(mode="after")
    def _fits_its_flow(self) -> GoogleProvider:
        only(self.flow, Flow.BROWSER, Flow.SERVICE_ACCOUNT, why=said("Google allows no other for mail"))
        if self.flow is Flow.SERVICE_ACCOUNT:
            required(self, "service_account_file")
            unwanted(self, "client_id", "client_secret", why=said("a service account uses its key file instead"))
        else:
            required(self, "client_id", "client_secret")
            unwanted(self, "service_account_file", why=said("it belongs to `flow: service_account`"))
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Either a client or a service account."""
        section = handler.resolve_ref_schema(handler(core))
        section["anyOf"] = [{"required": ["client_id", "client_secret"]}, {"required": ["service_account_file"]}]
        return section
