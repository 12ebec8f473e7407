"""What the tray shows for a status: picture, line and menu (pure)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from bridge.control.contract import AccountState, AccountStatus, Status
from bridge.ui.tray.words import Words

SHOWN: Final = 10
"""Accounts that the menu lists one by one; if there are more, only those that need somebody, and at most this many."""
PASSWORDS: Final = 25
"""Entries of the submenu of passwords, and of one's own accounts: what fits on a small screen."""


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


def view(status: Status | None, words: Words, *, starts_at_login: bool, is_alone: bool, is_own: bool = False) -> View:
    """What to show; None where no bridge answers.

    Args: is_alone, True if the bridge is another process, which Quit leaves alone. is_own, True if the status has only
    what waits for this very person, who has no console and no passwords to ask for.
    """
    picture, line = _headline(status, words, is_own=is_own)
    quit_label = words.quit() if is_alone else words.quit_bridge()
    return View(
        picture,
        line,
        (
            Entry(line),
            RULE,
            *(_of_person(status, words) if is_own else _of_bridge(status, words)),
            Entry(words.start_at_login(), SetAutostart(not starts_at_login), is_checked=starts_at_login),
            Entry(quit_label, Quit()),
        ),
    )


def waiting(status: Status) -> list[AccountStatus]:
    """The accounts that need a person: the ones to sign in first, then those where a sign-in is under way."""
    in_order = (AccountState.SIGN_IN, AccountState.PENDING)
    return [account for state in in_order for account in status.accounts if account.state is state]


def _headline(status: Status | None, words: Words, *, is_own: bool) -> tuple[Picture, str]:
    if status is None:
        return Picture.ABSENT, words.not_connected()
    if status.warnings and not status.accounts and not status.patterns:  # the first set-up is still to be done
        return Picture.SIGN_IN, status.warnings[0].told(words.say)
    if needing := waiting(status):
        return Picture.SIGN_IN, words.sign_ins_needed(len(needing))
    if troubled := [account for account in status.accounts if account.state is AccountState.TROUBLE]:
        return Picture.TROUBLE, words.troubles(len(troubled))
    return Picture.READY, words.nothing_waits() if is_own else words.all_ready()


def _of_person(status: Status | None, words: Words) -> Iterable[Entry]:
    if status is not None and (needing := waiting(status)):
        for index, account in enumerate(needing[:PASSWORDS]):
            yield _of_account(account, words, is_default=index == 0)
        yield RULE


def _of_bridge(status: Status | None, words: Words) -> Iterable[Entry]:
    if status is None:
        return
    needing = waiting(status)
    if status.warnings:
        yield Entry(words.admin_warning(), OpenConsole())
    others = [account for account in status.accounts if account not in needing]
    if len(status.accounts) > SHOWN:
        others = [account for account in others if account.state is AccountState.TROUBLE]
    listed = [*needing, *others]
    for index, account in enumerate(listed[:SHOWN]):
        yield _of_account(account, words, is_default=index == 0 and bool(needing))
    if len(listed) > SHOWN:
        yield Entry(words.more_in_console(len(listed) - SHOWN), OpenConsole())
    yield RULE
    if status.accounts:
        yield _passwords(status.accounts, words)
    yield Entry(words.open_console(), OpenConsole(), is_default=not needing)
    yield RULE


def _of_account(account: AccountStatus, words: Words, *, is_default: bool) -> Entry:
    page = OpenPage(account.sign_in_url)
    match account.state:
        case AccountState.SIGN_IN:
            return Entry(words.sign_in_as(account.address), page, is_default=is_default)
        case AccountState.PENDING:
            return Entry(words.go_on_as(account.address), page, is_default=is_default)
        case AccountState.TROUBLE:
            return Entry(words.look_at(account.address), OpenConsole())
        case AccountState.READY:
            return Entry(words.is_ready(account.address), page)


def _passwords(accounts: tuple[AccountStatus, ...], words: Words) -> Entry:
    if len(accounts) == 1:
        return Entry(words.copy_password_of(accounts[0].address), CopyPassword(accounts[0].address))
    entries = [Entry(account.address, CopyPassword(account.address)) for account in accounts[:PASSWORDS]]
    if len(accounts) > PASSWORDS:
        entries.append(Entry(words.more_in_console(len(accounts) - PASSWORDS), OpenConsole()))
    return Entry(words.copy_password(), children=tuple(entries))
