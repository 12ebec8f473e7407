"""`mail-bridge authorize ADDRESS`: sign in from the command line."""

from __future__ import annotations

import asyncio
import webbrowser

import click

from bridge.clock import SystemClock
from bridge.control.contract import Control, SignInStarted
from bridge.errors import BridgeError
from bridge.notices import AuthorizationEnded, Authorized, FlightChecked, Notice
from bridge.ui.cli.session import DONE, FAILED, Settings, in_loop, reach_with_console, with_settings


@click.command()
@click.argument("address")
@click.option("--no-browser", is_flag=True, help="Only print the URL.")
@with_settings
def authorize(settings: Settings, address: str, no_browser: bool) -> int:
    """Sign in for ADDRESS: opens the browser, waits for the answer. Exit code 0 once it is checked and stored.

    Works beside a running bridge, and without one.
    """

    async def work() -> int:
        async with reach_with_console(settings) as control:
            return await sign_in(control, address, open_browser=not no_browser)

    return in_loop(work())


async def sign_in(control: Control, address: str, *, open_browser: bool) -> int:
    """The whole dialogue with the person; returns the exit code: 0 once the sign-in is stored."""
    ended: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()

    async def listen() -> None:
        try:
            async for notice in control.notices():
                if isinstance(notice, Authorized) and notice.address == address.lower():
                    click.echo(f"{notice.address} is signed in as {notice.subject}. Trying the mail servers …")
                elif (ending := _ending(notice, address)) is not None:
                    ended.set_result(ending)
                    return
        except BridgeError as problem:  # the running bridge has gone away
            ended.set_result((FAILED, f"mail-bridge: {problem}"))

    async with asyncio.TaskGroup() as group:
        listener = group.create_task(listen())
        await asyncio.sleep(0)  # so that it listens before anything can happen
        try:
            begun = await control.begin_authorization(address)
            await asyncio.to_thread(_show, begun, open_browser)
            async with asyncio.timeout(max(begun.expires_at - SystemClock().now(), 1)):
                code, sentence = await ended
            if code == DONE:
                sentence = await _servers(control, begun.address) or sentence
        except TimeoutError:
            code, sentence = FAILED, f"Nobody signed in for {address} in time. Run the command again for a new link."
        except BridgeError as problem:
            code, sentence = FAILED, f"mail-bridge: {problem}"
        finally:
            listener.cancel()
    click.echo(sentence, err=code != DONE)
    return code


async def _servers(control: Control, address: str) -> str:
    """A line for each mail server that was tried; empty if the bridge does not remember."""
    status = await control.status()
    checks = next((account.checks for account in status.accounts if account.address == address), ())
    return "\n".join(
        f"{check.protocol.upper():<5} " + ("works" if check.is_ok else f"does not work: {check.sentence}")
        for check in checks
    )


def _show(begun: SignInStarted, open_browser: bool) -> None:
    click.echo(f"To sign in for {begun.address}, open this page in your browser:\n\n  {begun.url}\n")
    if open_browser and not webbrowser.open(begun.url):
        click.echo("No browser could be started here; copy the link to one on this machine.", err=True)


def _ending(notice: Notice, address: str) -> tuple[int, str] | None:
    """Exit code and sentence that end the wait, if this notice is about our account and final."""
    match notice:
        case FlightChecked(found, _) if found == address.lower():
            return DONE, "The mail servers were not tried; the log says why."
        case AuthorizationEnded(found, _, reason) if found == address.lower():
            return FAILED, f"The sign-in for {found} did not succeed: {reason}"
        case _:
            return None
