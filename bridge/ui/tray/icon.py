"""The icon itself: only importer of pystray and Pillow. Runs in the main thread, as macOS demands of everybody.

Import this file late: pystray opens the display when it is imported.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from importlib import resources
from typing import IO, Any, Final

from bridge.errors import BridgeError
from bridge.ui.i18n import say
from bridge.ui.tray.notifications import DesktopNotifications, session_bus
from bridge.ui.tray.taskbar import RETRY_SECONDS, Taskbar
from bridge.ui.tray.view import RULE, Action, Entry, Notification, Picture, Quit, View

NAME: Final = "mail-bridge"

PICTURES: Final = resources.files("bridge.ui.tray").joinpath("pictures")
SIZES: Final = (16, 20, 24, 32, 40, 48, 64, 96, 128)
"""Pixels; the files in pictures/, made by scripts/icons.py."""
PANEL_SIZE: Final = 64
"""Given to panels of Linux (22 to 32 pixels, at twice the density up to 64) and macOS (22 points), which scale it."""

TITLE_LIMIT, TEXT_LIMIT, LINE_LIMIT = (63, 255, 127) if sys.platform == "win32" else (1000, 1000, 1000)
"""Characters of a notification and of the line under the pointer: NOTIFYICONDATAW's fields, less their end."""

INSTALLS: Final = r"py scripts\run.py tray" if sys.platform == "win32" else "python3 scripts/run.py tray"
"""`python3` opens the Store on a Windows that has Python from elsewhere."""

PER_MONITOR_AWARE_V2: Final = -4
"""DPI_AWARENESS_CONTEXT_PER_MONITOR_AWARE_V2: otherwise Windows asks for 32 pixels and stretches them."""

ACCESSORY: Final = 1
"""NSApplicationActivationPolicyAccessory: in the menu bar, and not in the Dock. By itself a Python that comes as an
application (python.org's, Homebrew's) is in the Dock, too, and any other (pyenv's, uv's) may show nothing at all."""


class NoTray(BridgeError):
    """There can be no icon here; the text says why and what helps."""


class Icon:
    """A tray.Shell. Order of life: show() and run() in the main thread, stop() from any."""

    def __init__(self) -> None:
        """Raises: NoTray."""
        self._pystray = _import_pystray()
        self._choose: Callable[[Action], None] | None = None
        self._pictures = {picture: Drawing(picture) for picture in Picture}
        self._notifications = DesktopNotifications(self._chosen) if sys.platform == "linux" else None
        self._taskbar = Taskbar(_shell_notify_icon()) if sys.platform == "win32" else None
        self._icon: Any = None
        self._lock = threading.Lock()
        self._is_over = threading.Event()

    def show(self, seen: View) -> None:
        """See Shell."""
        with self._lock:
            drawing = self._pictures[seen.picture].for_system()
            line = clipped(seen.line, LINE_LIMIT)
            menu = self._pystray.Menu(*self._items(seen.menu))
            if self._icon is None:
                self._icon = self._pystray.Icon(NAME, drawing, line, menu)
            else:
                self._in_its_thread(lambda: self._update(drawing, line, menu))

    def _update(self, drawing: Any, line: str, menu: Any) -> None:
        with contextlib.suppress(OSError):  # no room for the file that the system takes it from
            if self._icon.icon is not drawing:
                self._icon.icon = drawing
        self._icon.title = line
        self._icon.menu = menu

    def notify(self, said: Notification, action: Action | None = None) -> None:
        """See Shell."""
        if self._notifications is not None:
            self._notifications.tell(said, action, str(PICTURES.joinpath(f"{Picture.SIGN_IN.value}-{PANEL_SIZE}.png")))
            return
        title, text = clipped(said.title, TITLE_LIMIT), clipped(said.text, TEXT_LIMIT)

        def tell() -> None:
            with contextlib.suppress(OSError, subprocess.SubprocessError):  # nobody shows them here just now
                self._icon.notify(text, title)

        self._in_its_thread(tell)

    def run(self, choose: Callable[[Action], None], ready: Callable[[], None], rearm: Callable[[], None]) -> None:
        """Show the icon until stop().

        Args: choose, called in this thread with what the person chooses; ready, called once the icon can be seen, in a
        thread of its own; rearm, called in this thread when the toolkit has put its handlers for signals over ours.
        """
        self._choose = choose

        def shown(icon: Any) -> None:
            if self._taskbar is not None:
                self._taskbar.listen(self._appear, ready)
                return
            is_visible = self._become_visible()
            ready()
            while not is_visible and not self._is_over.wait(RETRY_SECONDS):
                is_visible = self._become_visible()

        if self._taskbar is not None:
            self._icon._message_handlers |= self._taskbar.endings(lambda: self._chosen(Quit()))
            self._icon.run(shown)
        elif sys.platform == "darwin":
            self._icon.run_detached(shown)  # its run() would take Ctrl-C and end the process at once
            _mac_application().run()
        else:
            _run_with_glib(self._icon, shown, rearm)
            if self._notifications is not None:
                self._notifications.take_back()

    def stop(self) -> None:
        """Let run() return; from any thread."""
        self._is_over.set()
        if self._taskbar is not None:
            self._taskbar.leave()
        _in_main_thread(self._icon.stop)

    def _in_its_thread(self, call: Callable[[], object]) -> None:
        """Call it in the thread that talks to the taskbar, on systems with such a thread."""
        if self._taskbar is not None:
            self._taskbar.tell(call)
        else:
            _in_main_thread(call)

    def _become_visible(self) -> bool:
        with contextlib.suppress(OSError):  # as in _update()
            _in_main_thread(self._appear)  # this is pystray's own thread, in which macOS 26 would end the process
            return True
        return False

    def _appear(self) -> None:
        if self._icon.visible:  # so pystray thinks; the taskbar refused it
            self._icon._show()
        else:
            self._icon.visible = True

    @property
    def has_place(self) -> bool:
        """False if this desktop shows no icons now."""
        return sys.platform != "linux" or _has_watcher() or _has_system_tray()

    def _items(self, entries: Iterable[Entry]) -> Iterable[Any]:
        for entry in entries:
            if entry == RULE:
                yield self._pystray.Menu.SEPARATOR
                continue
            yield self._pystray.MenuItem(
                _label(entry.label),
                self._pystray.Menu(*self._items(entry.children)) if entry.children else self._chooser(entry),
                checked=None if entry.is_checked is None else _always(entry.is_checked),
                default=entry.is_default,
                enabled=entry.action is not None or bool(entry.children),
            )

    def _chooser(self, entry: Entry) -> Callable[[], None]:
        def chosen() -> None:
            if entry.action is not None:
                self._chosen(entry.action)

        return chosen

    def _chosen(self, action: Action) -> None:
        if self._choose is not None:
            self._choose(action)


class Drawing:
    """One picture at all sizes, as pystray wants it."""

    def __init__(self, picture: Picture) -> None:
        from PIL import Image

        self._images: dict[int, Any] = {}
        for size in SIZES:
            with PICTURES.joinpath(f"{picture.value}-{size}.png").open("rb") as file:
                self._images[size] = Image.open(file).convert("RGBA")

    def for_system(self) -> Any:
        """The same object each time."""
        return self if sys.platform == "win32" else self._images[PANEL_SIZE]

    def save(self, file: IO[bytes], format: str) -> None:
        """pystray asks for a Windows icon file: one with every drawn size, where Pillow would scale a single one."""
        largest = self._images[max(SIZES)]
        others = [self._images[size] for size in SIZES]
        largest.save(file, format, sizes=[(size, size) for size in SIZES], append_images=others)


def _import_pystray() -> Any:
    """Raises: NoTray with the sentence that fits."""
    if sys.platform == "linux" and "PYSTRAY_BACKEND" not in os.environ:
        os.environ["PYSTRAY_BACKEND"] = _linux_backend()
    if sys.platform == "win32":
        set_awareness = getattr(ctypes.windll.user32, "SetProcessDpiAwarenessContext", None)  # not on Server 2016
        if set_awareness is not None:
            set_awareness(ctypes.c_void_p(PER_MONITOR_AWARE_V2))
    try:
        importlib.import_module("PIL")
        pystray = importlib.import_module("pystray")
    except ModuleNotFoundError as error:
        sentence = say(
            "the icon needs the extra “tray”, which `{command}` installs in the directory of mail-bridge (everything "
            "else works without it: mail-bridge run, and the console in the browser)"
        )
        raise NoTray(sentence.format(command=INSTALLS)) from error
    except ImportError as error:  # pystray's word for a toolkit that does not start
        raise _no_display() from error
    if sys.platform == "darwin":
        _mac_application().setActivationPolicy_(ACCESSORY)
    return pystray


def _no_display() -> NoTray:
    """As in a service, in a terminal over ssh, or in a container."""
    return NoTray(
        say("there is no desktop here to show an icon on. Without it: mail-bridge run, and the console in the browser")
    )


# --- Linux ----------------------------------------------------------------------------------------------------------


def _linux_backend() -> str:
    """pystray's own choice ends in a traceback without AppIndicator, and in an icon without a menu without GTK."""
    try:
        gi: Any = importlib.import_module("gi")
        gi.require_version("Gtk", "3.0")
    except (ImportError, ValueError) as error:
        raise NoTray(
            say(
                "the icon needs GTK and its Python binding. On Debian and Ubuntu: apt install python3-gi "
                "gir1.2-gtk-3.0 gir1.2-ayatanaappindicator3-0.1, and an environment that sees them: python3 -m venv "
                "--system-site-packages .venv"
            )
        ) from error
    try:
        session_bus()
    except OSError as error:
        raise _no_display() from error
    importlib.import_module("gi.repository.GLib").set_prgname(NAME)  # how panels and notifications call us
    for name in ("AyatanaAppIndicator3", "AppIndicator3"):
        with contextlib.suppress(ValueError):
            gi.require_version(name, "0.1")
            return "appindicator"
    return "gtk"


def _run_with_glib(icon: Any, shown: Callable[[Any], None], rearm: Callable[[], None]) -> None:
    glib: Any = importlib.import_module("gi.repository.GLib")
    glib.idle_add(lambda: rearm())  # once, since it returns nothing; pystray lets Ctrl-C end the process at once
    theirs: Any = importlib.import_module("pystray._util.notify_dbus")
    theirs.Notifier = _NoNotifier
    icon.run(shown)


class _NoNotifier:
    """Replaces pystray's notifier, which we do not use (see notifications): to create one makes the bus start the
    notification server, and if that fails, the icon would end before its loop has begun."""

    def hide(self) -> None:
        """What pystray does at its end."""


def _has_watcher() -> bool:
    """KDE, Xfce, Cinnamon, and GNOME with its extension (StatusNotifierItem, org.kde.StatusNotifierWatcher)."""
    gio, bus = session_bus()
    glib: Any = importlib.import_module("gi.repository.GLib")
    answer = bus.call_sync(
        "org.freedesktop.DBus",
        "/org/freedesktop/DBus",
        "org.freedesktop.DBus",
        "NameHasOwner",
        glib.Variant("(s)", ("org.kde.StatusNotifierWatcher",)),
        None,
        gio.DBusCallFlags.NONE,
        -1,
        None,
    )
    return bool(answer.unpack()[0])


def _has_system_tray() -> bool:
    """Older panels (freedesktop.org System Tray Protocol: whoever owns the selection shows icons)."""
    display: Any = importlib.import_module("Xlib.display")
    error: Any = importlib.import_module("Xlib.error")
    try:
        server = display.Display()
    except (error.DisplayError, OSError):
        return False
    with contextlib.closing(server):
        atom = server.intern_atom(f"_NET_SYSTEM_TRAY_S{server.get_default_screen()}")
        return bool(server.get_selection_owner(atom))


# --- Windows --------------------------------------------------------------------------------------------------------


def _shell_notify_icon() -> Any:
    """pystray's own way to the taskbar, a function of ctypes."""
    return importlib.import_module("pystray._util.win32").Shell_NotifyIcon


# --- what differs ---------------------------------------------------------------------------------------------------


def _mac_application() -> Any:
    return importlib.import_module("AppKit").NSApplication.sharedApplication()


def _in_main_thread(call: Callable[[], object]) -> None:
    """AppKit wants its own thread; the other two systems take calls from any."""
    if sys.platform == "darwin":
        importlib.import_module("PyObjCTools.AppHelper").callAfter(call)
    else:
        call()


def _label(text: str) -> str:
    """Windows underlines what follows an ampersand."""
    return text.replace("&", "&&") if sys.platform == "win32" else text


def clipped(text: str, limit: int) -> str:
    """The text cut to the limit, in UTF-16 units as Windows counts; a longer text would be an error there."""
    if len(text.encode("utf-16-le")) // 2 <= limit:
        return text
    return text.encode("utf-16-le")[: 2 * (limit - 1)].decode("utf-16-le", "ignore") + "…"


def _always(value: bool) -> Callable[[object], bool]:
    return lambda item: value
