"""The icon's picture, status line and menu for every kind of status."""

from __future__ import annotations

import pytest

from bridge.advice.diagnosis import Diagnosis
from bridge.control.contract import AccountState, AccountStatus, Status
from bridge.ui.tray.view import (
    PASSWORDS,
    RULE,
    SHOWN,
    CopyPassword,
    Entry,
    OpenConsole,
    OpenPage,
    Picture,
    Quit,
    SetAutostart,
    view,
)

READY, SIGN_IN, PENDING, TROUBLE = (
    AccountState.READY,
    AccountState.SIGN_IN,
    AccountState.PENDING,
    AccountState.TROUBLE,
)


def status(*states: AccountState, warnings: tuple[Diagnosis, ...] = ()) -> Status:
    accounts = tuple(
        AccountStatus(
            f"p{n}@example.com", "acme", "", state, "", None, f"http://localhost:3017/sign-in/p{n}@example.com"
        )
        for n, state in enumerate(states)
    )
    return Status("1", "c.yaml", False, accounts, (), (), warnings)


def menu(found: Status | None, *, starts_at_login: bool = False, is_alone: bool = True) -> tuple[Entry, ...]:
    return view(found, starts_at_login=starts_at_login, is_alone=is_alone).menu


@pytest.mark.parametrize(
    ("found", "picture", "line"),
    [
        (None, Picture.ABSENT, "mail-bridge is not running, or cannot be reached"),
        (status(), Picture.READY, "mail-bridge: everybody is signed in"),
        (
            status(warnings=(Diagnosis.of("setup.first"),)),
            Picture.SIGN_IN,
            "There is no configuration yet: the administrator of mail-bridge makes one in the console.",
        ),
        (status(READY, READY), Picture.READY, "mail-bridge: everybody is signed in"),
        (status(READY, SIGN_IN), Picture.SIGN_IN, "mail-bridge: 1 account needs a sign-in"),
        (status(PENDING, SIGN_IN, TROUBLE), Picture.SIGN_IN, "mail-bridge: 2 accounts need a sign-in"),
        (status(READY, TROUBLE), Picture.TROUBLE, "mail-bridge: 1 account has trouble"),
        (status(TROUBLE, TROUBLE), Picture.TROUBLE, "mail-bridge: 2 accounts have trouble"),
    ],
)
def test_picture_and_line(found: Status | None, picture: Picture, line: str) -> None:
    seen = view(found, starts_at_login=False, is_alone=True)
    assert (seen.picture, seen.line) == (picture, line)
    assert seen.menu[:2] == (Entry(line), RULE), "and on top of the menu, where there is no pointer"


def test_each_account_has_an_entry_and_those_to_sign_in_come_first() -> None:
    page = "http://localhost:3017/sign-in/p{}@example.com"
    assert menu(status(READY, TROUBLE, PENDING, SIGN_IN))[2:6] == (
        Entry("Sign in as p3@example.com", OpenPage(page.format(3)), is_default=True),
        Entry("Continue the sign-in as p2@example.com", OpenPage(page.format(2))),
        Entry("p0@example.com is signed in", OpenPage(page.format(0))),
        Entry("See what is wrong with p1@example.com", OpenConsole()),
    )


def test_the_click_on_the_icon_opens_the_console_where_nobody_is_needed() -> None:
    assert Entry("Open console", OpenConsole(), is_default=True) in menu(status(READY))
    assert sum(entry.is_default for entry in menu(status(READY))) == 1
    assert sum(entry.is_default for entry in menu(status(SIGN_IN, SIGN_IN))) == 1


def test_of_many_accounts_only_those_that_need_somebody_are_listed_and_few_of_them() -> None:
    few = menu(status(*[READY] * 298, SIGN_IN, TROUBLE))
    assert [entry.label for entry in few if "@" in entry.label] == [
        "Sign in as p298@example.com",
        "See what is wrong with p299@example.com",
    ]
    many = menu(status(*[SIGN_IN] * 300))
    assert sum(entry.label.startswith("Sign in as ") for entry in many) == SHOWN
    assert Entry(f"{300 - SHOWN} more accounts: open the console", OpenConsole()) in many
    assert len(many) < 20


def test_passwords_of_several_accounts_are_in_a_submenu_that_fits_on_a_screen() -> None:
    one = menu(status(READY))
    assert Entry("Copy local password of p0@example.com", CopyPassword("p0@example.com")) in one
    two = next(entry for entry in menu(status(READY, READY)) if entry.children)
    assert two.label == "Copy local password"
    assert two.children == tuple(Entry(f"p{n}@example.com", CopyPassword(f"p{n}@example.com")) for n in (0, 1))
    many = next(entry for entry in menu(status(*[READY] * 300)) if entry.children)
    assert len(many.children) == PASSWORDS + 1
    assert many.children[-1].action == OpenConsole()


@pytest.mark.parametrize("is_on", [True, False])
def test_start_at_login_shows_how_it_is_and_changes_it(is_on: bool) -> None:
    entry = Entry("Start at login", SetAutostart(not is_on), is_checked=is_on)
    assert entry in menu(status(READY), starts_at_login=is_on)
    assert entry in menu(None, starts_at_login=is_on)


def test_quit_says_whether_the_bridge_goes_on() -> None:
    assert menu(None)[-1] == Entry("Quit", Quit())
    assert menu(None, is_alone=False)[-1] == Entry("Quit, and stop mail-bridge", Quit())


def test_what_the_administrator_must_see_to_is_said() -> None:
    assert (
        menu(status(READY, warnings=(Diagnosis.of("secret.tomorrow", provider="office365"),)))[2].action
        == OpenConsole()
    )


def own(found: Status) -> tuple[Entry, ...]:
    return view(found, starts_at_login=False, is_alone=True, is_own=True).menu


def test_where_only_ones_own_is_seen_there_is_no_console_and_no_password() -> None:
    page = "http://localhost:3017/sign-in/p{}@example.com"
    line = "mail-bridge: 2 accounts need a sign-in"
    below = (Entry("Start at login", SetAutostart(True), is_checked=False), Entry("Quit", Quit()))
    assert own(status(PENDING, SIGN_IN)) == (
        Entry(line),
        RULE,
        Entry("Sign in as p1@example.com", OpenPage(page.format(1)), is_default=True),
        Entry("Continue the sign-in as p0@example.com", OpenPage(page.format(0))),
        RULE,
        *below,
    )
    assert own(status()) == (Entry("mail-bridge: none of your programs is waiting for a sign-in"), RULE, *below)
    assert len(own(status(*[SIGN_IN] * 300))) == PASSWORDS + 5
