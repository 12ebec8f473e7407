"""Who issues tokens, as configured: a provider of one kind or another."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, TypeAdapter

from bridge.config.generic import GenericProvider
from bridge.config.google import GoogleProvider
from bridge.config.microsoft import MicrosoftProvider

ProviderConfig = Annotated[GoogleProvider | MicrosoftProvider | GenericProvider, Field(discriminator="kind")]
PROVIDER: TypeAdapter[ProviderConfig] = TypeAdapter(ProviderConfig)
