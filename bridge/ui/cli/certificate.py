"""`mail-bridge certificate`: what mail programs must trust, where the bridge makes its ports' certificate itself."""

from __future__ import annotations

import json
from pathlib import Path

import click

from bridge.advice.said import said
from bridge.config.diff import configured_listeners
from bridge.config.load import LoadedConfig
from bridge.doctor.certificates import CertificateFile, read_certificate_file
from bridge.errors import BridgeError
from bridge.ui.cli.configured import Settings, load
from bridge.ui.cli.overwriting import refuse_another_kind
from bridge.ui.cli.reaching import made_certificate
from bridge.ui.cli.session import DONE, FAILED, as_service, why_not_written, with_settings
from bridge.ui.cli.speaking import Command
from bridge.ui.i18n import say


@click.command(cls=Command)
@click.option(
    "--export",
    "export_file",
    type=click.Path(path_type=Path, dir_okay=False, writable=True),
    metavar="FILE",
    help="Write the certificate to import to this file, as PEM; for example authority.crt.",
)
@click.option("--new", is_flag=True, help="Make a new one, with a new key; it must then be imported again everywhere.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@with_settings
@as_service
def certificate(settings: Settings, export_file: Path | None, new: bool, as_json: bool) -> int:
    """Show the certificate that mail-bridge makes for ports with TLS; if there is none yet, make it.

    Exit code 1 if no port uses one.
    """
    if export_file is not None:
        refuse_another_kind(export_file, _is_one_certificate)
    loaded = load(settings)
    users = [one.address for one in configured_listeners(loaded.config) if one.address.is_certificate_made]
    if not users:
        sentence = say(
            "No port uses a certificate made by mail-bridge: one is made for a port that has `tls` but no "
            "`certificate`."
        )
        click.echo("null" if as_json else sentence)
        return FAILED
    found = _made(loaded, [name for one in users for name in one.certificate_names], is_new=new)
    file = made_certificate(loaded).authority_file
    if export_file is not None:
        _export(settings, file, export_file, is_new=new)
        file = export_file
    click.echo(json.dumps(_row(file, found), indent=2) if as_json else _text(file, found))
    return DONE


def _is_one_certificate(beginning: bytes) -> bool:
    """True for what is exported here. A server's file has a chain or a key behind its certificate."""
    return beginning.startswith(b"-----BEGIN CERTIFICATE-----") and beginning.count(b"-----BEGIN ") == 1


_DEBIAN = "/usr/local/share/ca-certificates"


def _made(loaded: LoadedConfig, names: list[str], *, is_new: bool) -> CertificateFile:
    made = made_certificate(loaded)
    if is_new:
        made.make_anew(names)
    else:
        made.ensure(names)
    found = read_certificate_file(made.authority_file)
    if found is None:
        raise BridgeError(said("{path} cannot be read", path=made.authority_file))
    return found


def _export(settings: Settings, source: Path, target: Path, *, is_new: bool) -> None:
    try:
        target.write_bytes(source.read_bytes())
    except OSError as problem:
        reason = why_not_written(settings, problem)
        if is_new:  # told of the file alone, a person would think that the old certificate is still in force
            raise BridgeError(
                said(
                    "The certificate has been replaced, but {path} could not be written ({reason}). The one to import "
                    "is in {file}",
                    path=target,
                    reason=reason,
                    file=source,
                )
            ) from problem
        raise BridgeError(said("{path} cannot be written: {reason}", path=target, reason=reason)) from problem


def _row(file: Path, found: CertificateFile) -> dict[str, object]:
    return {
        "file": str(file),
        "issuer": found.certificate.issuer,
        "valid_until": str(found.certificate.last_day),
        "sha256": found.sha256,
        "sha1": found.sha1,
    }


def _text(file: Path, found: CertificateFile) -> str:
    name = f'"{file.name}"' if " " in file.name else file.name
    lines = [
        say("Import this certificate, once, on each machine whose mail programs connect with TLS:"),
        f"  {file}",
        say(
            "It can vouch for this bridge only: its own key was deleted once it had signed, so it can sign "
            "nothing else. It is valid until {day}."
        ).format(day=found.certificate.last_day),
        f"  {found.certificate.issuer}",
        f"  SHA-256 {found.sha256}",
        f"  SHA-1   {found.sha1}",
        f"Windows        certutil -addstore Root {name}",
        f"macOS          sudo security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain {name}",
        f"Debian/Ubuntu  sudo cp {name} {_DEBIAN}/mail-bridge.crt && sudo update-ca-certificates",
        say(
            "Thunderbird    Settings, Privacy & Security, Certificates, Manage Certificates, Authorities, Import: "
            "trust it for websites"
        ),
    ]
    return "\n".join(lines)
