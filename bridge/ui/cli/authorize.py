"""`mail-bridge authorize ADDRESS`: sign in from the command line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from functools import partial

import click

from bridge.clock import SystemClock
from bridge.control.contract import Control, SignInStarted
from bridge.control.redirect import pasted
from bridge.errors import AuthorizationFailed, BridgeError, ProviderNotAsked
from bridge.host import browser
from bridge.notices import AuthorizationEnded, Authorized, Notice, ServersChecked
from bridge.threads import NotDone, NoThread, Threads, in_thread
from bridge.ui.cli.accounts import lines_of
from bridge.ui.cli.configured import Settings
from bridge.ui.cli.reaching import reach_with_console
from bridge.ui.cli.session import DONE, FAILED, as_service, async_command, read_line, with_settings
from bridge.ui.cli.speaking import Command
from bridge.ui.cli.unsaved import Save, saved
from bridge.ui.i18n import say, tell, tell_problem

LAST_SECOND = 180.0
"""Seconds to wait for the result of a sign-in whose browser came back just in time: redeeming the code may take 85, and
each mail server is tried."""
LOOK_SECONDS = 2.0
WAITS = None
"""In place of an exit code: somebody has signed in, but the store does not take the grant yet."""
Ending = tuple[int | None, str]
"""Exit code and sentence."""


@click.command(cls=Command)
@click.argument("address")
@click.option("--no-browser", is_flag=True, help="Only print the URL.")
@click.option("--paste", is_flag=True, help="The browser is on another computer: ask for the address it ends at.")
@with_settings
@as_service
@async_command
async def authorize(settings: Settings, address: str, no_browser: bool, paste: bool) -> int:
    """Sign in for ADDRESS: opens the browser and waits for the answer. Exit code 0 once it is checked and stored.

    Works with or without a running bridge. For a provider with `flow: device`, it shows a code to enter in any
    browser; where nobody has to sign in, it tries the mail servers.
    """
    async with reach_with_console(settings) as reached:
        opens = not (no_browser or paste)
        return await sign_in(reached.control, address, open_browser=opens, paste=paste, save=reached.save)


async def sign_in(
    control: Control, address: str, *, open_browser: bool, paste: bool = False, save: Save | None = None
) -> int:
    """The whole dialogue with the person; returns the exit code: 0 once the sign-in is stored.

    `save`: saves the sign-in later if the store does not take it now; None where the running bridge sees to that.
    """
    ended: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
    known: asyncio.Future[SignInStarted] = asyncio.get_running_loop().create_future()
    """With the account's own address: `address` may be an alias."""

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_listen(control, known, ended))]
        await asyncio.sleep(0)  # so that it listens before anything can happen
        try:
            begun = await control.begin_authorization(address)
            known.set_result(begun)
            _invite(begun, paste)
            if open_browser and not begun.user_code:
                has_window = await _has_window()
                tasks.append(opening := group.create_task(_open(begun.url)))
                if not has_window:  # it may have the terminal for itself
                    await opening
            if paste and not begun.user_code:
                tasks.append(group.create_task(_paste(control, ended)))
            code, sentence = await _outcome(control, begun, ended)
            if code is WAITS:
                code, sentence = await _saved(save, begun.address, sentence)
            elif code == DONE:
                sentence = await _servers(control, begun.address) or sentence
        except TimeoutError:
            late = say("Nobody signed in for {address} in time. Run the command again for a new link.")
            code, sentence = FAILED, late.format(address=address)
        except AuthorizationFailed as problem:
            code, sentence = await _unattended(control, address, problem)
        except BridgeError as problem:
            code, sentence = FAILED, f"mail-bridge: {tell_problem(problem)}"
        finally:
            for task in tasks:
                task.cancel()
    click.echo(sentence, err=code != DONE)
    return code


async def _listen(control: Control, known: asyncio.Future[SignInStarted], ended: asyncio.Future[Ending]) -> None:
    """Listen to the bridge, for how the sign-in ends."""
    ending: Ending | None
    try:
        async with aclosing(control.notices()) as notices:
            ending = await _end_of(known, notices)
    except BridgeError as problem:  # the running bridge has gone away
        ending = FAILED, f"mail-bridge: {tell_problem(problem)}"
    if ending is not None and not ended.done():
        ended.set_result(ending)


async def _end_of(known: asyncio.Future[SignInStarted], notices: AsyncIterator[Notice]) -> Ending | None:
    """Exit code and sentence of this sign-in, whose steps are told meanwhile; None if the notices end before it."""
    is_stored = False
    async for notice in notices:
        mine = await known
        if getattr(notice, "address", "") != mine.address:
            continue
        if isinstance(notice, Authorized):
            is_stored = True
            sentence = say("{address} is signed in as {subject}. Trying the mail servers …")
            click.echo(sentence.format(address=notice.address, subject=notice.subject))
        elif isinstance(notice, ServersChecked) and not is_stored:
            continue  # somebody else has tried the mail servers
        elif isinstance(notice, AuthorizationEnded) and notice.attempt != mine.attempt:
            continue  # somebody else's for the same account
        elif (ending := _ending(notice)) is not None:
            return ending
    return None


async def _outcome(control: Control, begun: SignInStarted, ended: asyncio.Future[Ending]) -> Ending:
    """How the sign-in has ended, even if the browser came back in the last second. Raises: TimeoutError."""
    await asyncio.wait([ended], timeout=max(begun.expires_at - SystemClock().now(), 1))
    async with asyncio.timeout(LAST_SECOND):
        while not ended.done():
            await control.status()  # makes the bridge notice, and report, that the sign-in has expired
            await asyncio.wait([ended], timeout=LOOK_SECONDS)
    return ended.result()


async def _saved(save: Save | None, address: str, sentence: str) -> tuple[int, str]:
    """The end of a sign-in that the store does not take yet. Raises: BridgeError where it is lost."""
    if save is None:  # the running bridge sees to it
        return FAILED, f"mail-bridge: {sentence}"
    account = await saved(save, address, sentence)
    signed_in = say("{address} is signed in as {subject}.").format(address=address, subject=account.subject)
    return DONE, f"{signed_in}\n{lines_of(account.checks) or _not_tried()}"


async def _unattended(control: Control, address: str, problem: AuthorizationFailed) -> tuple[int, str]:
    """For an account where nobody signs in: its mail servers can still be tried."""
    if problem.code != "unattended":
        return FAILED, f"mail-bridge: {tell_problem(problem)}"
    click.echo(say("{reason} Trying the mail servers …").format(reason=tell_problem(problem)))
    try:
        checks = (await control.check_account(address)).checks
    except BridgeError as trouble:
        return FAILED, f"mail-bridge: {tell_problem(trouble)}"
    return DONE if all(check.is_ok for check in checks) else FAILED, lines_of(checks)


async def _servers(control: Control, address: str) -> str:
    """A line for each mail server that was tried; empty if the bridge does not remember."""
    status = await control.status()
    return lines_of(next((account.checks for account in status.accounts if account.address == address), ()))


async def _paste(control: Control, ended: asyncio.Future[Ending]) -> None:
    """Ask until the URL at which this sign-in ended is pasted; the result comes as a notice."""
    try:
        await _ask_until(control, ended)
    except NoThread as problem:
        if not ended.done():
            ended.set_result((FAILED, f"mail-bridge: {problem.said.told(say)}"))


async def _ask_until(control: Control, ended: asyncio.Future[Ending]) -> None:
    """Raises: NoThread, if there is none to read a line in."""
    while line := await read_line():
        try:
            await control.complete_authorization(pasted(line))
        except ValueError as problem:
            again = say(str(problem))
        except AuthorizationFailed as problem:
            if problem.code != "unknown_state":
                return  # told by the notice
            again = tell_problem(problem)
        except ProviderNotAsked as problem:
            again = tell_problem(problem)
        except BridgeError:
            return  # told by the notice, too
        else:
            return
        label = say("Address:")
        click.echo(f"{again}\n{label} ", err=True, nl=False)
    if not ended.done():
        early = say("standard input ended before the address was pasted.")
        ended.set_result((FAILED, f"mail-bridge: {early}"))


async def _open(url: str) -> None:
    """Open the page. If webbrowser does not know the browser, that takes until the browser is closed, maybe tonight:
    hence a thread for which neither the sign-in nor the end of the command waits."""
    is_shown = False
    with suppress(NotDone):
        is_shown = await Threads("browser", at_once=1).run(partial(_show, url))
    if not is_shown:
        click.echo(say("No browser could be started here; copy the link into one on this machine."), err=True)


async def _has_window() -> bool:
    with suppress(NoThread):  # there will be none for the browser either, and that is reported next
        return await in_thread(browser.has_window)
    return False


def _show(url: str) -> bool:
    """Show the page, but not in a browser of the terminal: providers' pages need JavaScript, and it would hide the
    link."""
    return not browser.is_of_the_terminal() and browser.show(url)


def _invite(begun: SignInStarted, paste: bool) -> None:
    if begun.user_code:
        invitation = say("To sign in for {address}, open this page in a browser on any computer:")
        click.echo(f"{invitation.format(address=begun.address)}\n\n  {begun.url}\n")
        click.echo(say("and enter this code, which is for you alone:") + f"\n\n  {begun.user_code}\n")
        return
    invitation = say("To sign in for {address}, open this page in your browser:").format(address=begun.address)
    click.echo(f"{invitation}\n\n  {begun.url}\n")
    if paste:
        sentence = say(
            "At the end, that browser shows an address that begins with http://localhost, which it cannot open. Copy "
            "the whole address and paste it here:"
        )
        label = say("Address:")
        click.echo(f"{sentence}\n{label} ", nl=False)


def _ending(notice: Notice) -> Ending | None:
    """Exit code and sentence that end the wait, if this notice, which is about our account, is final."""
    match notice:
        case ServersChecked():
            return DONE, _not_tried()
        case AuthorizationEnded(_, "unsaved", reason, diagnosis):
            return WAITS, tell(reason, diagnosis)
        case AuthorizationEnded(address, _, reason, diagnosis):
            sentence = say("The sign-in for {address} did not succeed: {reason}")
            return FAILED, sentence.format(address=address, reason=tell(reason, diagnosis))
        case _:
            return None


def _not_tried() -> str:
    return say("The mail servers were not tried; the log says why.")
