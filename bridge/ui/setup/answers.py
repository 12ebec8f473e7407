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
                return told(sentences.sentence(detail, settings[key], has_references=False))
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
        sentence = told(sentences.sentence(detail, None, has_references=False))
        return f"sign_in_as: {sentence}" if detail["loc"] == ("sign_in_as",) else sentence
    return ""


def told(english: str) -> str:
    """A sentence of the models in the language of this context; one that is not here stays English.

    These are for whoever edits the file, and name its keys; at a question, a few of them come up again and again.
    """
    start, old, url = english.partition("this is a v1 endpoint; use the v2 one: ")
    if old and not start:
        return say("this is a v1 endpoint; use the v2 one: {url}").format(url=url)
    for leaf in ("authorize", "token"):
        if english == f"this is the other endpoint; it must end in /oauth2/v2.0/{leaf}":
            return say("this is the other endpoint; it must end in /oauth2/v2.0/{leaf}").format(leaf=leaf)
        if (found := re.fullmatch(rf"must look like (https://\S+/{leaf})", english)) is not None:
            return say("must look like {example}").format(example=found[1])
    if (found := re.fullmatch(r"put your tenant's id in place of (\S+)", english)) is not None:
        return say("put your tenant's id in place of {text}").format(text=found[1])
    if english.endswith(" is not the GUID or the domain of a tenant"):
        return say("this is not the GUID or the domain of a tenant")
    return _known().get(english, english)


def _known() -> dict[str, str]:
    address = 'must be an address such as alice@example.com, or "*@example.com" for a whole domain'
    person = "must be the address of one person, such as alice@example.com, not a whole domain"
    pattern = 'sign_in_as and aliases belong to one address, not to a "*@domain" pattern'
    return {
        "must be a text without spaces, and not empty": say("must be a text without spaces, and not empty"),
        "must be a day such as 2027-01-31": say("must be a day such as 2027-01-31"),
        "is not a URL such as https://example.com/path": say("is not a URL such as https://example.com/path"),
        "must begin with https:// (http:// is for localhost only)": say(
            "must begin with https:// (http:// is for localhost only)"
        ),
        "authorization_url and token_url name different hosts or tenants": say(
            "authorization_url and token_url name different hosts or tenants"
        ),
        "`flow: client_credentials` needs the tenant's own GUID or domain": say(
            "`flow: client_credentials` needs the tenant's own GUID or domain"
        ),
        address: say('must be an address such as alice@example.com, or "*@example.com" for a whole domain'),
        person: say("must be the address of one person, such as alice@example.com, not a whole domain"),
        pattern: say('sign_in_as and aliases belong to one address, not to a "*@domain" pattern'),
    }
