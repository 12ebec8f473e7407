"""`mail-bridge status`: the running bridge at a glance."""

from __future__ import annotations

import dataclasses
import json

import click

from bridge.control.contract import AccountState, Status
from bridge.ui.cli.accounts import DOTS, leftover_lines, rows_of, state_word
from bridge.ui.cli.configured import Settings
from bridge.ui.cli.reaching import not_running, reach_running
from bridge.ui.cli.session import DONE, FAILED, as_service, async_command, with_settings
from bridge.ui.cli.speaking import Command
from bridge.ui.i18n import say, say_number, tell


@click.command(cls=Command)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@with_settings
@as_service
@async_command
async def status(settings: Settings, as_json: bool) -> int:
    """Show the state of the running bridge. Exit code 1 if none is running."""
    async with reach_running(settings) as control:
        if control is None:
            click.echo("null" if as_json else not_running(settings))
            return FAILED
        found = await control.status()
    click.echo(json.dumps(_row(found), indent=2) if as_json else render(found, settings.program))
    return DONE


def render(found: Status, program: str) -> str:
    """The status as lines for a terminal. `program` is ours, as it can be called."""
    up = say("mail-bridge {version} is running (demo)") if found.is_demo else say("mail-bridge {version} is running")
    lines = [up.format(version=found.version)]
    lines.append(say("configuration: {file}").format(file=found.config_file))
    lines += [say("warning: {warning}").format(warning=warning.told(say)) for warning in found.warnings]
    lines += [
        f"{listener.protocol:<5} {listener.address:<21} "
        + say_number("{number} session", "{number} sessions", listener.sessions).format(number=listener.sessions)
        + (f", TLS {listener.tls}" if listener.tls else "")
        for listener in found.listeners
    ]
    for account in found.accounts:
        line = f"{DOTS[account.state]} {account.address}{say(': ')}{state_word(account.state)}"
        if account.detail:
            line += f" ({tell(account.detail, account.diagnosis)})"
        if account.state is AccountState.SIGN_IN:
            line += f" → {account.sign_in_url}"
        lines.append(line)
    if found.leftovers:
        lines += leftover_lines(found, program)
    return "\n".join(lines)


def _row(found: Status) -> dict[str, object]:
    """For programs: warnings as sentences, in English."""
    warnings = [warning.told() for warning in found.warnings]
    return {**dataclasses.asdict(found), "accounts": rows_of(found), "warnings": warnings}
