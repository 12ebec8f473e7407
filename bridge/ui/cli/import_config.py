"""`mail-bridge import`: another bridge's configuration to our YAML."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import click

from bridge.advice.said import said
from bridge.advice.system import system_reason
from bridge.config.importers.emailproxy import Imported, import_emailproxy
from bridge.config.importers.ini import decoded
from bridge.config.importers.providers import SecretHome
from bridge.config.load import load_config
from bridge.config.nodes import at
from bridge.errors import ConfigError
from bridge.ui.cli.calling import own_program, with_config
from bridge.ui.cli.configured import Settings
from bridge.ui.cli.session import DONE, with_settings
from bridge.ui.cli.speaking import Command
from bridge.ui.i18n import say
from bridge.ui.setup.writing import is_taken, write_configuration

LARGEST = 64 * 1024 * 1024
"""Bytes of the other program's file; an account with its tokens has some 6,000."""


@click.command("import", cls=Command)
@click.argument("file", type=click.Path(path_type=Path, readable=False))
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), metavar="FILE", help="Write here. [default: standard output]"
)
@click.option("--force", is_flag=True, help="Overwrite files that exist.")
@with_settings
def import_config(_: Settings, file: Path, output: Path | None, force: bool) -> int:
    """Read FILE, the configuration of email-oauth2-proxy, and write that of mail-bridge.

    With --output, client secrets go into files of their own, which only you can read, in the directory `secrets`
    beside it. Without it, the YAML names environment variables in their place. The old program's tokens are not
    read.
    """
    source = _read(file)
    home = SecretHome.FILES if output is not None else SecretHome.ENVIRONMENT
    imported = import_emailproxy(source, source=file.name, directory=file.absolute().parent, home=home, translate=say)
    if output is None:
        is_screen = sys.stdout.isatty()
        click.echo(imported.yaml if is_screen else imported.yaml.encode(), nl=False)  # UTF-8, whatever the code page
        _report(imported, ())
        return DONE
    if is_taken(output) and _is_same(output, file):
        raise click.UsageError(say("{file} is the file to read; name another one to write").format(file=output))
    files = _files(imported, output)
    if not force and (there := [str(path) for path in files if is_taken(path)]):
        sentence = say("already there: {files}; name another file, or add --force to overwrite")
        raise click.UsageError(sentence.format(files=", ".join(there)))
    write_configuration(files, files if force else ())
    _report(imported, files)
    _check(output)
    return DONE


def _read(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            content = opened.read(LARGEST + 1)
    except OSError as error:
        raise _unreadable(file, error) from error
    if len(content) > LARGEST:
        raise ConfigError([at(str(file), said("this file is larger than {most} MiB", most=LARGEST // 1024 // 1024))])
    return decoded(content, file.name)


def _is_same(output: Path, file: Path) -> bool:
    try:
        return output.samefile(file)
    except OSError as error:
        raise _unreadable(error.filename, error) from error


def _unreadable(file: Path | str, error: OSError) -> ConfigError:
    return ConfigError([at(str(file), said("this file cannot be read: {reason}", reason=system_reason(error)))])


def _files(imported: Imported, output: Path) -> dict[Path, str]:
    """What to write, the YAML last: it never names a file that is not there yet."""
    secrets = {output.parent / kept.place: kept.value.reveal() for kept in imported.kept if kept.value is not None}
    return {**secrets, output: imported.yaml}


def _report(imported: Imported, files: Iterable[Path]) -> None:
    """Report on standard error, because standard output may be the YAML."""
    for path in files:
        click.echo(say("wrote {file}").format(file=path), err=True)
    counts = {"accounts": imported.accounts, "providers": imported.providers, "left_out": imported.left_out}
    sentence = (
        say("{accounts} account(s), {providers} provider(s); {left_out} section(s) left out, see the comments")
        if imported.left_out
        else say("{accounts} account(s), {providers} provider(s)")
    )
    click.echo(sentence.format(**counts), err=True)
    for number, sentence in enumerate(imported.to_do, start=1):
        click.echo(f"{number}. {sentence}", err=True)


def _check(output: Path) -> None:
    """What our own loader says of it: a certificate or a secret may have to be put in its place first."""
    try:
        load_config(output)
    except ConfigError as problem:
        click.echo(say("Before the bridge can start:"), err=True)
        for sentence in problem.sentences:
            click.echo(f"  {sentence.told(say)}", err=True)
        return
    click.echo(say("next: {command}").format(command=f"{with_config(own_program(), output)} check"), err=True)
