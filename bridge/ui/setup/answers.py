"""What has been answered so far, and what is wrong with an answer: by the same models that read the file later."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from pydantic import TypeAdapter, ValidationError

from bridge.config import sentences
from bridge.config.providers import Flow, ProviderConfig
from bridge.config.schema import AccountConfig
from bridge.ui.i18n import say

_PROVIDER: TypeAdapter[ProviderConfig] = TypeAdapter(ProviderConfig)


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

    @property
    def settings(self) -> dict[str, str]:
        """What stands in the file before anything is asked."""
        name, kind, flow = self.value
        return {"kind": kind, **({"preset": name} if kind == "oauth2" else {}), **({"flow": flow} if flow else {})}

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
        """Under which it goes into the file: its own name, or the first of `gmail-2`, `gmail-3`… that is free."""
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
    settings: Mapping[str, str]
    """As they go into the file, without the secret."""
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


_GUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def setting_problem(settings: Mapping[str, str], key: str) -> str:
    """What is wrong with one of a provider's settings, the others as they are so far; empty if nothing is."""
    try:
        _PROVIDER.validate_python(dict(settings))
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            if detail["loc"][1:] == (key,):
                return sentences.sentence(detail, settings[key], has_references=False).told(say)
    return ""


def secret_problem(choice: Choice, secret: str) -> str:
    """What is wrong with a client secret; its text is in no sentence."""
    if not secret.isprintable() or any(character.isspace() for character in secret):
        return say("a client secret is one word, without spaces")
    if choice.kind == "microsoft" and _GUID.fullmatch(secret):
        return say("this is the Secret ID; copy the Value of the secret, which Microsoft shows only when it is made")
    return ""


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
