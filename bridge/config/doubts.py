"""What is right by its form and hardly meant so: told with its place, and used all the same."""

from __future__ import annotations

from bridge.advice.said import Said, said
from bridge.config.microsoft import GUID, MicrosoftProvider
from bridge.config.nodes import Keys, Problem, path_of
from bridge.config.schema import Config
from bridge.config.source import Source


def doubtful(source: Source, config: Config, name: str) -> tuple[Said, ...]:
    """A sentence for each. No error: old versions of Microsoft's tools made secrets that look like a Secret ID."""
    found: list[Said] = []
    for provider_name, provider in config.providers.items():
        secret = provider.client_secret
        if isinstance(provider, MicrosoftProvider) and secret is not None and GUID.fullmatch(secret.reveal()):
            keys: Keys = ("providers", provider_name, "client_secret")
            sentence = said(
                "this looks like the Secret ID, of no use here; the Value of the secret is wanted, which Microsoft "
                "shows only when it is made"
            )
            found.append(Problem(source.place(keys), path_of(keys), sentence).told_of(name))
    return tuple(found)
