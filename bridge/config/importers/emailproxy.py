"""The configuration of email-oauth2-proxy to our YAML: text in; YAML, secrets and what is left to do out (pure).

What has no equivalent here becomes a comment that says what to do instead. Tokens are never looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bridge.advice.said import Said, Translate, said
from bridge.config.importers.accounts import Account, Globals, NotCarried, read_accounts
from bridge.config.importers.document import Found, document
from bridge.config.importers.drafts import Draft, draft
from bridge.config.importers.ini import read_ini
from bridge.config.importers.providers import Group, Kept, Provider, SecretHome, grouped, name, provider_of
from bridge.config.importers.redirects import console_port, redirect
from bridge.config.importers.remarks import notes, to_do
from bridge.config.importers.servers import Server, read_servers
from bridge.config.load import LARGEST
from bridge.config.nodes import at
from bridge.config.values import same_name
from bridge.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of the other program's file."""

    yaml: str
    """Can be loaded once the secrets in `kept` are in their places."""
    kept: tuple[Kept, ...]
    to_do: tuple[str, ...]
    """What somebody must do before all of it works; one sentence or two each. The YAML says these, and more."""
    accounts: int
    providers: int
    left_out: int
    """How many sections are not carried over."""


def import_emailproxy(
    text: str, *, source: str, directory: Path, home: SecretHome, translate: Translate = str
) -> Imported:
    """Our YAML for a configuration of email-oauth2-proxy.

    Args: source, the file's name, for errors and comments; directory, the file's own, to which relative paths in it
        are taken to belong; home, where secrets go; translate, for comments and what is left to do.
    Raises: ConfigError with the line, for a file that is malformed or has nothing to carry.
    """
    sections = read_ini(text, source)
    switches = Globals.of(sections)
    ports, bad_ports = read_servers(sections)
    carried, bad_accounts = read_accounts(sections, switches)
    left_out = [(section.name, section.line, reason) for section, reason in (*bad_ports, *bad_accounts)]
    providers = _providers(carried, ports, switches, directory, home, left_out)
    if not providers:
        raise ConfigError(_nothing(source, left_out))
    console = console_port(
        ((uri, provider.kind, accounts) for provider in providers for uri, accounts in provider.redirect_uris.items()),
        {port.port for port in ports},
    )
    remarks = tuple(notes(sections, switches))
    found = Found(
        tuple(_with_redirect(provider, console) for provider in providers),
        ports,
        console,
        tuple(sorted(left_out, key=lambda item: item[1])),
        remarks,
        directory,
        home,
        source,
        translate,
    )
    yaml = document(found)
    if len(yaml.encode()) > LARGEST:
        sentence = said('more accounts than one file can have; use catch-all accounts ("*@example.com")')
        raise ConfigError([at(source, sentence)])
    return Imported(
        yaml,
        tuple(provider.kept for provider in found.providers if provider.kept is not None),
        tuple(sentence.told(translate) for sentence in to_do(found.providers, ports, home, source)),
        sum(len(provider.accounts) for provider in found.providers),
        len(found.providers),
        len(left_out),
    )


def _providers(
    carried: Sequence[Account],
    ports: Sequence[Server],
    switches: Globals,
    directory: Path,
    home: SecretHome,
    left_out: list[tuple[str, int, Said]],
) -> list[Provider]:
    drafts: list[tuple[Account, Draft]] = []
    for account in carried:
        try:
            drafts.append((account, draft(account, switches, directory)))
        except NotCarried as problem:
            left_out.append((account.section, account.line, problem.reason))
    groups = grouped(drafts)
    is_only = (len(groups) == 1, sum(group.draft.family is None for group in groups) == 1)
    good = []
    for group in groups:
        try:
            provider_of(group, ports, home, is_only=is_only)
        except NotCarried as problem:
            left_out += [(account.section, account.line, problem.reason) for account in group.accounts]
        else:
            good.append(group)
    good = _once_each(good, left_out)
    name(good)  # again: there should be no office365-2 without an office365
    return [provider_of(group, ports, home, is_only=is_only) for group in good]


def _once_each(groups: Sequence[Group], left_out: list[tuple[str, int, Said]]) -> list[Group]:
    """Keep only the first account that can be carried over, of those whose names differ only in case."""
    first: dict[str, Account] = {}
    for account in sorted((account for group in groups for account in group.accounts), key=lambda one: one.line):
        known = first.setdefault(same_name(account.address), account)
        if known is not account:
            reason = said(
                "[{section}] (line {line}) is the same for mail-bridge, which does not distinguish upper and lower "
                "case",
                section=known.section,
                line=known.line,
            )
            left_out.append((account.section, account.line, reason))
    for group in groups:
        group.accounts = [account for account in group.accounts if first[same_name(account.address)] is account]
    return [group for group in groups if group.accounts]


def _with_redirect(provider: Provider, console: int) -> Provider:
    found = redirect(provider.redirect_uris, provider.kind, console)
    uri = found.uri or f"http://localhost:{console}/"
    settings = provider.settings if found.uri is None else {**provider.settings, "redirect_uri": found.uri}
    remarks = (*(remark.with_redirect(uri) for remark in provider.remarks), found.remark)
    return replace(provider, settings=settings, remarks=tuple(remark for remark in remarks if remark is not None))


def _nothing(source: str, left_out: Iterable[tuple[str, int, Said]]) -> Iterator[Said]:
    reasons = [(line, section, reason) for section, line, reason in left_out if "@" in section]
    if not reasons:
        nothing = said("there is no account in it, such as [alice@example.com]; there is nothing to carry over")
        yield at(f"{source}:1", nothing)
    for line, section, reason in sorted(reasons, key=lambda item: item[:2]):
        yield at(f"{source}:{line}", at(f"[{section}]", reason))
