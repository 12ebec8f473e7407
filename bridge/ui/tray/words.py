"""Every sentence of the tray, and of its notifications."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bridge.ui import i18n

INSTALLS: Final = r"py scripts\run.py tray" if sys.platform == "win32" else "python3 scripts/run.py tray"
"""`python3` opens the Store on a Windows that has Python from elsewhere."""


@dataclass(frozen=True, slots=True)
class Notification:
    """What a notification says."""

    title: str
    text: str
    button: str = ""
    """Where a click on it does something: what."""


@dataclass(frozen=True, slots=True)
class Words:
    """Whole sentences; `say` and `say_number` translate them, as gettext and ngettext do."""

    say: Callable[[str], str] = i18n.say
    say_number: Callable[[str, str, int], str] = i18n.say_number

    # --- the line under the pointer, and on top of the menu -----------------------------------------------------

    def all_ready(self) -> str:
        """Nobody has to do anything."""
        return self.say("mail-bridge: everybody is signed in")

    def nothing_waits(self) -> str:
        """The same, where only one's own accounts are seen."""
        return self.say("mail-bridge: none of your programs is waiting for a sign-in")

    def sign_ins_needed(self, count: int) -> str:
        """Somebody has to sign in."""
        return self.say_number(
            "mail-bridge: {count} account needs a sign-in", "mail-bridge: {count} accounts need a sign-in", count
        ).format(count=count)

    def troubles(self, count: int) -> str:
        """Something does not work, and a sign-in does not fix it."""
        return self.say_number(
            "mail-bridge: {count} account has trouble", "mail-bridge: {count} accounts have trouble", count
        ).format(count=count)

    def not_connected(self) -> str:
        """No bridge answers."""
        return self.say("mail-bridge is not running, or cannot be reached")

    # --- the menu -----------------------------------------------------------------------------------------------

    def sign_in_as(self, address: str) -> str:
        """The account's turn has come."""
        return self.say("Sign in as {address}").format(address=address)

    def go_on_as(self, address: str) -> str:
        """A sign-in has begun, and waits in some browser."""
        return self.say("Continue the sign-in as {address}").format(address=address)

    def look_at(self, address: str) -> str:
        """Trouble: the console tells more."""
        return self.say("See what is wrong with {address}").format(address=address)

    def is_ready(self, address: str) -> str:
        """Nothing to do; a click signs in again."""
        return self.say("{address} is signed in").format(address=address)

    def more_in_console(self, count: int) -> str:
        """The menu has no room for them."""
        return self.say_number(
            "{count} more account: open the console", "{count} more accounts: open the console", count
        ).format(count=count)

    def admin_warning(self) -> str:
        """The administrator's turn has come."""
        return self.say("Something needs the administrator's attention: open the console")

    def copy_password(self) -> str:
        """The submenu with an entry for each account."""
        return self.say("Copy local password")

    def copy_password_of(self, address: str) -> str:
        """Where there is one account only."""
        return self.say("Copy local password of {address}").format(address=address)

    def open_console(self) -> str:
        """All accounts, in the browser."""
        return self.say("Open console")

    def start_at_login(self) -> str:
        """A menu entry with a tick."""
        return self.say("Start at login")

    def quit(self) -> str:
        """For a tray that is only attached: the bridge goes on."""
        return self.say("Quit")

    def quit_bridge(self) -> str:
        """For a tray that shares a process with the bridge."""
        return self.say("Quit, and stop mail-bridge")

    # --- notifications ------------------------------------------------------------------------------------------

    def needed_by(self, address: str, url: str) -> Notification:
        """One account needs its person."""
        return Notification(
            self.say("Mail: {address} must sign in").format(address=address),
            self.say("Choose “Sign in” in the menu of the mail-bridge icon, or open {url}").format(url=url),
            self.say("Sign in"),
        )

    def needed_by_many(self, count: int) -> Notification:
        """Several do, at once."""
        return Notification(
            self.say_number(
                "Mail: {count} account needs a sign-in", "Mail: {count} accounts need a sign-in", count
            ).format(count=count),
            self.say("The menu of the mail-bridge icon lists them."),
            self.open_console(),
        )

    def copied(self, address: str) -> Notification:
        """The password can be pasted."""
        return Notification(
            self.say("Local password copied"),
            self.say("The local password of {address} is in the clipboard. Paste it into the mail program.").format(
                address=address
            ),
        )

    def no_clipboard(self) -> Notification:
        """No program here puts text into it."""
        return Notification(
            self.say("Not copied"),
            self.say(
                "Copying needs one of the programs wl-copy, xclip or xsel. The password is also shown by: mail-bridge "
                "accounts password ADDRESS"
            ),
        )

    def no_browser(self, url: str) -> Notification:
        """None could be started."""
        return Notification(
            self.say("No browser could be started"), self.say("Open this page yourself: {url}").format(url=url)
        )

    def no_autostart(self, reason: str) -> Notification:
        """The system did not take it."""
        return Notification(
            self.say("“Start at login” could not be changed"),
            self.say("The system says: {reason}").format(reason=reason),
        )

    def failed(self, reason: str) -> Notification:
        """The bridge said no; `reason` is its sentence."""
        return Notification(self.say("mail-bridge cannot do this now"), reason)

    def bug(self) -> str:
        """Something that nobody has foreseen."""
        return self.say("The fault is in mail-bridge, and is in its log. Please try again, or tell your administrator.")

    # --- at start, in the terminal ------------------------------------------------------------------------------

    def no_extra(self) -> str:
        """The libraries are not installed."""
        return self.say(
            "the icon needs the extra “tray”, which `{command}` installs in the directory of mail-bridge (everything "
            "else works without it: mail-bridge run, and the console in the browser)"
        ).format(command=INSTALLS)

    def no_toolkit(self) -> str:
        """Linux: GTK is the system's, not pip's."""
        return self.say(
            "the icon needs GTK and its Python binding. On Debian and Ubuntu: apt install python3-gi gir1.2-gtk-3.0 "
            "gir1.2-ayatanaappindicator3-0.1, and an environment that sees them: "
            "python3 -m venv --system-site-packages .venv"
        )

    def no_display(self) -> str:
        """A service, a terminal over ssh, a container."""
        return self.say(
            "there is no desktop here to show an icon on. Without it: mail-bridge run, and the console in the browser"
        )

    def no_tray(self) -> str:
        """A desktop without a place for icons, such as GNOME without its extension."""
        return self.say(
            "This desktop has no place for icons (GNOME needs the extension AppIndicator). Notifications and the "
            "console work all the same; the icon appears as soon as there is a place for it."
        )
