"""The configuration of email-oauth2-proxy to our YAML: text in; YAML, secrets and what is left to do out (pure).

What has no place here becomes a comment that says what to do instead. Tokens are never looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bridge.advice.said import Said, Translate, said
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
    left_out: tuple[tuple[str, int, Said], ...]
    """Section, line, reason."""
    notes: tuple[Said, ...]
    """On the file as a whole."""
    directory: Path
    home: SecretHome
    source: str
    translate: Translate

    def comment(self, sentences: Iterable[Said], indent: int = 0, *, bullet: bool = False) -> list[str]:
        """In the reader's language."""
        return comment((sentence.told(self.translate) for sentence in sentences), indent, bullet=bullet)


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
        translate,
    )
    yaml = "\n".join(_lines(found)) + "\n"
    if len(yaml.encode()) > LARGEST:
        sentence = said('more accounts than one file takes; use catch-all accounts ("*@example.com")')
        raise ConfigError([at(source, sentence)])
    return Imported(
        yaml,
        tuple(provider.kept for provider in found.providers if provider.kept is not None),
        tuple(sentence.told(translate) for sentence in _to_do(found)),
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
    name(good)  # anew: no office365-2 without an office365
    return [provider_of(group, ports, home, is_only=is_only) for group in good]


def _once_each(groups: Sequence[Group], left_out: list[tuple[str, int, Said]]) -> list[Group]:
    """Of accounts whose names differ in case only, the first that can be carried."""
    first: dict[str, Account] = {}
    for account in sorted((account for group in groups for account in group.accounts), key=lambda one: one.line):
        known = first.setdefault(same_name(account.address), account)
        if known is not account:
            reason = said(
                "[{section}] (line {line}) is the same for mail-bridge, which does not look at case",
                section=known.section,
                line=known.line,
            )
            left_out.append((account.section, account.line, reason))
    for group in groups:
        group.accounts = [account for account in group.accounts if first[same_name(account.address)] is account]
    return [group for group in groups if group.accounts]


def _with_redirect(provider: Provider, console: int) -> Provider:
    found = redirect(provider.redirect_uri, provider.kind, console)
    remarks = () if found.remark is None else (found.remark,)
    return provider.extended({} if found.uri is None else {"redirect_uri": found.uri}, remarks)


def _nothing(source: str, left_out: Iterable[tuple[str, int, Said]]) -> Iterator[Said]:
    reasons = [(line, section, reason) for section, line, reason in left_out if "@" in section]
    if not reasons:
        nothing = said("there is no account in it, such as [alice@example.com]; nothing can be carried")
        yield at(f"{source}:1", nothing)
    for line, section, reason in sorted(reasons, key=lambda item: item[:2]):
        yield at(f"{source}:{line}", at(f"[{section}]", reason))


# --- words on the whole file ----------------------------------------------------------------------------------------

_SWITCHES = {
    "delete_account_token_on_password_error": said(
        "delete_account_token_on_password_error is not needed: here, a wrong password never costs anybody a sign-in."
    ),
    "encrypt_client_secret_on_first_use": said(
        "encrypt_client_secret_on_first_use is not needed: the secret stands in no file that the program writes."
    ),
    "use_login_password_as_client_credentials_secret": said(
        "use_login_password_as_client_credentials_secret is not possible here: the app's secret is the administrator's."
    ),
    "allow_catch_all_accounts": said(
        'allow_catch_all_accounts is not needed: an account such as "*@example.com" is for everybody of its domain.'
    ),
}


def _notes(sections: Sequence[IniSection], switches: Globals) -> Iterator[Said]:
    for option, sentence in _SWITCHES.items():
        if option in switches.written:
            yield sentence
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
                yield said(
                    "[{section}] (line {line}) had no effect: it would have to be in upper case.",
                    section=section.name,
                    line=section.line,
                )
            continue  # the sample configuration has sections that are headings only
        strange |= {option: section.name for option in section.options if option not in known}
    for option, where in strange.items():
        yield said(
            "{option} (in [{section}], and perhaps elsewhere) was no option that the program knew; it is left out.",
            option=option,
            section=where,
        )


def _to_do(found: _Found) -> Iterator[Said]:
    if narrowed := [str(port.port) for port in found.ports if port.is_narrowed]:
        yield said(
            "Only programs on this machine can connect to port {ports} now. If one runs elsewhere: give the listener "
            "its address, with tls and `exposed: true`.",
            ports=", ".join(narrowed),
        )
    for provider in found.providers:
        yield from _secret_to_do(provider, found)
        for remark in provider.remarks:
            if remark.to_do:
                yield at(provider.name, remark.text)


def _secret_to_do(provider: Provider, found: _Found) -> Iterator[Said]:
    """What to do for its secret: one sentence, or none."""
    kept, is_file = provider.kept, found.home is SecretHome.FILES
    if kept is None:
        return
    if provider.hidden_secret is not None and kept.value is None:
        yield _unknown_secret(provider.name, provider.hidden_secret, kept.place, is_file=is_file)
    elif not is_file:
        yield _known_secret(kept, provider.accounts[0].section, found.source)


def _unknown_secret(provider: str, reason: Said, place: str, *, is_file: bool) -> Said:
    if is_file:
        return said(
            "The client secret of {provider} is not known: {reason}. Take it from where you keep it, or make a new one "
            "at the provider, and put it into the file {file}.",
            provider=provider,
            reason=reason,
            file=place,
        )
    return said(
        "The client secret of {provider} is not known: {reason}. Take it from where you keep it, or make a new one at "
        "the provider, and set {variable} to it where mail-bridge starts.",
        provider=provider,
        reason=reason,
        variable=place,
    )


def _known_secret(kept: Kept, section: str, source: str) -> Said:
    """For an environment variable."""
    if kept.is_path:
        return said(
            "Put the client_secret that [{section}] has in {source} into a file of its own, and set {variable} to its "
            "path where mail-bridge starts.",
            section=section,
            source=source,
            variable=kept.place,
        )
    return said(
        "Set {variable} to the client_secret that [{section}] has in {source} where mail-bridge starts, or write "
        "`${{file:path}}` or `${{keyring:name}}` instead.",
        variable=kept.place,
        section=section,
        source=source,
    )


# --- the YAML -------------------------------------------------------------------------------------------------------


def _lines(found: _Found) -> Iterator[str]:
    yield from found.comment(
        [
            said(
                "Made by `mail-bridge import` from {file}, the configuration of email-oauth2-proxy.", file=found.source
            ),
            said("Comments say what is not carried, and what to do instead. All settings: config.example.yaml."),
        ]
    )
    yield "#"
    yield from found.comment(_changes(found), bullet=True)
    yield from found.comment(found.notes, bullet=True)
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
        yield from found.comment([said("The status page, and where the browser comes back to after a sign-in.")])
        yield f"console: 127.0.0.1:{found.console}"


def _changes(found: _Found) -> Iterator[Said]:
    if found.ports:
        yield said(
            "Mail programs keep server and port. Each port now serves everybody: the user name picks the account."
        )
    yield said("Mail programs need another password: `mail-bridge accounts password ADDRESS` shows it.")
    if any(provider.has_people for provider in found.providers):
        yield said(
            "Everybody signs in once more: the old program's tokens are not read. Who has a refresh token in clear can "
            "hand it over instead: `mail-bridge accounts adopt ADDRESS`."
        )


def _provider_lines(provider: Provider, found: _Found) -> list[str]:
    lines = [f"  {scalar(provider.name)}:"]
    remarks = [remark.text for remark in provider.remarks]
    lines += found.comment([*remarks, *_secret_to_do(provider, found)], 4)
    for key in sorted(provider.settings, key=_place):
        lines += entry(key, provider.settings[key], 4)
    return lines


_ORDER = ("kind", "preset", "tenant", "cloud", "flow", "client_id", "client_secret")


def _place(key: str) -> int:
    """As in config.example.yaml: who we are first, where the mail is last."""
    return _ORDER.index(key) if key in _ORDER else len(_ORDER) + (key in {protocol.value for protocol in Protocol})


def _account_lines(found: _Found) -> Iterator[str]:
    if any(provider.kind == "microsoft" and provider.has_people for provider in found.providers):
        third = said(
            "A shared mailbox, or a sign-in name that is not the address, needs a third line that says who signs in:"
        )
        yield from found.comment([third])
        yield "#   sign_in_as: alice@example.com"
    yield "accounts:"
    carried = [(account, provider) for provider in found.providers for account in provider.accounts]
    for account, provider in sorted(carried, key=lambda pair: pair[0].line):
        yield f"  - address: {scalar(account.address)}"
        yield f"    provider: {scalar(provider.name)}"
    if not found.left_out:
        return
    reasons: dict[Said, list[str]] = {}
    for section, line, reason in found.left_out:
        place = said("[{section}] (line {line})", section=section, line=line)
        reasons.setdefault(reason, []).append(place.told(found.translate))
    yield ""
    yield from found.comment([said("Not carried from {file}:", file=found.source)])
    sentences = (
        said("{sections}: {reason}.", sections=", ".join(places), reason=reason) for reason, places in reasons.items()
    )
    yield from found.comment(sentences, bullet=True)


def _listener_lines(found: _Found) -> Iterator[str]:
    yield "listeners:"
    for protocol in Protocol:
        ports = [port for port in found.ports if port.protocol is protocol]
        if not ports:
            (reason,) = found.comment([said("the old file had no such port")])
            yield f"  {protocol.value}: off  {reason}"
            continue
        yield f"  {protocol.value}:"
        for port in ports:
            yield from found.comment(_port_remarks(port), 4)
            if port.tls is None:
                yield f"    - {scalar(port.address)}"
                continue
            yield f"    - address: {scalar(port.address)}"
            yield f"      tls: {port.tls.value}"
            yield f"      certificate: {scalar(absolute(port.certificate, found.directory))}"
            yield f"      key: {scalar(absolute(port.key, found.directory))}"
            if port.is_exposed:
                yield "      exposed: true"


def _port_remarks(port: Server) -> Iterator[Said]:
    upstream = port.upstream
    if upstream is None:
        yield said("[{section}] led nowhere: its server is malformed.", section=port.section)
    else:
        server = f"{upstream.host}:{upstream.port}"
        yield said("[{section}] led to {server}.", section=port.section, server=server)
    yield from port.remarks
