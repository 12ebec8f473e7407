"""An imported configuration as YAML, with comments on what is not carried and what to do instead."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bridge.advice.said import Said, Translate, said
from bridge.config.console import USUAL_CONSOLE
from bridge.config.importers.drafts import absolute
from bridge.config.importers.providers import Provider, SecretHome
from bridge.config.importers.remarks import secret_to_do
from bridge.config.importers.servers import Server
from bridge.config.importers.yaml_text import comment, entry, scalar
from bridge.model import Protocol


@dataclass(frozen=True, slots=True)
class Found:
    """All that was found in the other program's file."""

    providers: tuple[Provider, ...]
    ports: tuple[Server, ...]
    console: int
    left_out: tuple[tuple[str, int, Said], ...]
    """Section, line, reason."""
    notes: tuple[Said, ...]
    """Notes on the file as a whole."""
    directory: Path
    home: SecretHome
    source: str
    translate: Translate

    def comment(self, sentences: Iterable[Said], indent: int = 0, *, bullet: bool = False) -> list[str]:
        """Comment lines in the reader's language."""
        return comment((sentence.told(self.translate) for sentence in sentences), indent, bullet=bullet)


def document(found: Found) -> str:
    """The whole text."""
    return "\n".join(_lines(found)) + "\n"


def _lines(found: Found) -> Iterator[str]:
    yield from found.comment(
        [
            said(
                "Made by `mail-bridge import` from {file}, the configuration of email-oauth2-proxy.", file=found.source
            ),
            said("Comments say what is not carried over, and what to do instead. All settings: config.example.yaml."),
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
    if found.console != USUAL_CONSOLE:
        yield ""
        yield from found.comment([said("The status page, and where the browser comes back to after a sign-in.")])
        yield f"console: 127.0.0.1:{found.console}"


def _changes(found: Found) -> Iterator[Said]:
    if found.ports:
        yield said(
            "Mail programs keep their server and port. Each port now serves everybody: the user name selects the "
            "account."
        )
    yield said("Mail programs need another password: `mail-bridge accounts password ADDRESS` shows it.")
    if any(provider.has_people for provider in found.providers):
        yield said(
            "Everybody must sign in once more: the old program's tokens are not read. Anyone who has a refresh token "
            "in plain text can hand it over instead: `mail-bridge accounts adopt ADDRESS`."
        )


def _provider_lines(provider: Provider, found: Found) -> list[str]:
    lines = [f"  {scalar(provider.name)}:"]
    remarks = [remark.text for remark in provider.remarks]
    lines += found.comment([*remarks, *secret_to_do(provider, found.home, found.source)], 4)
    for key in sorted(provider.settings, key=_place):
        lines += entry(key, provider.settings[key], 4)
    return lines


_ORDER = ("kind", "preset", "tenant", "cloud", "flow", "client_id", "client_secret")


def _place(key: str) -> int:
    """The order of config.example.yaml: the client's identity first, the mail servers last."""
    return _ORDER.index(key) if key in _ORDER else len(_ORDER) + (key in {protocol.value for protocol in Protocol})


def _account_lines(found: Found) -> Iterator[str]:
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
    yield from found.comment([said("Not carried over from {file}:", file=found.source)])
    sentences = (
        said("{sections}: {reason}.", sections=", ".join(places), reason=reason) for reason, places in reasons.items()
    )
    yield from found.comment(sentences, bullet=True)


def _listener_lines(found: Found) -> Iterator[str]:
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
