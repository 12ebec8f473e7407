"""`mail-bridge status`: the running bridge at a glance."""

from __future__ import annotations

import dataclasses
import json

import click

from bridge.control.contract import AccountState, Status
from bridge.ui.cli.accounts import DOTS
from bridge.ui.cli.session import DONE, FAILED, Settings, in_loop, reach_running, with_settings
from bridge.ui.i18n import tell


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@with_settings
def status(settings: Settings, as_json: bool) -> int:
    """Ask the running bridge how it is. Exit code 1 if none is running."""

    async def work() -> int:
        async with reach_running(settings) as control:
            if control is None:
                click.echo("null" if as_json else "mail-bridge is not running (start it with: mail-bridge run)")
                return FAILED
            found = await control.status()
        click.echo(json.dumps(dataclasses.asdict(found), indent=2) if as_json else render(found))
        return DONE

    return in_loop(work())


def render(found: Status) -> str:
    """The status as lines for a terminal."""
    lines = [f"mail-bridge {found.version} is running" + (" (demo)" if found.is_demo else "")]
    lines.append(f"configuration: {found.config_file}")
    lines += [f"warning: {warning}" for warning in found.warnings]
    lines += [
        f"{listener.protocol:<5} {listener.address:<21} {_counted(listener.sessions, 'session')}"
        + (f", TLS {listener.tls}" if listener.tls else "")
        for listener in found.listeners
    ]
    for account in found.accounts:
        line = f"{DOTS[account.state]} {account.address}: {account.state.value}"
        if account.detail:
            line += f" ({tell(account.detail, account.diagnosis)})"
        if account.state is AccountState.SIGN_IN:
            line += f" → {account.sign_in_url}"
        lines.append(line)
    return "\n".join(lines)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
