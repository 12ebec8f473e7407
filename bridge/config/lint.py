"""Values that are valid by their form but hardly meant so: reported with their place, and used all the same."""

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
"""The length of Google's old secrets; today Google's have 35 characters and Microsoft's 40. Names and numbers are
shorter."""
_SHELLS_VARIABLE: Final = re.compile(r"\$(?:env:)?\w+|\$\(\w+\)|%\w+%", re.ASCII)
"""A variable as sh, PowerShell, make and cmd write it; the last form needs quotes in YAML, which make it a text."""
_IN_A_PATH: Final = re.compile(r"%(\w+)%|(?:^|(?<=[/\\]))\$(?:env:)?(\w+)(?=[/\\]|$)", re.ASCII)
"""The same in a path: cmd's form anywhere, the others only as a whole component: a file name may have a dollar."""
_MADE: Final[tuple[Keys, ...]] = (("store", "path"), ("store", "key_file"), ("log", "file"))
"""Files that the bridge makes, wherever the path leads. A wrong path to a file that is only read shows by itself."""
_MICROSOFT_HOSTS: Final = frozenset(preset.authority_host for preset in CLOUDS.values())


def doubtful(source: Source, config: Config) -> Iterator[Problem]:
    """Each doubt with its place. They are no errors, because old versions of Microsoft's tools made secrets that look
    like a Secret ID."""
    found = [*_of_ports(config.listeners), *_of_paths(source)]
    for provider_name, provider in config.providers.items():
        found += [(("providers", provider_name, key), sentence) for key, sentence in _of_provider(provider)]
    for keys, sentence in found:
        yield Problem(source.place(keys), path_of(keys), sentence)


def client_id_doubt(kind: str, client_id: str) -> Said | None:
    """Set if the id does not look like this provider's: people copy a project's number or a secret's Value instead."""
    if kind == "google" and not _GOOGLE_ID.fullmatch(client_id):
        return said("a client ID of Google looks like 1234-abcd.apps.googleusercontent.com")
    if kind == "microsoft" and not GUID.fullmatch(client_id):
        return said("the Application (client) ID is a GUID, such as 11111111-2222-3333-4444-555555555555")
    return None


def client_secret_doubt(kind: str, secret: str) -> Said | None:
    """Set if the secret looks like the other value on the same page, which people copy instead."""
    if kind == "google" and _GOOGLE_ID.fullmatch(secret):
        return said(
            "this is a client ID; what belongs here is the client secret, which Google shows only when it is created"
        )
    if kind == "microsoft" and GUID.fullmatch(secret):
        return said(
            "this looks like the Secret ID, which is of no use here; what belongs here is the Value of the secret, "
            "which Microsoft shows only when the secret is created"
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
                    "{variable} itself is taken for a part of the path; to refer to an environment variable, write "
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
        yield "client_secret", said("client_id and client_secret are the wrong way round")
        return
    if id_doubt is not None:
        yield "client_id", id_doubt
    if secret_doubt is not None:
        yield "client_secret", secret_doubt
    if _SHELLS_VARIABLE.fullmatch(secret):
        yield (
            "client_secret",
            said(
                "this text itself is taken for the secret; to refer to an environment variable, write {example}",
                example="${NAME}",
            ),
        )


def _of_client_id(provider: Provider) -> Said | None:
    """Only where the provider itself issues the ids: with the URLs of another server, an id may look like anything."""
    if isinstance(provider, GoogleProvider):
        is_theirs = bool(provider.client_id) and provider.authorization_url == GOOGLE_AUTHORIZATION_URL
    elif isinstance(provider, MicrosoftProvider):
        is_theirs = urlsplit(provider.authority).netloc in _MICROSOFT_HOSTS
    else:
        return None
    return client_id_doubt(provider.kind, provider.client_id) if is_theirs else None
