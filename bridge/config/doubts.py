"""What is right by its form and hardly meant so: told with its place, and used all the same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from bridge.advice.said import Said, said
from bridge.config.google import GoogleProvider
from bridge.config.microsoft import GUID, MicrosoftProvider
from bridge.config.nodes import Keys, Problem, path_of
from bridge.config.presets import CLOUDS, GOOGLE_AUTHORIZATION_URL
from bridge.config.provider import Provider
from bridge.config.schema import Config, Listeners
from bridge.config.source import Source

_GOOGLE_ID: Final = re.compile(r"(?i)[a-z0-9_-]+\.apps\.googleusercontent\.com")
_SHORTEST_SECRET: Final = 24
"""Google's old ones; its own and Microsoft's of today have 35 and 40 characters. Names and numbers have fewer."""
_SHELLS_VARIABLE: Final = re.compile(r"\$(?:env:)?\w+|\$\(\w+\)|%\w+%", re.ASCII)
"""As sh, PowerShell, make and cmd write it; around the last one YAML wants quotes, which make it a text."""
_IN_A_PATH: Final = re.compile(r"%(\w+)%|(?:^|(?<=[/\\]))\$(?:env:)?(\w+)(?=[/\\]|$)", re.ASCII)
"""The same: cmd's anywhere, the others' as one step of it, since a file's name may have a dollar."""
_MADE: Final[tuple[Keys, ...]] = (("store", "path"), ("store", "key_file"), ("log", "file"))
"""Files that come into being at any place; those that are only read are missed there."""
_MICROSOFT_HOSTS: Final = frozenset(preset.authority_host for preset in CLOUDS.values())


def doubtful(source: Source, config: Config) -> Iterator[Problem]:
    """Each with its place. No error: old versions of Microsoft's tools made secrets that look like a Secret ID."""
    found = [*_of_ports(config.listeners), *_of_paths(source)]
    for provider_name, provider in config.providers.items():
        found += [(("providers", provider_name, key), sentence) for key, sentence in _of_provider(provider)]
    for keys, sentence in found:
        yield Problem(source.place(keys), path_of(keys), sentence)


def client_id_doubt(kind: str, client_id: str) -> Said | None:
    """What both providers' ids look like, and what is copied in their place: a project's number, a secret's Value."""
    if kind == "google" and not _GOOGLE_ID.fullmatch(client_id):
        return said("a client ID of Google looks like 1234-abcd.apps.googleusercontent.com")
    if kind == "microsoft" and not GUID.fullmatch(client_id):
        return said("the Application (client) ID is a GUID, such as 11111111-2222-3333-4444-555555555555")
    return None


def client_secret_doubt(kind: str, secret: str) -> Said | None:
    """What is copied in the place of a secret: the other value of the same page."""
    if kind == "google" and _GOOGLE_ID.fullmatch(secret):
        return said("this is a client ID; the client secret is wanted, which Google shows only when it is made")
    if kind == "microsoft" and GUID.fullmatch(secret):
        return said(
            "this looks like the Secret ID, of no use here; the Value of the secret is wanted, which Microsoft "
            "shows only when it is made"
        )
    return None


def _of_ports(listeners: Listeners) -> Iterator[tuple[Keys, Said]]:
    if not (listeners.imap or listeners.pop3 or listeners.smtp):
        yield ("listeners",), said("imap, pop3 and smtp are all off: no mail program can log in")


def _of_paths(source: Source) -> Iterator[tuple[Keys, Said]]:
    for keys in _MADE:
        if (variable := _IN_A_PATH.search(source.written(keys) or "")) is not None:
            yield (
                keys,
                said(
                    "{variable} is taken for a part of the path, as it stands; an environment variable is written "
                    "{example}",
                    variable=variable[0],
                    example=f"${{{variable[1] or variable[2]}}}",
                ),
            )


def _of_provider(provider: Provider) -> Iterator[tuple[str, Said]]:
    """Each key, with what is odd about its value."""
    secret = "" if provider.client_secret is None else provider.client_secret.reveal()
    kind = provider.kind if isinstance(provider, GoogleProvider | MicrosoftProvider) else ""
    id_doubt, secret_doubt = _of_client_id(provider), client_secret_doubt(kind, secret)
    if id_doubt is not None and secret_doubt is not None and len(provider.client_id) >= _SHORTEST_SECRET:
        yield "client_secret", said("client_id and client_secret have changed places")
        return
    if id_doubt is not None:
        yield "client_id", id_doubt
    if secret_doubt is not None:
        yield "client_secret", secret_doubt
    if _SHELLS_VARIABLE.fullmatch(secret):
        yield (
            "client_secret",
            said(
                "this is taken for the secret itself, as it stands; an environment variable is written {example}",
                example="${NAME}",
            ),
        )


def _of_client_id(provider: Provider) -> Said | None:
    """Where the provider itself gives out the ids: another server at its URLs may have any."""
    if isinstance(provider, GoogleProvider):
        is_theirs = bool(provider.client_id) and provider.authorization_url == GOOGLE_AUTHORIZATION_URL
    elif isinstance(provider, MicrosoftProvider):
        is_theirs = urlsplit(provider.authority).netloc in _MICROSOFT_HOSTS
    else:
        return None
    return client_id_doubt(provider.kind, provider.client_id) if is_theirs else None
