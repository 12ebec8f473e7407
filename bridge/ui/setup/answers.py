"""The answers so far, and what is wrong with an answer: judged by the same models that read the file later."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from bridge.advice.said import said
from bridge.advice.system import system_reason
from bridge.config import sentences
from bridge.config.importers.yaml_text import Scalar, Value
from bridge.config.lint import client_id_doubt, client_secret_doubt
from bridge.config.provider import Flow
from bridge.config.providers import PROVIDER
from bridge.config.schema import AccountConfig
from bridge.config.values import miscopied
from bridge.host.paths import service_store
from bridge.model import Protocol, TlsMode
from bridge.ui.i18n import say


class Choice(Enum):
    """A provider and a way to sign in: name in the file, and the settings that come with it."""

    GOOGLE = ("gmail", "google", "")
    GOOGLE_SERVICE = ("workspace", "google", "service_account")
    MICROSOFT = ("office365", "microsoft", "")
    MICROSOFT_DEVICE = ("office365", "microsoft", "device")
    MICROSOFT_APP = ("exchange", "microsoft", "client_credentials")
    FASTMAIL = ("fastmail", "oauth2", "")
    YANDEX = ("yandex", "oauth2", "")
    YAHOO = ("yahoo", "oauth2", "")
    AOL = ("aol", "oauth2", "")
    OTHER = ("mail", "oauth2", "")
    """Any other provider of RFC 6749: its URLs, scopes and mail servers are asked for."""

    @property
    def settings(self) -> dict[str, Value]:
        """The settings that are in the file before anything is asked."""
        name, kind, flow = self.value
        has_preset = kind == "oauth2" and self is not Choice.OTHER
        return {"kind": kind, **({"preset": name} if has_preset else {}), **({"flow": flow} if flow else {})}

    @property
    def kind(self) -> str:
        """`google`, `microsoft` or `oauth2`."""
        return self.value[1]

    @property
    def is_unattended(self) -> bool:
        """True if nobody signs in."""
        return bool(self.value[2]) and Flow(self.value[2]).is_unattended

    @property
    def secret(self) -> SecretNeed:
        """Whether the app has a secret: Microsoft lets no device-code client have one, Google's Desktop app must."""
        if self in {Choice.GOOGLE_SERVICE, Choice.MICROSOFT_DEVICE, Choice.FASTMAIL}:
            return SecretNeed.NONE
        return SecretNeed.ALWAYS if self in {Choice.GOOGLE, Choice.MICROSOFT_APP} else SecretNeed.MAYBE

    def section(self, taken: Mapping[str, object]) -> str:
        """The provider's name in the file: its own, or the first of `gmail-2`, `gmail-3`… that is free."""
        name: str = self.value[0]
        number = 1
        while name in taken:
            number += 1
            name = f"{self.value[0]}-{number}"
        return name


class SecretNeed(Enum):
    """Whether an app has a client secret."""

    NONE = "none"
    MAYBE = "maybe"
    """A public client has none."""
    ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class ProviderAnswer:
    """A section of `providers`."""

    choice: Choice
    settings: Mapping[str, Value]
    """The settings as they go into the file, without the secret."""
    secret_reference: str = ""
    """`${file:…}` or `${keyring:…}`; empty if there is no secret."""


@dataclass(frozen=True, slots=True)
class AccountAnswer:
    """An entry of `accounts`."""

    address: str
    provider: str
    sign_in_as: str = ""


@dataclass(frozen=True, slots=True)
class Answers:
    """All that was asked."""

    providers: Mapping[str, ProviderAnswer]
    accounts: tuple[AccountAnswer, ...]
    key_file: str = ""
    """Where the store's key goes; empty for the OS keyring."""
    ports: Mapping[Protocol, int] = field(default_factory=dict)
    """The ports for mail programs, at localhost, where they differ from the defaults."""
    console_port: int | None = None
    """The console's port, where it differs from the default."""
    store_path: str = ""
    """Where the store is; empty for the user's own directory."""


def store_places(*, has_keyring: bool, is_for_service: bool) -> tuple[str, str]:
    """`store.path` and `store.key_file`, each empty where its default will do."""
    if is_for_service:
        return service_store()
    return "", "" if has_keyring else "store.key"


def setting_problem(settings: Mapping[str, Value], key: str) -> str:
    """What is wrong with one of a provider's settings, the others as they are so far; empty if nothing is."""
    try:
        PROVIDER.validate_python(dict(settings))
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            if detail["loc"][1:] == (key,):
                value = settings[key]
                typed = value if isinstance(value, str) else None
                return sentences.sentence(detail, typed, has_references=False).told(say)
    doubt = client_id_doubt(str(settings["kind"]), str(settings[key]).strip()) if key == "client_id" else None
    return doubt.told(say) if doubt is not None else ""


def secret_problem(choice: Choice, secret: str) -> str:
    """What is wrong with a client secret; no sentence quotes it."""
    if (wrong := miscopied(secret)) is not None:
        return wrong.told(say)
    if " " in secret:
        return say("a client secret is one word, without spaces")
    doubt = client_secret_doubt(choice.kind, secret)
    return doubt.told(say) if doubt is not None else ""


def unquoted(text: str) -> str:
    """The text without quotes around it: Windows copies a path with quotes, a terminal adds them to a dropped file, and
    `"*@example.com"` has them in YAML."""
    return text[1:-1] if len(text) > 2 and text[0] == text[-1] and text[0] in "\"'" else text


def file_problem(text: str) -> str:
    """Why the file of this path cannot be read; empty if it can."""
    try:
        with Path(unquoted(text)).expanduser().open("rb"):
            return ""
    except (OSError, RuntimeError, ValueError) as error:  # no such home directory; a character that no path may have
        return unreadable(error)


def unreadable(error: Exception) -> str:
    """The sentence about a named file that cannot be read."""
    return said("this file cannot be read: {reason}", reason=system_reason(error)).told(say)


_STARTTLS_PORTS: Final = frozenset({25, 110, 143, 587})
"""Ports on which mail servers begin in clear text (RFC 8314 section 3)."""
_SERVER: Final = re.compile(r"([^\s:/]+):([0-9]{1,5})(?:\s+(starttls|implicit))?")


def mail_server(text: str) -> dict[str, Scalar] | str:
    """`host:port`, and `starttls` or `implicit` where the port does not tell; or what is wrong with it."""
    found = _SERVER.fullmatch(text.strip())
    if found is None or not 0 < int(found[2]) < 65536:
        return say("must be a host and a port such as imap.example.com:993, or imap.example.com:143 starttls")
    port = int(found[2])
    usual = TlsMode.STARTTLS if port in _STARTTLS_PORTS else TlsMode.IMPLICIT
    return {"host": found[1], "port": port, "tls": found[3] or usual.value}


def account_problem(account: AccountAnswer) -> str:
    """What is wrong with an account by itself."""
    values = {"address": account.address, "provider": account.provider}
    try:
        AccountConfig.model_validate(values | ({"sign_in_as": account.sign_in_as} if account.sign_in_as else {}))
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        sentence = sentences.sentence(detail, None, has_references=False).told(say)
        return f"sign_in_as: {sentence}" if detail["loc"] == ("sign_in_as",) else sentence
    return ""
