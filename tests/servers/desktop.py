"""A person's desktop session: a real D-Bus daemon, a virtual screen, and either our own panel or a real one.

To a program, `Panel` is what KDE, Xfce or GNOME's extension is: a StatusNotifierWatcher (freedesktop.org,
StatusNotifierItem), a reader of menus (com.canonical.dbusmenu) and a notification server (Desktop Notifications
Specification 1.2). It sees and clicks what a person would, without pixels.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from dbus_fast import Message, MessageType, Variant
from dbus_fast.aio import MessageBus
from PIL import Image, ImageGrab

from tests.conftest import COVERAGE
from tests.servers.daemons import Daemon
from tests.servers.needed import absent
from tests.servers.packages import NOTIFIER, needs, program

WATCHER: Final = "org.kde.StatusNotifierWatcher"
NOTIFICATIONS: Final = "org.freedesktop.Notifications"
MENU: Final = "com.canonical.dbusmenu"
BROWSER_NAME: Final = "org.example.Browser"
ITEM: Final = "org.kde.StatusNotifierItem"
PROPERTIES: Final = "org.freedesktop.DBus.Properties"
DEBIAN_PYTHON: Final = Path("/usr/lib/python3/dist-packages")
SECONDS: Final = 45.0
"""Limit for a program to start or show something; one or two would do, but a loaded machine runs many tests at once."""
QUIET_SECONDS: Final = 0.3
"""If no program sends anything for so long, the menu has settled."""

BUS: Final = """<busconfig>
  <servicedir>{services}</servicedir>
  <include>/usr/share/dbus-1/session.conf</include>
  <policy context="mandatory"><allow user="*"/></policy>
</busconfig>
"""
"""The usual session bus, except that the tests may connect to it even when it belongs to another user."""

NOT_STARTING: Final = """[D-BUS Service]
Name=org.freedesktop.Notifications
Exec=/bin/false
"""
"""The notification server is installed but does not start, as when another desktop than its own is running."""

BROWSER: Final = f"""#!/bin/sh
exec dbus-send --session --type=method_call --dest={BROWSER_NAME} / {BROWSER_NAME}.Visit "string:$1"
"""
"""Tells the panel which page it was asked to show."""


@dataclass(frozen=True)
class Session:
    """The environment in which this person's programs run."""

    directory: Path
    bus_address: str
    display: str
    environment: dict[str, str]
    launcher: tuple[str, ...] = ()
    """A command that runs the program: it goes before the program's own command line."""

    def start(self, *arguments: str, **more: str) -> subprocess.Popen[str]:
        """Start mail-bridge."""
        return subprocess.Popen(
            [*self.launcher, sys.executable, "-m", "bridge", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**self.environment, **more},
            cwd=self.directory,
        )

    def run(self, *command: str) -> str:
        """Run another program as this person. Returns: what it printed."""
        done = subprocess.run(
            command, env=self.environment, cwd=self.directory, capture_output=True, text=True, timeout=SECONDS
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@contextmanager
def session(directory: Path, launcher: tuple[str, ...] = ()) -> Iterator[Session]:
    """A bus and a screen for as long as the context is open. With `launcher` the programs run as another user, who must
    be able to enter and change the directory."""
    needs("dbus", "xvfb", "python3-gi", "gir1.2-gtk-3.0", "gir1.2-ayatanaappindicator3-0.1")
    browser = directory / "browser"
    browser.write_text(BROWSER)
    browser.chmod(0o755)
    with _bus(directory, launcher) as address, screen() as display:
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        environment = {
            **({} if launcher else COVERAGE),  # another user may not write beside our coverage file
            **kept,
            "HOME": str(directory),
            "XDG_DATA_HOME": str(directory / "data"),
            "XDG_CONFIG_HOME": str(directory / "config"),
            "PYTHONPATH": os.pathsep.join((str(Path(__file__).parents[2]), str(_binding(directory)))),
            "DBUS_SESSION_BUS_ADDRESS": address,
            "DISPLAY": display,
            "BROWSER": f"{browser} %s",
            "PYTHONFAULTHANDLER": "1",
            "NO_AT_BRIDGE": "1",  # otherwise GTK starts the accessibility bus, which outlives the tests
        }
        yield Session(directory, address, display, environment, launcher)


def _binding(directory: Path) -> Path:
    """A directory with nothing but Debian's GTK binding: built for Debian's Python, it works in any Python of that
    version."""
    place = directory / "debian"
    place.mkdir()
    (place / "gi").symlink_to(DEBIAN_PYTHON / "gi")
    check = [sys.executable, "-c", "import gi; gi.require_version('Gtk', '3.0')"]
    done = subprocess.run(check, env={**os.environ, "PYTHONPATH": str(place)}, capture_output=True, text=True)
    if done.returncode != 0:
        absent(f"a GTK binding for Python {sys.version_info.major}.{sys.version_info.minor}")
    return place


@contextmanager
def _bus(directory: Path, launcher: tuple[str, ...]) -> Iterator[str]:
    socket = directory / "bus"
    settings = directory / "bus.conf"
    services = directory / "services"
    services.mkdir()
    (services / "org.freedesktop.Notifications.service").write_text(NOT_STARTING)
    settings.write_text(BUS.format(services=services))
    command = ["dbus-daemon", f"--config-file={settings}", "--nofork", "--nopidfile", f"--address=unix:path={socket}"]
    daemon = Daemon([*launcher, *command], directory)
    daemon.wait_until(socket.exists, str)
    try:
        yield f"unix:path={socket}"
    finally:
        daemon.stop()


@contextmanager
def screen() -> Iterator[str]:
    """A virtual screen (Xvfb). Yields: its name for DISPLAY."""
    reading, writing = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(writing), "-screen", "0", "800x480x24", "-nolisten", "tcp", "-noreset"],
        pass_fds=[writing],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(writing)
    try:
        with open(reading) as pipe:
            number = pipe.readline().strip()  # Xvfb chooses a free display number and writes it once it serves
        assert number.isdigit(), "Xvfb did not start"
        yield f":{number}"
    finally:
        server.terminate()
        server.wait(SECONDS)


@dataclass(frozen=True)
class Notice:
    """A notification as the desktop got it."""

    title: str
    text: str
    number: int = 0
    actions: tuple[str, ...] = ()
    """Key and label of each action, alternating."""


@dataclass(frozen=True)
class Item:
    """A line of a menu."""

    id: int
    label: str
    is_enabled: bool
    is_ticked: bool
    children: tuple[Item, ...]

    def find(self, label: str) -> Item | None:
        """The line with this label: this one, or one below it."""
        found = (child.find(label) for child in self.children)
        return self if self.label == label else next((item for item in found if item is not None), None)

    def labels(self) -> list[str]:
        """Labels of the lines directly below, without separators."""
        return [child.label for child in self.children if child.label]


@dataclass
class Panel:
    """Icons that have registered, newest last; notifications; pages that the browser was asked to show."""

    bus: MessageBus
    icons: list[tuple[str, str]] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    closed: list[int] = field(default_factory=list)
    """Numbers of notifications that their program has closed."""
    abilities: tuple[str, ...] = ("actions", "body", "body-markup")
    """The capabilities that the notification server announces."""
    visits: list[str] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    # --- what a person does ---------------------------------------------------------------------------------------

    async def until(self, holds: Callable[[], Awaitable[bool]], what: str) -> None:
        """Wait until `holds` is true; checks again whenever a program has sent the desktop anything."""
        try:
            async with asyncio.timeout(SECONDS):
                self.changed.clear()
                while not await holds():
                    await self.changed.wait()
                    self.changed.clear()
        except TimeoutError:
            menu = (await self.menu()).labels() if self.icons else "no icon"
            raise AssertionError(f"{what} did not happen; menu: {menu}; notices: {self.notices}") from None

    @property
    def programs(self) -> int:
        """How many programs have shown an icon so far; a program may register more than once."""
        return len({sender for sender, _ in self.icons})

    async def until_icon(self, count: int = 1) -> None:
        """Wait until so many programs have shown an icon."""

        async def holds() -> bool:
            return self.programs >= count

        await self.until(holds, f"icon {count}")

    async def until_entry(self, label: str) -> Item:
        """Wait until the newest icon's menu has this line."""
        found: list[Item] = []

        async def holds() -> bool:
            found[:] = filter(None, [(await self.menu()).find(label)])
            return bool(found)

        await self.until(holds, f"the entry {label!r}")
        return found[0]

    async def until_labels(self, labels: list[str]) -> None:
        """Wait until the newest icon's menu has these lines. Its tooltip may have changed earlier."""

        async def holds() -> bool:
            return (await self.menu()).labels() == labels

        await self.until(holds, f"the menu {labels}")

    async def until_notice(self, title: str) -> Notice:
        """Wait until a notification with this title has arrived."""

        async def holds() -> bool:
            return any(notice.title == title for notice in self.notices)

        await self.until(holds, f"the notice {title!r}")
        return next(notice for notice in self.notices if notice.title == title)

    async def until_visit(self, beginning: str) -> str:
        """Wait until the browser was asked to show a page whose URL begins with `beginning`."""

        async def holds() -> bool:
            return any(url.startswith(beginning) for url in self.visits)

        await self.until(holds, f"the visit to {beginning!r}")
        return next(url for url in self.visits if url.startswith(beginning))

    async def until_line(self, line: str) -> None:
        """Wait until the tooltip, which is also the first line of the menu, is `line`."""

        async def holds() -> bool:
            return bool(await self.property("Title") == line)

        await self.until(holds, f"the line {line!r}")

    async def until_left(self) -> None:
        """Wait until the newest icon's program has left the bus."""
        sender, _ = self.icons[-1]

        async def holds() -> bool:
            (has_owner,) = await self._call(*_BUS, "NameHasOwner", "s", [sender])
            return not has_owner

        await self.until(holds, "the end of the program")

    async def click(self, label: str) -> None:
        """Click the line with this label. A program may rebuild its menu with new numbers at any time, even between our
        look and our click; then we look again, as a person does when a click had no effect."""
        for is_last in (False, False, False, True):
            await self.until_entry(label)
            await self._until_quiet()
            item = await self.until_entry(label)
            assert item.is_enabled, f"{label!r} can only be read"
            sender, _ = self.icons[-1]
            click = [item.id, "clicked", Variant("s", ""), 0]
            try:
                await self._call(sender, await self._menu_path(), MENU, "Event", "isvu", click)
            except _Gone:
                if is_last:
                    raise
            else:
                return

    async def click_notice(self, notice: Notice, key: str = "default") -> None:
        """Click the notification itself, or its button with this key."""
        signal = Message.new_signal(
            "/org/freedesktop/Notifications", NOTIFICATIONS, "ActionInvoked", "us", [notice.number, key]
        )
        await self.bus.send(signal)

    async def _until_quiet(self) -> None:
        """Wait until no program has sent anything for a moment. GTK accepts a click on a menu that is being replaced,
        but ignores it; a person sees the menu settle before they click."""
        async with asyncio.timeout(SECONDS):
            while True:
                self.changed.clear()
                try:
                    async with asyncio.timeout(QUIET_SECONDS):
                        await self.changed.wait()
                except TimeoutError:
                    return

    async def menu(self) -> Item:
        """The newest icon's menu."""
        sender, _ = self.icons[-1]
        try:
            _, root = await self._call(sender, await self._menu_path(), MENU, "GetLayout", "iias", [0, -1, []])
        except _Gone:
            return Item(0, "", False, False, ())
        return _item(root)

    async def property(self, name: str) -> Any:
        """A property of the newest icon: Title, IconName, Status…"""
        sender, path = self.icons[-1]
        (value,) = await self._call(sender, path, PROPERTIES, "Get", "ss", [ITEM, name])
        return value.value

    # --- what programs see ----------------------------------------------------------------------------------------

    def answer(self, message: Message) -> Message | None:
        """Handle one call or signal from another program."""
        self.changed.set()
        if message.message_type is not MessageType.METHOD_CALL:
            return None
        match message.interface, message.member:
            case str(interface), "RegisterStatusNotifierItem" if interface == WATCHER:
                self.icons.append((str(message.sender), str(message.body[0])))
                return Message.new_method_return(message)
            case str(interface), "Notify" if interface == NOTIFICATIONS:
                number = message.body[1] or len(self.notices) + 1
                self.notices.append(Notice(message.body[3], message.body[4], number, tuple(message.body[5])))
                return Message.new_method_return(message, "u", [number])
            case str(interface), "GetCapabilities" if interface == NOTIFICATIONS:
                return Message.new_method_return(message, "as", [list(self.abilities)])
            case str(interface), "Visit" if interface == BROWSER_NAME:
                self.visits.append(message.body[0])
            case str(interface), "CloseNotification" if interface == NOTIFICATIONS:
                self.closed.append(message.body[0])
                return Message.new_method_return(message)
            case str(interface), "Get" if interface == PROPERTIES:
                return Message.new_method_return(message, "v", [_WATCHER_PROPERTIES[message.body[1]]])
            case str(interface), "GetAll" if interface == PROPERTIES:
                known = _WATCHER_PROPERTIES if message.body[0] == WATCHER else {}
                return Message.new_method_return(message, "a{sv}", [known])
        return None

    async def _menu_path(self) -> str:
        return str(await self.property("Menu"))

    async def _call(
        self, destination: str, path: str, interface: str, member: str, signature: str, body: list[Any]
    ) -> list[Any]:
        reply = await self.bus.call(
            Message(
                destination=destination, path=path, interface=interface, member=member, signature=signature, body=body
            )
        )
        assert reply is not None
        if reply.message_type is MessageType.ERROR:
            raise _Gone(f"{interface}.{member}: {reply.error_name} {reply.body}")
        return list(reply.body)


_BUS: Final = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")


class _Gone(Exception):
    """The program has left the bus, or the menu's line is not there any more."""


_WATCHER_PROPERTIES: Final = {
    "IsStatusNotifierHostRegistered": Variant("b", True),
    "ProtocolVersion": Variant("i", 0),
    "RegisteredStatusNotifierItems": Variant("as", []),
}


def _item(node: Any) -> Item:
    number, properties, children = node
    values = {name: value.value for name, value in properties.items()}
    return Item(
        number,
        str(values.get("label", "")).replace("__", "_"),  # a single underscore marks an access key, as elsewhere in GTK
        bool(values.get("enabled", True)),
        values.get("toggle-state", -1) == 1,
        tuple(_item(child.value) for child in children),
    )


@asynccontextmanager
async def panel(session: Session, *, has_place: bool = True, notifies: bool = True) -> AsyncIterator[Panel]:
    """A desktop that has a place for icons, or, like GNOME, has none (`has_place`). Without `notifies` another program
    may show notifications."""
    bus = await MessageBus(bus_address=session.bus_address).connect()
    try:
        shown = Panel(bus)
        bus.add_message_handler(shown.answer)
        for interface in (MENU, ITEM, "org.freedesktop.DBus"):
            await shown._call(*_BUS, "AddMatch", "s", [f"type='signal',interface='{interface}'"])
        names = {NOTIFICATIONS: notifies, WATCHER: has_place, BROWSER_NAME: True}
        for name in (name for name, is_ours in names.items() if is_ours):
            await bus.request_name(name)
        yield shown
    finally:
        bus.disconnect()


@contextmanager
def trayer(session: Session) -> Iterator[None]:
    """A real panel of the older kind (System Tray Protocol), at the bottom right of the screen."""
    needs("trayer", "xdotool")
    where = [
        "--edge",
        "bottom",
        "--align",
        "right",
        "--widthtype",
        "request",
        "--height",
        "32",
        "--transparent",
        "false",
    ]
    daemon = Daemon([str(program("trayer")), *where], session.directory, {"DISPLAY": session.display, "HOME": "/"})
    try:
        daemon.wait_until(lambda: find_windows(session, "^panel$") != [], str)
        yield
    finally:
        daemon.stop()


@contextmanager
def notifier(session: Session) -> Iterator[None]:
    """A real notification server, Xfce's, at the top right of the screen."""
    needs("xfce4-notifyd", "xdotool")
    server = program(NOTIFIER)
    daemon = Daemon([str(server)], session.directory, {**session.environment, "XDG_RUNTIME_DIR": "/nonexistent"})
    owned = ["dbus-send", "--session", "--print-reply", "--dest=org.freedesktop.DBus", "/", *_HAS_OWNER]

    def is_up() -> bool:
        asked = subprocess.run(owned, env=session.environment, capture_output=True, text=True, timeout=SECONDS)
        return "boolean true" in asked.stdout

    try:
        daemon.wait_until(is_up, str)
        yield
    finally:
        daemon.stop()


_HAS_OWNER: Final = ("org.freedesktop.DBus.NameHasOwner", f"string:{NOTIFICATIONS}")


@dataclass(frozen=True)
class Window:
    """A window on the screen, in pixels."""

    x: int
    y: int
    width: int
    height: int


def find_windows(session: Session, name: str) -> list[Window]:
    """Visible windows whose title matches `name` (a regular expression); there may be none yet."""
    command = ["xdotool", "search", "--onlyvisible", "--name", name, "getwindowgeometry", "--shell", "%@"]
    found = subprocess.run(command, env=session.environment, capture_output=True, text=True, timeout=SECONDS)
    wanted = ("X=", "Y=", "WIDTH=", "HEIGHT=")  # in this order, among others
    values = [int(line.partition("=")[2]) for line in found.stdout.splitlines() if line.startswith(wanted)]
    return [Window(*values[start : start + 4]) for start in range(0, len(values), 4)]


async def until_window(session: Session, name: str) -> Window:
    """The first such window that a person would notice. Nothing here is notified when a window appears, so it polls."""
    async with asyncio.timeout(SECONDS):
        while True:
            for window in await asyncio.to_thread(find_windows, session, name):
                if window.width > 20 and window.x >= 0:
                    return window


async def until_drawn(session: Session, window: Window) -> Image.Image:
    """The whole screen, once there is more than one colour in the window."""
    box = (window.x, window.y, window.x + window.width, window.y + window.height)
    async with asyncio.timeout(SECONDS):
        while True:
            screen = await asyncio.to_thread(ImageGrab.grab, xdisplay=session.display)
            if len(screen.crop(box).convert("RGB").getcolors(100_000) or []) > 2:
                return screen


OUTDATED = r"\n\(mail-bridge:\d+\): libayatana-appindicator-WARNING .* is deprecated\..*\n"
"""Debian 13's library prints this in every program; its successor is not packaged there for Python."""


async def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and error output. Waits in a thread, because the program still talks to the panel, which runs in this
    event loop."""
    _, complaints = await asyncio.to_thread(process.communicate, timeout=SECONDS)
    return process.returncode, re.sub(OUTDATED, "", complaints)
