"""What is said of an imported file as a whole, and what somebody must do before all of it works."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bridge.advice.said import Said, said
from bridge.config.importers import accounts as accounts_of
from bridge.config.importers import servers as servers_of
from bridge.config.importers.accounts import Globals
from bridge.config.importers.ini import DEFAULT, IniSection
from bridge.config.importers.providers import Kept, Provider, SecretHome
from bridge.config.importers.servers import Server
from bridge.config.nodes import at

_SWITCHES = {
    "delete_account_token_on_password_error": said(
        "delete_account_token_on_password_error is not needed: here, a wrong password never makes anybody sign in "
        "again."
    ),
    "encrypt_client_secret_on_first_use": said(
        "encrypt_client_secret_on_first_use is not needed: the secret is not in any file that the program writes."
    ),
    "use_login_password_as_client_credentials_secret": said(
        "use_login_password_as_client_credentials_secret is not possible here: only the administrator has the app's "
        "secret."
    ),
    "allow_catch_all_accounts": said(
        'allow_catch_all_accounts is not needed: an account such as "*@example.com" is for everybody of its domain.'
    ),
}

_PLUGINS = "plugins"
"""An option of a server, in a branch of the other program."""

_ALL_KNOWN = servers_of.KNOWN | accounts_of.KNOWN | frozenset(_SWITCHES)
"""What stands in [DEFAULT] is meant for sections of any kind."""


def notes(sections: Sequence[IniSection], switches: Globals) -> Iterator[Said]:
    """Notes on options that are not needed here, not possible, or unknown to the other program."""
    for option, sentence in _SWITCHES.items():
        if option in switches.written:
            yield sentence
    strange: dict[str, str] = {}
    in_default: frozenset[str] = frozenset()
    for section in sections:
        known = _known(section)
        if known is not None:
            strange |= {option: section.name for option in section.options if option not in known | section.inherited}
            in_default |= section.inherited
        elif servers_of.is_almost_server(section):
            yield said(
                "[{section}] (line {line}) had no effect: it would have to be in upper case.",
                section=section.name,
                line=section.line,
            )
    strange |= dict.fromkeys(sorted(in_default - _ALL_KNOWN), DEFAULT)
    for option, where in strange.items():
        if option == _PLUGINS:
            yield said(
                "plugins (in [{section}], and perhaps elsewhere) are not carried over: what passes after the login is "
                'not examined. In place of IMAPIgnoreSentMessageUpload, switch off "save a copy in Sent" in the mail '
                "program.",
                section=where,
            )
            continue
        yield said(
            "{option} (in [{section}], and perhaps elsewhere) was not an option that the old program knew; it is left "
            "out.",
            option=option,
            section=where,
        )


def _known(section: IniSection) -> frozenset[str] | None:
    """Options of a section of this kind; None for one that means nothing, such as the headings of the sample file."""
    if servers_of.is_server(section):
        return servers_of.KNOWN
    if "@" in section.name:
        return accounts_of.KNOWN
    return frozenset(_SWITCHES) if section.name == accounts_of.GLOBAL else None


def to_do(providers: Sequence[Provider], ports: Sequence[Server], home: SecretHome, source: str) -> Iterator[Said]:
    """One sentence or two each."""
    if narrowed := [str(port.port) for port in ports if port.is_narrowed]:
        yield said(
            "Only programs on this machine can connect to port {ports} now. If one runs elsewhere: give the listener "
            "its address, with tls and `exposed: true`.",
            ports=", ".join(narrowed),
        )
    for provider in providers:
        yield from secret_to_do(provider, home, source)
        for remark in provider.remarks:
            if remark.to_do:
                yield at(provider.name, remark.text)


def secret_to_do(provider: Provider, home: SecretHome, source: str) -> Iterator[Said]:
    """What to do for its secret: one sentence, or none."""
    kept, is_file = provider.kept, home is SecretHome.FILES
    if kept is None:
        return
    if provider.hidden_secret is not None and kept.value is None:
        yield _unknown_secret(provider.name, provider.hidden_secret, kept.place, is_file=is_file)
    elif not is_file:
        yield _known_secret(kept, source)


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


def _known_secret(kept: Kept, source: str) -> Said:
    """For an environment variable."""
    if kept.is_path:
        return said(
            "Put the client_secret that [{section}] has in {source} into a file of its own, and set {variable} to its "
            "path where mail-bridge starts.",
            section=kept.section,
            source=source,
            variable=kept.place,
        )
    return said(
        "Set {variable} to the client_secret that [{section}] has in {source} where mail-bridge starts, or write "
        "`${{file:path}}` or `${{keyring:name}}` instead.",
        variable=kept.place,
        section=kept.section,
        source=source,
    )
