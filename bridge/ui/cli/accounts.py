"""`mail-bridge accounts`: list, password, check, forget, adopt."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import sys
from collections.abc import Sequence

import click

from bridge.advice.base import Turn
from bridge.advice.said import said
from bridge.advice.system import system_reason
from bridge.control.contract import AccountState, AccountStatus, ProtocolCheck, Status
from bridge.errors import AuthorizationRequired, BridgeError, SignInUnsaved
from bridge.secret import Secret
from bridge.ui.cli.asking import is_yes
from bridge.ui.cli.configured import Settings
from bridge.ui.cli.reaching import reach, reach_to_sign_in
from bridge.ui.cli.session import (
    DONE,
    FAILED,
    UNUSABLE,
    as_service,
    async_command,
    drop_output,
    in_loop,
    passing_settings,
    with_settings,
)
from bridge.ui.cli.speaking import Group
from bridge.ui.cli.unsaved import saved
from bridge.ui.i18n import forwarding, say, tell, tell_problem
from bridge.ui.leftovers import removed, what_is_left

SECRET_LIMIT = 16 * 1024
"""Octets read from standard input; Microsoft's refresh tokens have some 1,500 characters."""

DOTS = {
    AccountState.READY: "●",
    AccountState.PENDING: "◐",
    AccountState.SIGN_IN: "○",
    AccountState.TROUBLE: "▲",
}


@click.group(cls=Group)
@passing_settings
def accounts() -> None:
    """List accounts; show passwords; try the mail servers; forget or adopt a sign-in."""


@accounts.command("list", short_help="One line for each account and its state.")
@click.option("--json", "as_json", is_flag=True, help="One JSON array, for programs.")
@with_settings
@as_service
@async_command
async def list_accounts(settings: Settings, as_json: bool) -> int:
    """One line for each account: its state, its address, what to do."""
    async with reach(settings) as control:
        status = await control.status()
    if as_json:
        click.echo(json.dumps(rows_of(status), indent=2))
        return DONE
    click.echo(table(status, settings.program))
    return DONE


def rows_of(status: Status) -> list[dict[str, object]]:
    """The accounts for programs: what is wrong with each, and whose turn it is."""
    return [{**dataclasses.asdict(account), "turn": _turn_of(account).value} for account in status.accounts]


def _turn_of(account: AccountStatus) -> Turn:
    if account.diagnosis is not None:
        return account.diagnosis.advice.turn
    # Without one all is well, or a provider's adapter had words of its own for a sign-in that has ended.
    return Turn.USER if account.state is AccountState.SIGN_IN else Turn.NOBODY


def table(status: Status, program: str) -> str:
    """The accounts as lines for a terminal. `program` is ours, as it can be called."""
    address = max((len(account.address) for account in status.accounts), default=0)
    provider = max((len(account.provider) for account in status.accounts), default=0)
    state = max(len(state_word(each)) for each in AccountState)
    lines = [
        f"{DOTS[account.state]} {account.address:<{address}}  {state_word(account.state):<{state}}  "
        f"{account.provider:<{provider}}  {tell(account.detail, account.diagnosis)}".rstrip()
        for account in status.accounts
    ]
    everybody = say("{pattern}: everybody in this domain; each address appears here after its first login or sign-in")
    lines += ["  " + everybody.format(pattern=pattern) for pattern in status.patterns]
    if any(account.state is AccountState.SIGN_IN for account in status.accounts):
        lines += ["", say("To sign in: {command}").format(command=f"{program} authorize " + say("ADDRESS"))]
    if status.leftovers:
        lines += ["", *leftover_lines(status, program)]
    return "\n".join(lines)


def leftover_lines(status: Status, program: str) -> list[str]:
    """What is stored for addresses without an account, and how to remove it."""
    command = f"{program} accounts forget " + say("ADDRESS")
    return [
        say("Stored for addresses that are not in the configuration:"),
        *(f"  {left.address}{say(': ')}{what_is_left(left)}" for left in status.leftovers),
        say("To remove it for good: {command}").format(command=command),
    ]


def state_word(state: AccountState) -> str:
    """A word or two, beside the dot."""
    match state:
        case AccountState.READY:
            return say("ready")
        case AccountState.SIGN_IN:
            return say("sign-in needed")
        case AccountState.PENDING:
            return say("pending")
        case AccountState.TROUBLE:
            return say("trouble")


@accounts.command(short_help="Show or change the local password of an account.")
@click.argument("address")
@click.option("--rotate", is_flag=True, help="Make a new one; the old one keeps working for a week.")
@click.option("--set-from-stdin", is_flag=True, help="Use the line on standard input: 12 characters or more.")
@click.option(
    "--at-once",
    is_flag=True,
    help="With either of these: the old one stops working at once, because somebody else knows it.",
)
@with_settings
@as_service
def password(settings: Settings, address: str, rotate: bool, set_from_stdin: bool, at_once: bool) -> int:
    """Print the local password of ADDRESS, with which the mail program logs in to the bridge."""
    if rotate and set_from_stdin:
        raise click.UsageError(say("--rotate and --set-from-stdin cannot be used together"))
    if at_once and not (rotate or set_from_stdin):
        raise click.UsageError(say("--at-once needs --rotate or --set-from-stdin"))
    chosen = (
        Secret(_line(say("New local password"), say("there is no new local password on standard input")))
        if set_from_stdin
        else None
    )
    return in_loop(_password(settings, address, chosen, rotate=rotate, at_once=at_once))


async def _password(
    settings: Settings, address: str, chosen: Secret[str] | None, *, rotate: bool, at_once: bool
) -> int:
    async with reach(settings) as control:
        if chosen is not None:
            try:
                await control.set_local_password(address, chosen, at_once=at_once)
            except ValueError as problem:
                click.echo(f"mail-bridge: {say(str(problem))}", err=True)
                return UNUSABLE
            sentence = (
                say("The local password of {address} has been changed; the old one no longer works.")
                if at_once
                else say("The local password of {address} has been changed; the old one keeps working for a week.")
            )
            click.echo(sentence.format(address=address), err=True)
            return DONE
        if rotate:
            shown = await control.rotate_local_password(address, at_once=at_once)
        else:
            shown = await control.local_password(address)
    _show(shown, address, settings.program, is_new=rotate)
    return DONE


@accounts.command(short_help="Remove a sign-in, here and at the provider.")
@click.argument("address")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation; needed where there is no terminal.")
@with_settings
@as_service
def forget(settings: Settings, address: str, yes: bool) -> int:
    """Remove the sign-in of ADDRESS, and revoke it if the provider supports that; the local password stays.

    For an ADDRESS that is no longer in the configuration, everything that is stored is removed.
    """
    if not yes and not sys.stdin.isatty():
        raise click.UsageError(say("there is no terminal on which to ask for confirmation; add --yes if you are sure"))
    if not yes and not is_yes(in_loop(_question(settings, address)), default=False):
        return FAILED

    async def work() -> int:
        async with reach(settings) as control:
            done = await control.forget(address)
        click.echo(removed(address, done))
        for unrevoked in done.unrevoked:
            click.echo(unrevoked.told(say))
        return DONE

    return in_loop(work())


async def _question(settings: Settings, address: str) -> str:
    async with reach(settings) as control:
        leftovers = (await control.status()).leftovers
    if any(left.address.casefold() == address.strip().casefold() for left in leftovers):
        question = say("{address} is not in the configuration. Remove everything that is stored for it?")
    else:
        question = say("{address} must sign in again afterwards. Continue?")
    return question.format(address=address)


@accounts.command(short_help="Take over a refresh token from another program.")
@click.argument("address")
@with_settings
@as_service
def adopt(settings: Settings, address: str) -> int:
    """Take over a refresh token from standard input: try it, check whose it is, store it.

    To replace another program that uses the same client ID. The token is read from standard input, never from the
    command line, which other users of this machine can see.
    """
    token = _token(_line(say("Refresh token"), say("there is no refresh token on standard input")))
    return in_loop(_adopt(settings, address, token))


async def _adopt(settings: Settings, address: str, token: Secret[str]) -> int:
    async with reach_to_sign_in(settings) as reached:
        try:
            account = await reached.control.adopt(address, token)
        except SignInUnsaved as problem:
            if reached.save is None:  # the running bridge sees to it
                raise
            account = await saved(reached.save, address, tell_problem(problem))
    sentence = say("{address} is signed in as {subject}.")
    click.echo(sentence.format(address=account.address, subject=account.subject))
    return DONE


@accounts.command(short_help="Log in to each mail server of an account.")
@click.argument("address")
@click.option("--json", "as_json", is_flag=True, help="One JSON array, for programs.")
@with_settings
@as_service
@async_command
async def check(settings: Settings, address: str, as_json: bool) -> int:
    """Log in to each mail server of ADDRESS with its token, and say who must do what about those that refuse.

    Exit code 0 if all of them open the mailbox.
    """
    async with reach_to_sign_in(settings) as reached:
        try:
            checks = (await reached.control.check_account(address)).checks
        except AuthorizationRequired as problem:
            if reached.save is None:
                raise
            raise _sign_in_without_page(problem, settings.program) from problem
    click.echo(json.dumps([dataclasses.asdict(one) for one in checks], indent=2) if as_json else lines_of(checks))
    return DONE if all(one.is_ok for one in checks) else FAILED


def _sign_in_without_page(problem: AuthorizationRequired, program: str) -> BridgeError:
    """The same problem without the sign-in page that it names, which nobody serves while no bridge runs."""
    reason = problem.diagnosis.told(say) if problem.diagnosis is not None else problem.reason
    command = f"{program} authorize {problem.address}"
    sentence = said(
        "{address} must sign in: {command} ({reason})", address=problem.address, command=command, reason=reason
    )
    return BridgeError(sentence)


def lines_of(checks: Sequence[ProtocolCheck]) -> str:
    """A line for each mail server that was tried."""
    return "\n".join(_line_of(check) for check in checks)


def _line_of(check: ProtocolCheck) -> str:
    name = f"{check.protocol.upper():<5}"
    if check.is_ok:
        return say("{name} works").format(name=name)
    sentence = tell(check.sentence, check.diagnosis)
    line = say("{name} does not work: {sentence}").format(name=name, sentence=sentence)
    return f"{line}\n      {forwarding(check.turn)}" if forwarding(check.turn) else line


def _show(password: Secret[str], address: str, program: str, *, is_new: bool) -> None:
    """Show a password. Raises: BridgeError if a new one could not be shown, or none can be; OSError if nothing has
    changed."""
    try:
        if sys.stdout is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        click.echo(password.reveal())
    except OSError as problem:
        if not is_new and sys.stdout is None:  # else it is told where all output is
            reason = system_reason(problem)
            raise BridgeError(said("standard output cannot be written: {reason}", reason=reason)) from problem
        if not is_new:
            raise
        drop_output()
        raise BridgeError(
            said(
                "The local password of {address} has been replaced, but the new one could not be shown ({reason}). "
                "This shows it: {command}",
                address=address,
                reason=system_reason(problem),
                command=f"{program} accounts password {address}",
            )
        ) from problem


def _line(what: str, missing: str) -> str:
    """One line without its end, and without a mark that an editor or PowerShell puts before it; not echoed on a
    terminal. Called outside in_loop(): inside, the first Ctrl-C would only ask the loop to stop, which waits for this.

    Args: what, to ask for; missing, said if there is no line.
    """
    if sys.stdin.isatty():
        text: str = click.prompt(what, hide_input=True, prompt_suffix=say(": "))
    else:
        # Whatever letters the system would read it in: what is no UTF-8 has a sentence of its own where it is used.
        text = sys.stdin.buffer.readline(SECRET_LIMIT).decode("utf-8", "surrogateescape")
    text = text.removeprefix("\ufeff").rstrip("\r\n")
    if not text.strip():
        raise click.UsageError(missing)
    return text


def _token(line: str) -> Secret[str]:
    """The token without anything copied along with it. Raises: click.UsageError for characters that no token has
    (RFC 6749 appendix A.17)."""
    token = line.strip()
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise click.UsageError(
            say("the line from standard input is not a refresh token: it has characters that no token contains")
        )
    return Secret(token)
