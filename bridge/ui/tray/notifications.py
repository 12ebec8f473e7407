"""Linux notifications that do something when they are clicked (Desktop Notifications 1.2); pystray's do not.

All of it happens in the icon's thread, in its GLib loop, and nothing waits there for an answer.
"""

from __future__ import annotations

import html
import importlib
from collections.abc import Callable
from typing import Any, Final

from bridge.ui.tray.view import Action, Notification

SERVICE: Final = "org.freedesktop.Notifications"
PATH: Final = "/org/freedesktop/Notifications"
CLICK: Final = "default"
"""The action key for a click on the notification itself (section "Actions"). Xfce makes a button of it; with another
key GNOME and KDE would show a button, and Xfce two that look alike."""


class DesktopNotifications:
    """One notification at a time: a new one takes the place of the last, as on the other systems."""

    def __init__(self, choose: Callable[[Action], None]) -> None:
        """Args: choose, called in the icon's thread when somebody clicks. Raises: OSError without a session bus."""
        self._gio, self._bus = session_bus()
        self._glib: Any = importlib.import_module("gi.repository.GLib")
        self._choose = choose
        self._number = 0
        self._action: Action | None = None
        self._bus.signal_subscribe(
            SERVICE, SERVICE, "ActionInvoked", PATH, None, self._gio.DBusSignalFlags.NONE, self._invoked
        )

    def tell(self, said: Notification, action: Action | None, picture: str) -> None:
        """Show it, wherever this desktop shows such things; from any thread.

        Args: action, what a click does; picture, a file.
        """

        def ask() -> None:  # each time: the desktop may have started another server meanwhile
            self._call("GetCapabilities", None, lambda found: self._show(said, action, picture, found))

        self._glib.idle_add(ask)  # once, since it returns nothing

    def take_back(self) -> None:
        """Withdraw it at the program's end, when a click would have no effect. In the icon's thread, after its loop."""
        if self._number:
            number = self._glib.Variant("(u)", (self._number,))
            none = self._gio.DBusCallFlags.NONE
            self._bus.call(SERVICE, PATH, SERVICE, "CloseNotification", number, None, none, -1, None, None)
            self._bus.flush_sync(None)

    def _show(self, said: Notification, action: Action | None, picture: str, found: Any) -> None:
        (capabilities,) = found
        # Without "actions" a server may show a window that must be answered (section "Actions").
        is_clickable = action is not None and "actions" in capabilities
        keys = [CLICK, said.button] if is_clickable else []
        text = html.escape(said.text, quote=False) if "body-markup" in capabilities else said.text
        hints = {"desktop-entry": self._glib.Variant("s", "mail-bridge")}
        body = ("mail-bridge", self._number, picture, said.title, text, keys, hints, -1)

        def shown(answer: Any) -> None:
            (self._number,) = answer
            self._action = action

        self._call("Notify", self._glib.Variant("(susssasa{sv}i)", body), shown)

    def _invoked(self, _bus: Any, _sender: str, _path: str, _interface: str, _signal: str, arguments: Any) -> None:
        number, _key = arguments.unpack()
        if number == self._number and self._action is not None:
            self._choose(self._action)

    def _call(self, method: str, body: Any, answered: Callable[[Any], None]) -> None:
        def finished(bus: Any, result: Any) -> None:
            try:
                answer = bus.call_finish(result)
            except self._glib.Error:
                return  # nobody shows them here just now
            answered(answer.unpack())

        none = self._gio.DBusCallFlags.NONE
        self._bus.call(SERVICE, PATH, SERVICE, method, body, None, none, -1, None, finished)


def session_bus() -> tuple[Any, Any]:
    """Gio and the session's bus. Raises: OSError if there is none: pystray cannot do without."""
    gio: Any = importlib.import_module("gi.repository.Gio")
    glib: Any = importlib.import_module("gi.repository.GLib")
    try:
        return gio, gio.bus_get_sync(gio.BusType.SESSION, None)
    except glib.Error as error:
        raise OSError(error.message) from error
