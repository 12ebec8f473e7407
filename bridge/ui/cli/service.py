"""`mail-bridge service`: the bridge of the whole machine, started and kept by the system."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from bridge.advice.said import Said, said
from bridge.config.diff import configured_listeners
from bridge.errors import ConfigError
from bridge.host.system_service import SystemService, system_service
from bridge.ui.cli.calling import administrators_program
from bridge.ui.cli.configured import Settings, as_named, first_of, load
from bridge.ui.cli.session import DONE, passing_settings, with_settings
from bridge.ui.cli.speaking import Command, Group
from bridge.ui.i18n import say


@click.group(cls=Group)
@passing_settings
def service() -> None:
    """Make the bridge a service of this machine, for all of its users: a systemd service on Linux, a scheduled task on
    Windows."""


@service.command(cls=Command, short_help="Install and start the service, as an administrator.")
@with_settings
def install(settings: Settings) -> int:
    """Install the service and start it, as an administrator. It reads the whole machine's configuration.

    On Linux it runs as the user mail-bridge, which is created and given that configuration; on Windows as SYSTEM.
    Run this command again after moving mail-bridge or configuring a port below 1024.
    """
    found = _of_the_machine(settings)
    found.install(_tell)
    click.echo(say("The bridge is now a service of this machine, and it is running."))
    click.echo("\n" + say("Next:"))
    steps = {
        "check --online": say("tries everything that mail has to pass through"),
        "accounts password " + say("ADDRESS"): say("shows the password with which the mail program logs in"),
    }
    for command, purpose in steps.items():
        click.echo(f"  {administrators_program()} {command}\n      {purpose}")
    return DONE


@service.command(cls=Command, short_help="Stop and remove the service; configuration and sign-ins stay.")
@with_settings
def remove(settings: Settings) -> int:
    """Stop the service and remove it, as an administrator. Configuration, store and sign-ins stay."""
    system_service(_file(settings)).remove(_tell)  # whatever its configuration has become
    return DONE


@service.command(cls=Command, short_help="Print what `install` would give to the system.")
@with_settings
def show(settings: Settings) -> int:
    """Print what `install` would give to the system, for those who install it in another way: a unit, or a
    task's XML."""
    click.echo(_of_the_machine(settings).definition(), nl=False)
    return DONE


def _of_the_machine(settings: Settings) -> SystemService:
    """For its configuration, which must load. Raises: ConfigError, ServiceTrouble."""
    file = _file(settings)
    try:
        loaded = load(dataclasses.replace(settings, config=file))
    except ConfigError:
        if first_of([file]) is not None:
            raise
        command = f"{administrators_program()} init --output {file}"
        raise ConfigError([said("a service needs {file} first: {command}", file=file, command=command)]) from None
    opened = [*(one.address for one in configured_listeners(loaded.config)), loaded.config.console]
    return system_service(file, [(address.host, address.port) for address in opened])


def _file(settings: Settings) -> Path:
    from bridge.host.paths import CONFIG_NAME, machine_config_dir

    file = machine_config_dir() / CONFIG_NAME
    if settings.config is not None and as_named(settings.config) != file:
        raise ConfigError([said("a service reads {file}, and no other configuration", file=file)])
    return file


def _tell(step: Said) -> None:
    click.echo(step.told(say))
