"""`mail-bridge console`: the administrator's pages of the running bridge, in the browser."""

from __future__ import annotations

from functools import partial

import click

from bridge.host import browser
from bridge.threads import in_thread
from bridge.ui.cli.configured import Settings
from bridge.ui.cli.reaching import not_running, reach_running
from bridge.ui.cli.session import DONE, FAILED, as_service, async_command, with_settings
from bridge.ui.cli.speaking import Command
from bridge.ui.i18n import say


@click.command(cls=Command)
@click.option("--no-browser", is_flag=True, help="Only print the URL.")
@with_settings
@as_service
@async_command
async def console(settings: Settings, no_browser: bool) -> int:
    """Open the running bridge's console, with all accounts, in the browser. Exit code 1 if none is running.

    The link works once, within a minute, in a browser of the user who ran this command, even with sudo.
    """
    async with reach_running(settings) as control:
        if control is None:
            click.echo(not_running(settings))
            return FAILED
        link = await control.console_link(settings.caller)
    invitation = say("All accounts, for the administrator (this link works once, within a minute):")
    click.echo(f"{invitation}\n\n  {link}\n")
    if not no_browser and not await in_thread(partial(browser.show, link)):
        click.echo(say("No browser could be started here; copy the link into one on this machine."), err=True)
    return DONE
