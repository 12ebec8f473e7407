"""The configuration of email-oauth2-proxy to our YAML: text in; YAML, secrets and what is left to do out (pure).

What has no place here becomes a comment that says what to do instead. Tokens are never looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bridge.advice.said import Said, said
from bridge.config.importers import accounts as accounts_of
from bridge.config.importers import servers as servers_of
from bridge.config.importers.accounts import Account, Globals, NotCarried, read_accounts
from bridge.config.importers.drafts import Draft, absolute, draft
from bridge.config.importers.ini import IniSection, read_ini
from bridge.config.importers.providers import Group, Kept, Provider, SecretHome, grouped, name, provider_of
from bridge.config.importers.redirects import DEFAULT_PORT, console_port, redirect
from bridge.config.importers.servers import Server, read_servers
from bridge.config.importers.yaml_text import comment, entry, scalar
from bridge.config.load import LARGEST
from bridge.config.nodes import at
from bridge.config.values import same_name
from bridge.errors import ConfigError
from bridge.model import Protocol


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of the other program's file."""

    yaml: str
    """Loads as soon as what is in `kept` is where it says."""
    kept: tuple[Kept, ...]
    to_do: tuple[str, ...]
    """What somebody must do before all of it works; one sentence or two each. The YAML says these, and more."""
    accounts: int
    providers: int
    left_out: int
    """Sections that are not carried."""


@dataclass(frozen=True, slots=True)
class _Found:
    """All parts of the result."""

    providers: tuple[Provider, ...]
    ports: tuple[Server, ...]
    console: int
    left_out: tuple[tuple[str, int, str], ...]
    """Section, line, reason."""
    notes: tuple[str, ...]
    """On the file as a whole."""
    directory: Path
    home: SecretHome
    source: str


def import_emailproxy(text: str, *, source: str, directory: Path, home: SecretHome) -> Imported:
    """Our YAML for a configuration of email-oauth2-proxy.

    Args: source, the file's name, for errors and comments; directory, the file's own, to which relative paths in it
        are taken to belong; home, where secrets go.
    Raises: ConfigError with the line, for a file that is malformed or has nothing to carry.
    """
    sections = read_ini(text, source)
    switches = Globals.of(sections)
    ports, bad_ports = read_servers(sections)
    known = read_accounts(sections, switches)
    left_out = [(section.name, section.line, reason) for section, reason in (*bad_ports, *known.refused)]
    providers = _providers(known.carried, ports, switches, directory, home, left_out)
    if not providers:
        raise ConfigError(_nothing(source, left_out))
    console = console_port(
        ((provider.redirect_uri, provider.kind, len(provider.accounts)) for provider in providers),
        {port.port for port in ports},
    )
    notes = tuple(_notes(sections, switches))
    found = _Found(
        tuple(_with_redirect(provider, console) for provider in providers),
        ports,
        console,
        tuple(sorted(left_out, key=lambda item: item[1])),
        notes,
        directory,
        home,
        source,
    )
    yaml = "\n".join(_lines(found)) + "\n"
    if len(yaml.encode()) > LARGEST:
        sentence = said('more accounts than one file takes; use catch-all accounts ("*@example.com")')
        raise ConfigError([at(source, sentence)])
    return Imported(
        yaml,
        tuple(provider.kept for provider in found.providers if provider.kept is not None),
        tuple(_to_do(found)),
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
    left_out: list[tuple[str, int, str]],
) -> list[Provider]:
    drafts: list[tuple[Account, Draft]] = []
    for account in carried:
        try:
            drafts.append((account, draft(account, switches, directory)))
        except NotCarried as reason:
            left_out.append((account.section, account.line, str(reason)))
    groups = grouped(drafts)
    is_only = (len(groups) == 1, sum(group.draft.family is None for group in groups) == 1)
    good = []
    for group in groups:
        try:
            provider_of(group, ports, home, is_only=is_only)
        except NotCarried as reason:
            left_out += [(account.section, account.line, str(reason)) for account in group.accounts]
        else:
            good.append(group)
    good = _once_each(good, left_out)
    name(good)  # anew: no office365-2 without an office365
    return [provider_of(group, ports, home, is_only=is_only) for group in good]


def _once_each(groups: Sequence[Group], left_out: list[tuple[str, int, str]]) -> list[Group]:
    """Of accounts whose names differ in case only, the first that can be carried."""
    first: dict[str, Account] = {}
    for account in sorted((account for group in groups for account in group.accounts), key=lambda one: one.line):
        known = first.setdefault(same_name(account.address), account)
        if known is not account:
            reason = f"[{known.section}] (line {known.line}) is the same for mail-bridge, which does not look at case"
            left_out.append((account.section, account.line, reason))
    for group in groups:
        group.accounts = [account for account in group.accounts if first[same_name(account.address)] is account]
    return [group for group in groups if group.accounts]


def _with_redirect(provider: Provider, console: int) -> Provider:
    found = redirect(provider.redirect_uri, provider.kind, console)
    remarks = () if found.remark is None else (found.remark,)
    return provider.extended({} if found.uri is None else {"redirect_uri": found.uri}, remarks)


def _nothing(source: str, left_out: Iterable[tuple[str, int, str]]) -> Iterator[str | Said]:
    reasons = [(line, f"[{section}]: {reason}") for section, line, reason in left_out if "@" in section]
    if not reasons:
        nothing = said("there is no account in it, such as [alice@example.com]; nothing can be carried")
        yield at(f"{source}:1", nothing)
    for line, reason in sorted(reasons):
        yield f"{source}:{line}: {reason}"


# --- words on the whole file ----------------------------------------------------------------------------------------

_SWITCHES = {
    "delete_account_token_on_password_error": "not needed: here, a wrong password never costs anybody a sign-in",
    "encrypt_client_secret_on_first_use": "not needed: the secret stands in no file that the program writes",
    "use_login_password_as_client_credentials_secret": "not possible here: the app's secret is the administrator's",
    "allow_catch_all_accounts": 'not needed: an account such as "*@example.com" is for everybody of its domain',
}


def _notes(sections: Sequence[IniSection], switches: Globals) -> Iterator[str]:
    for option, sentence in _SWITCHES.items():
        if option in switches.written:
            yield f"{option}: {sentence}."
    strange: dict[str, str] = {}
    for section in sections:
        if servers_of.is_server(section):
            known: frozenset[str] = servers_of.KNOWN
        elif "@" in section.name:
            known = accounts_of.KNOWN
        elif section.name == accounts_of.GLOBAL:
            known = frozenset(_SWITCHES)
        else:
            if servers_of.is_almost_server(section):
                yield f"[{section.name}] (line {section.line}) had no effect: it would have to be in upper case."
            continue  # the sample configuration has sections that are headings only
        strange |= {option: section.name for option in section.options if option not in known}
    for option, where in strange.items():
        yield f"{option} (in [{where}], and perhaps elsewhere) was no option that the program knew; it is left out."


def _to_do(found: _Found) -> Iterator[str]:
    if narrowed := [str(port.port) for port in found.ports if port.is_narrowed]:
        yield (
            f"Only programs on this machine can connect to port {', '.join(narrowed)} now. If one runs elsewhere: give "
            "the listener its address, with tls and `exposed: true`."
        )
    for provider in found.providers:
        if provider.kept is not None and (sentence := _secret_to_do(provider, provider.kept, found)):
            yield sentence
        for remark in provider.remarks:
            if remark.to_do:
                yield f"{provider.name}: {remark.text}"


def _secret_to_do(provider: Provider, kept: Kept, found: _Found) -> str:
    is_file = found.home is SecretHome.FILES
    if kept.value is None:
        remedy = "Take it from where you keep it, or make a new one at the provider"
        place = f"put it into the file {kept.place}" if is_file else f"set {kept.place} to it where mail-bridge starts"
        return f"The {kept.what} is not known: {provider.hidden_secret}. {remedy}, and {place}."
    if is_file:
        return ""
    where = f"the client_secret that [{provider.accounts[0].section}] has in {found.source}"
    if kept.is_path:
        return f"Put {where} into a file of its own, and set {kept.place} to its path where mail-bridge starts."
    return (
        f"Set {kept.place} to {where} where mail-bridge starts, or write ${{file:path}} or ${{keyring:name}} instead."
    )


# --- the YAML -------------------------------------------------------------------------------------------------------


def _lines(found: _Found) -> Iterator[str]:
    yield from comment(
        [
            f"Made by `mail-bridge import` from {found.source}, the configuration of email-oauth2-proxy.",
            "Comments say what is not carried, and what to do instead. All settings: config.example.yaml.",
        ]
    )
    yield "#"
    yield from comment(_changes(found), bullet=True)
    yield from comment(found.notes, bullet=True)
    yield ""
    yield "providers:"
    for index, provider in enumerate(found.providers):
        yield from [""] * bool(index) + _provider_lines(provider, found)
    yield ""
    yield from _account_lines(found)
    if found.ports:
        yield ""
        yield from _listener_lines(found)
    if found.console != DEFAULT_PORT:
        yield ""
        yield from comment(["The status page, and where the browser comes back to after a sign-in."])
        yield f"console: 127.0.0.1:{found.console}"


def _changes(found: _Found) -> Iterator[str]:
    if found.ports:
        yield "Mail programs keep server and port. Each port now serves everybody: the user name picks the account."
    yield "Mail programs need another password: `mail-bridge accounts password ADDRESS` shows it."
    if any(provider.has_people for provider in found.providers):
        yield (
            "Everybody signs in once more: the old program's tokens are not read. Who has a refresh token in clear can "
            "hand it over instead: `mail-bridge accounts adopt ADDRESS`."
        )


def _provider_lines(provider: Provider, found: _Found) -> list[str]:
    lines = [f"  {scalar(provider.name)}:"]
    remarks = [remark.text for remark in provider.remarks]
    if provider.kept is not None and (sentence := _secret_to_do(provider, provider.kept, found)):
        remarks.append(sentence)
    lines += comment(remarks, 4)
    for key in sorted(provider.settings, key=_place):
        lines += entry(key, provider.settings[key], 4)
    return lines


_ORDER = ("kind", "preset", "tenant", "cloud", "flow", "client_id", "client_secret")


def _place(key: str) -> int:
    """As in config.example.yaml: who we are first, where the mail is last."""
    return _ORDER.index(key) if key in _ORDER else len(_ORDER) + (key in {protocol.value for protocol in Protocol})


def _account_lines(found: _Found) -> Iterator[str]:
    if any(provider.kind == "microsoft" and provider.has_people for provider in found.providers):
        yield from comment(
            ["A shared mailbox, or a sign-in name that is not the address, needs a third line that says who signs in:"]
        )
        yield "#   sign_in_as: alice@example.com"
    yield "accounts:"
    carried = [(account, provider) for provider in found.providers for account in provider.accounts]
    for account, provider in sorted(carried, key=lambda pair: pair[0].line):
        yield f"  - address: {scalar(account.address)}"
        yield f"    provider: {scalar(provider.name)}"
    if not found.left_out:
        return
    reasons: dict[str, list[str]] = {}
    for section, line, reason in found.left_out:
        reasons.setdefault(reason, []).append(f"[{section}] (line {line})")
    yield ""
    yield from comment([f"Not carried from {found.source}:"])
    yield from comment((f"{', '.join(names)}: {reason}." for reason, names in reasons.items()), bullet=True)


def _listener_lines(found: _Found) -> Iterator[str]:
    yield "listeners:"
    for protocol in Protocol:
        ports = [port for port in found.ports if port.protocol is protocol]
        if not ports:
            yield f"  {protocol.value}: off  # the old file had no such port"
            continue
        yield f"  {protocol.value}:"
        for port in ports:
            yield from comment(_port_remarks(port), 4)
            if port.tls is None:
                yield f"    - {scalar(port.address)}"
                continue
            yield f"    - address: {scalar(port.address)}"
            yield f"      tls: {port.tls.value}"
            yield f"      certificate: {scalar(absolute(port.certificate, found.directory))}"
            yield f"      key: {scalar(absolute(port.key, found.directory))}"
            if port.is_exposed:
                yield "      exposed: true"


def _port_remarks(port: Server) -> Iterator[str]:
    upstream = port.upstream
    led = f"led to {upstream.host}:{upstream.port}" if upstream is not None else "led nowhere: its server is malformed"
    yield "; ".join((f"[{port.section}] {led}", *port.remarks)) + "."
