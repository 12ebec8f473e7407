"""What the tray shows for a status: picture, line and menu (pure)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from bridge.advice.said import said
from bridge.control.contract import AccountState, AccountStatus, Status
from bridge.ui.i18n import say, say_number

SHOWN: Final = 10
"""Accounts that the menu lists one by one; if there are more, only those that need somebody, and at most this many."""
PASSWORDS: Final = 25
"""Entries of the submenu of passwords, and of one's own accounts: what fits on a small screen."""

NOT_CONNECTED: Final = said("mail-bridge is not running, or cannot be reached")


class Picture(str, Enum):
    """The icon's four states; each has its drawing in pictures/."""

    READY = "ready"
    SIGN_IN = "sign-in"
    TROUBLE = "trouble"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class OpenPage:
    """Show this page in the person's browser."""

    url: str


@dataclass(frozen=True, slots=True)
class OpenConsole:
    """Show the console with all accounts."""


@dataclass(frozen=True, slots=True)
class CopyPassword:
    """Put the account's local password into the clipboard."""

    address: str


@dataclass(frozen=True, slots=True)
class SetAutostart:
    """Start at login from now on, or no longer."""

    on: bool


@dataclass(frozen=True, slots=True)
class Quit:
    """End the program."""


Action = OpenPage | OpenConsole | CopyPassword | SetAutostart | Quit


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the menu. Without an action and children it can only be read; without a label it is a rule."""

    label: str
    action: Action | None = None
    children: tuple[Entry, ...] = ()
    is_checked: bool | None = None
    is_default: bool = False
    """True for the entry that a click on the icon itself chooses, where the system supports that."""


RULE: Final = Entry("")


@dataclass(frozen=True, slots=True)
class View:
    """All that can be seen."""

    picture: Picture
    line: str
    menu: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Notification:
    """What the person is told where the desktop shows such things."""

    title: str
    text: str
    button: str = ""
    """What a click on it does; empty if nothing."""


def view(status: Status | None, *, starts_at_login: bool, is_alone: bool, is_own: bool = False) -> View:
    """What to show; None where no bridge answers.

    Args: is_alone, True if the bridge is another process, which Quit leaves alone. is_own, True if the status has only
    what waits for this very person, who has no console and no passwords to ask for.
    """
    picture, line = _headline(status, is_own=is_own)
    quit_label = say("Quit") if is_alone else say("Quit, and stop mail-bridge")
    return View(
        picture,
        line,
        (
            Entry(line),
            RULE,
            *(_of_person(status) if is_own else _of_bridge(status)),
            Entry(say("Start at login"), SetAutostart(not starts_at_login), is_checked=starts_at_login),
            Entry(quit_label, Quit()),
        ),
    )


def waiting(status: Status) -> list[AccountStatus]:
    """The accounts that need a person: the ones to sign in first, then those where a sign-in is under way."""
    in_order = (AccountState.SIGN_IN, AccountState.PENDING)
    return [account for state in in_order for account in status.accounts if account.state is state]


def _headline(status: Status | None, *, is_own: bool) -> tuple[Picture, str]:
    if status is None:
        return Picture.ABSENT, NOT_CONNECTED.told(say)
    if status.warnings and not status.accounts and not status.patterns:  # the first set-up is still to be done
        return Picture.SIGN_IN, status.warnings[0].told(say)
    if count := len(waiting(status)):
        line = say_number(
            "mail-bridge: {count} account needs a sign-in", "mail-bridge: {count} accounts need a sign-in", count
        )
        return Picture.SIGN_IN, line.format(count=count)
    if count := sum(account.state is AccountState.TROUBLE for account in status.accounts):
        line = say_number(
            "mail-bridge: {count} account has trouble", "mail-bridge: {count} accounts have trouble", count
        )
        return Picture.TROUBLE, line.format(count=count)
    if is_own:
        return Picture.READY, say("mail-bridge: none of your programs is waiting for a sign-in")
    return Picture.READY, say("mail-bridge: everybody is signed in")


def _of_person(status: Status | None) -> Iterable[Entry]:
    if status is not None and (needing := waiting(status)):
        for index, account in enumerate(needing[:PASSWORDS]):
            yield _of_account(account, is_default=index == 0)
        yield RULE


def _of_bridge(status: Status | None) -> Iterable[Entry]:
    if status is None:
        return
    needing = waiting(status)
    if status.warnings:
        yield Entry(say("Something needs the administrator's attention: open the console"), OpenConsole())
    others = [account for account in status.accounts if account not in needing]
    if len(status.accounts) > SHOWN:
        others = [account for account in others if account.state is AccountState.TROUBLE]
    listed = [*needing, *others]
    for index, account in enumerate(listed[:SHOWN]):
        yield _of_account(account, is_default=index == 0 and bool(needing))
    if len(listed) > SHOWN:
        yield _more(len(listed) - SHOWN)
    yield RULE
    if status.accounts:
        yield _passwords(status.accounts)
    yield Entry(say("Open console"), OpenConsole(), is_default=not needing)
    yield RULE


def _of_account(account: AccountStatus, *, is_default: bool) -> Entry:
    address, page = account.address, OpenPage(account.sign_in_url)
    match account.state:
        case AccountState.SIGN_IN:
            return Entry(say("Sign in as {address}").format(address=address), page, is_default=is_default)
        case AccountState.PENDING:
            return Entry(say("Continue the sign-in as {address}").format(address=address), page, is_default=is_default)
        case AccountState.TROUBLE:
            return Entry(say("See what is wrong with {address}").format(address=address), OpenConsole())
        case AccountState.READY:
            return Entry(say("{address} is signed in").format(address=address), page)


def _passwords(accounts: tuple[AccountStatus, ...]) -> Entry:
    if len(accounts) == 1:
        address = accounts[0].address
        return Entry(say("Copy local password of {address}").format(address=address), CopyPassword(address))
    entries = [Entry(account.address, CopyPassword(account.address)) for account in accounts[:PASSWORDS]]
    if len(accounts) > PASSWORDS:
        entries.append(_more(len(accounts) - PASSWORDS))
    return Entry(say("Copy local password"), children=tuple(entries))


def _more(count: int) -> Entry:
    """The menu has no room for these accounts."""
    line = say_number("{count} more account: open the console", "{count} more accounts: open the console", count)
    return Entry(line.format(count=count), OpenConsole())
