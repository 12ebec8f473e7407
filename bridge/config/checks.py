"""Checks that need two parts of the file, or the disk; they cover all parts that are valid by themselves."""

from __future__ import annotations

import ipaddress
import json
import os
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import TypeAdapter, ValidationError

from bridge.advice.said import Said, said
from bridge.advice.system import system_reason
from bridge.config.addresses import ConsoleAddress, ListenAddress, LocalAddress
from bridge.config.console import DEFAULT_PORT, console_url, console_urls
from bridge.config.endpoints import effective_endpoint
from bridge.config.google import GoogleProvider
from bridge.config.microsoft import MicrosoftProvider
from bridge.config.nodes import Keys, path_of
from bridge.config.provider import Flow
from bridge.config.providers import PROVIDER, ProviderConfig
from bridge.config.schema import Config, Listeners, NotifyConfig
from bridge.config.sentences import closest, unknown_provider
from bridge.config.source import Source
from bridge.config.values import is_loopback, same_name
from bridge.files.existing import is_file
from bridge.model import Protocol
from bridge.shortage import may_pass

LONGEST_FILE = 1024 * 1024
"""Bytes; the system's own bundle of all authorities has a quarter of it."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a file that are valid by themselves."""

    provider_names: tuple[str, ...]
    """All that are in the file, valid or not."""
    providers: Mapping[str, ProviderConfig]
    places: tuple[tuple[Keys, LocalAddress], ...]
    """Listeners and, last, the console: where local programs connect."""
    notify: NotifyConfig | None
    """None if it is invalid by itself."""

    @classmethod
    def of(cls, values: Mapping[str, Any], context: Mapping[str, Any]) -> Parts:
        """Validate each part alone; failures have been reported already, when the whole file was validated."""
        providers = values.get("providers")
        named = providers if isinstance(providers, dict) else {}
        return cls(
            tuple(named),
            {name: part for name, value in named.items() if (part := _valid(PROVIDER, value, context)) is not None},
            tuple(_places(values, context)),
            _valid(TypeAdapter(NotifyConfig), values.get("notify", {}), context),
        )

    @property
    def console(self) -> ConsoleAddress | None:
        """None if it is invalid by itself."""
        return next((address for _, address in self.places if isinstance(address, ConsoleAddress)), None)


def check(source: Source, parts: Parts) -> None:
    """Report all that is found to `source`."""
    _check_accounts(source, parts)
    _check_places(source, parts)
    if parts.notify is not None and parts.notify.ca_file is not None:
        _check_certificates(source, ("notify", "ca_file"), parts.notify.ca_file)
    for name, provider in parts.providers.items():
        keys: Keys = ("providers", name)
        if all(effective_endpoint(provider, protocol) is None for protocol in Protocol):
            source.report(keys, said("no mail server: give `host` to at least one of imap, pop3 and smtp"))
        _check_redirect(source, keys, provider, parts.console)
        _check_files(source, keys, provider)


def _valid(adapter: TypeAdapter[Any], value: Any, context: Mapping[str, Any]) -> Any:
    try:
        return adapter.validate_python(value, context=dict(context))
    except ValidationError:
        return None


def _places(values: Mapping[str, Any], context: Mapping[str, Any]) -> Iterator[tuple[Keys, LocalAddress]]:
    written = values.get("listeners", {})
    for protocol in Protocol:
        name = protocol.value
        value = {name: written[name]} if isinstance(written, dict) and name in written else {}
        listeners: Listeners | None = _valid(TypeAdapter(Listeners), value, context)
        for index, address in enumerate(listeners.of(protocol) if listeners else ()):
            is_list = isinstance(value.get(name), list)
            yield (("listeners", name, index) if is_list else ("listeners", name)), address
    default = Config.model_fields["console"].get_default(call_default_factory=True)
    console = _valid(TypeAdapter(ConsoleAddress), values.get("console", default), context)
    if console is not None:
        yield ("console",), console


# --- accounts -------------------------------------------------------------------------------------------------------


def _check_accounts(source: Source, parts: Parts) -> None:
    """Accounts with another mistake are checked, too: an unknown key must not hide an unknown provider."""
    accounts = source.values.get("accounts")
    seen: dict[str, Keys] = {}
    for index, account in enumerate(accounts if isinstance(accounts, list) else []):
        if not isinstance(account, dict):
            continue
        keys: Keys = ("accounts", index)
        _check_provider(source, (*keys, "provider"), account.get("provider"), parts.provider_names)
        _check_first_use(source, keys, account, parts.providers)
        names: list[tuple[Keys, Any]] = [((*keys, "address"), account.get("address"))]
        aliases = account.get("aliases")
        names += [
            ((*keys, "aliases", n), alias) for n, alias in enumerate(aliases if isinstance(aliases, list) else [])
        ]
        for at, name in names:
            if not isinstance(name, str) or not name.strip() or source.is_settled(at):
                continue
            first = seen.setdefault(same_name(name), at)
            if first != at:
                sentence = said(
                    "{name} is an account or an alias already, in line {line}",
                    name=source.shown(at, name),
                    line=source.place(first).line,
                )
                source.report(at, sentence)


def _check_first_use(source: Source, keys: Keys, account: dict[str, Any], providers: Mapping[str, Any]) -> None:
    """first-use needs the page to which the browser comes back: there the person who has signed in says which mail
    program is theirs."""
    own: Keys = (*keys, "local_password")
    at: Keys = own if source.has(own) else ("local_password",)
    wanted = account["local_password"] if source.has(own) else source.values.get("local_password")
    provider = providers.get(str(account.get("provider")))
    if wanted != "first-use" or provider is None or provider.flow is Flow.BROWSER or source.is_settled(at):
        return
    why = said("first-use needs a provider with `flow: browser`, where a person says whose password it is")
    remedy = said("{why}; give accounts[{number}] `local_password: random`", why=why, number=keys[1])
    source.report(at, why if at == own else remedy)


def _check_provider(source: Source, keys: Keys, name: Any, known: tuple[str, ...]) -> None:
    if not isinstance(name, str) or not name or name in known or not known or source.is_settled(keys):
        return
    guess = None if source.has_references(keys) else closest(name, known)
    source.report(keys, unknown_provider(source.shown(keys, name), guess))


# --- ports ----------------------------------------------------------------------------------------------------------


def _check_places(source: Source, parts: Parts) -> None:
    taken: dict[tuple[str, int], tuple[Keys, LocalAddress]] = {}
    for keys, place in parts.places:
        if isinstance(place, ListenAddress) and place.certificate and place.key:
            _check_pair(source, (*keys, "certificate"), place.certificate, (*keys, "key"), place.key)
        needed = _sockets(place)
        other = next((taken[socket] for socket in needed if socket in taken), None)
        if other is None:
            taken |= dict.fromkeys(needed, (keys, place))
        elif source.has(other[0]) and not source.has(keys):
            _report_taken(source, other[0], other[1], by=keys)  # the default console: report the entry in the file
        else:
            _report_taken(source, keys, place, by=other[0])


def _report_taken(source: Source, keys: Keys, place: LocalAddress, *, by: Keys) -> None:
    at = (*keys, "address") if source.is_section(keys) else keys
    if source.is_settled(at):
        return
    address, other = source.shown(at, place.address), path_of(by)
    if source.has(by):
        sentence = said(
            "{address} is taken by {other} (line {line}); choose another port",
            address=address,
            other=other,
            line=source.place(by).line,
        )
    else:
        sentence = said("{address} is taken by {other} by default; choose another port", address=address, other=other)
    source.report(at, sentence)


def _sockets(place: LocalAddress) -> set[tuple[str, int]]:
    """The sockets that this place needs. A wildcard (0.0.0.0) is taken to include loopback, but no other address."""
    if place.port == 0:
        return set()
    host = place.host.lower()
    if host == "localhost" or (isinstance(place, ConsoleAddress) and place.is_local):
        return {("127.0.0.1", place.port), ("::1", place.port)}
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return {(host, place.port)}
    if address.is_unspecified:
        return {(str(address), place.port), ("127.0.0.1" if address.version == 4 else "::1", place.port)}
    return {(str(address), place.port)}


def _check_redirect(source: Source, keys: Keys, provider: ProviderConfig, console: ConsoleAddress | None) -> None:
    """The browser must come back to us. A redirect to another host is for a proxy in front of us: the admin's job."""
    at: Keys = (*keys, "redirect_uri")
    if console is None or not source.has(at) or console.port == 0 or source.is_settled(("console",)):
        return
    url = urlsplit(provider.redirect_uri)
    if not is_loopback(url.hostname or "") or source.is_settled(at):
        return
    if provider.redirect_uri in console_urls(console.port):
        return
    is_quotable = not source.has_references(("console",))
    here = (
        console_url(console.port) if is_quotable else said("the console's address, {url}", url="http://localhost:PORT/")
    )
    port = DEFAULT_PORT if url.scheme == "http" and url.port is None else url.port
    if url.hostname == "localhost" and port and url.path in {"", "/"} and not source.has_references(at):
        sentence = said(
            "the browser would come back to an address where no console listens: use {url} here and at the provider, "
            "or `console: {address}`",
            url=here,
            address=f"127.0.0.1:{port}",
        )
    else:
        sentence = said(
            "the browser would come back to an address where no console listens: use {url} here and at the provider, "
            "or change `console`",
            url=here,
        )
    source.report(at, sentence)


# --- files ----------------------------------------------------------------------------------------------------------


def _check_files(source: Source, keys: Keys, provider: ProviderConfig) -> None:
    if provider.ca_file is not None:
        _check_certificates(source, (*keys, "ca_file"), provider.ca_file)
    if isinstance(provider, MicrosoftProvider) and provider.client_certificate is not None:
        at: Keys = (*keys, "client_certificate")
        if provider.client_certificate_key is None:
            _check_pair(source, at, provider.client_certificate, at, provider.client_certificate)
        else:
            key_at: Keys = (*keys, "client_certificate_key")
            _check_pair(source, at, provider.client_certificate, key_at, provider.client_certificate_key)
    if isinstance(provider, GoogleProvider) and provider.service_account_file is not None:
        _check_service_account(source, (*keys, "service_account_file"), provider.service_account_file)


def _check_service_account(source: Source, keys: Keys, path: str) -> None:
    """Accepts the JSON key that Google makes, and not the OAuth client's file, which looks alike."""
    content = _content(source, keys, path)
    if content is None:
        return
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    shown = _file(source, keys, path)
    if not isinstance(found, dict):
        source.report(keys, said("the file {file} is not the JSON key of a service account", file=shown))
    elif found.get("type") != "service_account":
        sentence = said(
            "the file {file} is another kind of key file; make a key (type JSON) at the service account itself",
            file=shown,
        )
        source.report(keys, sentence)
    elif not (isinstance(found.get("client_email"), str) and isinstance(found.get("private_key"), str)):
        sentence = said("the file {file} lacks client_email or private_key: download the key again", file=shown)
        source.report(keys, sentence)


def _check_certificates(source: Source, keys: Keys, path: str) -> None:
    text = _pem(source, keys, path, "CERTIFICATE")
    if text is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError):
        source.report(keys, said("the certificates in {file} are damaged", file=_file(source, keys, path)))


def _check_pair(source: Source, certificate_keys: Keys, certificate: str, key_keys: Keys, key: str) -> None:
    texts = [
        _pem(source, certificate_keys, certificate, "CERTIFICATE"),
        _pem(source, key_keys, key, "PRIVATE KEY"),
    ]
    if None in texts:
        return
    if "ENCRYPTED" in (texts[1] or ""):
        file = _file(source, key_keys, key)
        source.report(key_keys, said("the key in {file} has a password; store it without one", file=file))
        return
    try:
        # An empty password is given because OpenSSL would otherwise ask for one on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, ValueError) as error:
        is_mismatch = isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH"
        ours, theirs = _file(source, key_keys, key), _file(source, certificate_keys, certificate)
        source.report(
            key_keys,
            said("{key} is not the key of the certificate in {certificate}", key=ours, certificate=theirs)
            if is_mismatch
            else said(
                "{key} is damaged, or cannot be used with the certificate in {certificate}",
                key=ours,
                certificate=theirs,
            ),
        )
    except OSError as error:  # the file was there, and readable, a moment ago: somebody is just renewing it
        keys, path = (certificate_keys, certificate) if os.path.exists(key) else (key_keys, key)
        source.report(keys, _unreadable(source, keys, path, error), may_pass=True)


def _pem(source: Source, keys: Keys, path: str, label: Literal["CERTIFICATE", "PRIVATE KEY"]) -> str | None:
    """The file's text; None, and a report, if it holds no such PEM block."""
    content = _content(source, keys, path)
    if content is None:
        return None
    text = content.decode("ascii", "replace")
    if f"{label}-----" not in text or "-----BEGIN " not in text:
        shown = _file(source, keys, path)
        source.report(
            keys,
            said("the file {file} holds no certificate in PEM form (-----BEGIN … CERTIFICATE-----)", file=shown)
            if label == "CERTIFICATE"
            else said("the file {file} holds no private key in PEM form (-----BEGIN … PRIVATE KEY-----)", file=shown),
        )
        return None
    return text


def _content(source: Source, keys: Keys, path: str) -> bytes | None:
    """The file's content; None, and a report, if it cannot be read."""
    if source.is_settled(keys):
        return None
    shown = _file(source, keys, path)
    try:
        if not is_file(Path(path)):
            source.report(keys, said("there is no file {file}", file=shown))
            return None
        with Path(path).open("rb") as file:
            return file.read(LONGEST_FILE)
    except OSError as error:
        source.report(keys, _unreadable(source, keys, path, error), may_pass=may_pass(error))
        return None


def _unreadable(source: Source, keys: Keys, path: str, error: OSError) -> Said:
    return said(
        "the file {name} cannot be read ({reason}); let mail-bridge's user read it",
        name=_file(source, keys, path),
        reason=system_reason(error),
    )


def _file(source: Source, keys: Keys, path: str) -> str:
    """The absolute path, unless a reference is in it."""
    return source.shown(keys, path) if source.has_references(keys) else path
