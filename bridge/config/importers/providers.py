"""Merges the drafts of many accounts into as few providers as they need: names, mail servers, places for secrets."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bridge.advice.said import Said, said
from bridge.config import sentences
from bridge.config.endpoints import effective_endpoint
from bridge.config.importers import servers
from bridge.config.importers.accounts import Account, NotCarried
from bridge.config.importers.drafts import Draft, Remark
from bridge.config.importers.redirects import without_port
from bridge.config.importers.servers import Server
from bridge.config.importers.yaml_text import Reference, Scalar, Value
from bridge.config.nodes import at
from bridge.config.provider import Flow
from bridge.config.providers import PROVIDER, ProviderConfig
from bridge.model import Protocol
from bridge.secret import Secret

SECRETS = "secrets"
"""Directory for secrets, beside the YAML."""


class SecretHome(Enum):
    """Where the secrets go, which must not stand in the YAML."""

    FILES = "files"
    """Into files beside the YAML, which is written to a file, too."""
    ENVIRONMENT = "environment"
    """Into variables: the YAML goes to standard output, and nothing else is written."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Something secret that the YAML refers to."""

    place: str
    """`secrets/office365.txt`, relative to the YAML's directory; or the name of an environment variable."""
    value: Secret[str] | None
    """None if only the admin has it."""
    section: str
    """The section of the other program's file that has it, if it is known."""
    is_path: bool = False
    """True for a variable that must hold the path of a file with it."""


@dataclass(slots=True)
class Group:
    """A provider-to-be and its accounts."""

    draft: Draft
    accounts: list[Account] = field(default_factory=list)
    domains: dict[str, None] = field(default_factory=dict)
    redirect_uris: Counter[str] = field(default_factory=Counter)
    """With the number of accounts that had each; they differ at most in the port of localhost."""
    remarks: dict[Remark, None] = field(default_factory=dict)
    name: str = ""

    def add(self, account: Account, draft: Draft) -> None:
        """One more account that needs the same."""
        self.accounts.append(account)
        self.domains |= dict.fromkeys(draft.domains)
        self.redirect_uris[draft.redirect_uri] += 1
        self.remarks |= dict.fromkeys(draft.remarks)

    def take(self, other: Group) -> None:
        """All accounts of the other group, in the order of the file."""
        self.accounts = sorted([*self.accounts, *other.accounts], key=lambda account: account.line)
        self.domains |= other.domains
        self.redirect_uris += other.redirect_uris
        self.remarks |= other.remarks

    @property
    def line(self) -> int:
        """The line of its first account."""
        return self.accounts[0].line


@dataclass(frozen=True, slots=True)
class Provider:
    """A section of `providers`, ready to be written."""

    name: str
    kind: str
    settings: Mapping[str, Value]
    accounts: tuple[Account, ...]
    redirect_uris: Mapping[str, int]
    """As they were there, with the number of accounts that had each."""
    remarks: tuple[Remark, ...]
    kept: Kept | None
    hidden_secret: Said | None = None
    """Why its client secret is not known; None if it is, or if there is none."""

    @property
    def has_people(self) -> bool:
        """True if somebody signs in."""
        return "flow" not in self.settings or not Flow(str(self.settings["flow"])).is_unattended


def grouped(drafts: Sequence[tuple[Account, Draft]]) -> list[Group]:
    """Group the accounts with the same needs, in the order of the file, and name the groups.

    Where some accounts have the client secret in clear and others have it encrypted, the clear one is used for all.
    """
    groups: dict[tuple[object, ...], dict[str | None, Group]] = {}
    for account, draft in drafts:
        secret = draft.client_secret.reveal() if draft.client_secret is not None else None
        key = None if draft.hidden_secret is not None else secret or ""
        identity = (*draft.identity, without_port(draft.redirect_uri))
        group = groups.setdefault(identity, {}).setdefault(key, Group(draft))
        group.add(account, draft)
    for alike in groups.values():
        if None in alike and len(clear := [key for key in alike if key]) == 1:
            alike[clear[0]].take(alike.pop(None))
    found = sorted((group for alike in groups.values() for group in alike.values()), key=lambda g: g.line)
    name(found)
    return found


def name(groups: Sequence[Group]) -> None:
    """Give each a name of its own: gmail, office365, office365-2."""
    taken: set[str] = set()
    for group in groups:
        names = (group.draft.title if n == 1 else f"{group.draft.title}-{n}" for n in range(1, len(groups) + 2))
        group.name = next(name for name in names if name not in taken)
        taken.add(group.name)


def provider_of(group: Group, ports: Sequence[Server], home: SecretHome, *, is_only: tuple[bool, bool]) -> Provider:
    """What to write for a group.

    Args: is_only, whether it is the only provider of all, and the only one whose servers no preset knows.
    Raises: NotCarried if our own checks would refuse it, or if its mail servers cannot be determined.
    """
    draft = group.draft
    settings: dict[str, Any] = dict(draft.settings)
    kept = _kept(group, home)
    if kept is not None:
        key = "service_account_file" if draft.service_account is not None else "client_secret"
        settings[key] = _reference(kept, home, is_file=draft.service_account is not None)
    remarks = list(group.remarks)
    checked = _checked(settings)
    for protocol, upstreams in _servers(group, ports, is_only=is_only).items():
        preset = effective_endpoint(checked, protocol)
        upstream = next((one for one in upstreams if not one.differs_from(preset)), upstreams[0])
        if override := upstream.differs_from(preset):
            settings[protocol.value] = override
        if len(upstreams) > 1:
            others = ", ".join(f"{one.host}:{one.port}" for one in upstreams if one is not upstream)
            text = said(
                "{protocol}: a provider has one server here; left out: {servers}.",
                protocol=protocol.value,
                servers=others,
            )
            remarks.append(Remark(text))
    checked = _checked(settings)
    if all(effective_endpoint(checked, protocol) is None for protocol in Protocol):
        raise NotCarried(
            said(
                "the names of the servers do not show which of them belong to it; write the provider with `imap`, "
                "`pop3` and `smtp`, as config.example.yaml shows"
            )
        )
    return Provider(
        group.name,
        settings["kind"],
        settings,
        tuple(group.accounts),
        group.redirect_uris,
        tuple(remarks),
        kept,
        draft.hidden_secret,
    )


def _checked(settings: Mapping[str, Any]) -> ProviderConfig:
    """As our loader will read it. Raises: NotCarried in our loader's words."""
    try:
        return PROVIDER.validate_python(dict(settings), context={"directory": Path()})
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
    key = str(detail["loc"][-1]) if len(detail["loc"]) > 1 else ""
    reason = sentences.sentence(detail, None, has_references=True)  # quotes nothing
    raise NotCarried(at(key, reason) if key else reason)


def _servers(group: Group, ports: Sequence[Server], *, is_only: tuple[bool, bool]) -> servers.Choice:
    """The servers of its family; without a preset, those with a similar name, or all that no other provider claims."""
    only_one, only_stranger = is_only
    own = servers.of_family(ports, group.draft.family) if group.draft.family is not None else {}
    unclaimed = servers.of_family(ports, None)
    if only_one or (only_stranger and group.draft.family is None):
        return {**unclaimed, **own}
    return own if group.draft.family is not None else servers.closest(unclaimed, group.domains)


# --- secrets --------------------------------------------------------------------------------------------------------


def _kept(group: Group, home: SecretHome) -> Kept | None:
    draft, title, section = group.draft, group.name, group.draft.secret_section
    variable = re.sub(r"[^A-Z0-9]", "_", title.upper())
    variable = variable if variable[0].isalpha() else f"_{variable}"
    if draft.service_account is not None:
        if home is SecretHome.FILES:
            return Kept(f"{SECRETS}/{title}.json", draft.service_account, section)
        return Kept(f"{variable}_KEY_FILE", draft.service_account, section, is_path=True)
    if draft.client_secret is None and draft.hidden_secret is None:
        return None
    place = f"{SECRETS}/{title}.txt" if home is SecretHome.FILES else f"{variable}_CLIENT_SECRET"
    return Kept(place, draft.client_secret, section)


def _reference(kept: Kept, home: SecretHome, *, is_file: bool) -> Scalar:
    if home is SecretHome.ENVIRONMENT:
        return Reference(f"${{{kept.place}}}")
    return kept.place if is_file else Reference(f"${{file:{kept.place}}}")
