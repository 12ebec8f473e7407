"""Start at login, for this user, on and off: XDG autostart, a LaunchAgent, or the Run key of the registry."""

from __future__ import annotations

import contextlib
import os
import plistlib
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from bridge.advice.said import said
from bridge.errors import BridgeError
from bridge.files.directories import make_private
from bridge.host.files import write_private

NAME = "mail-bridge"
LABEL = "org.mail-bridge.tray"
"""The LaunchAgent's label; launchd wants a unique one."""

RUN_KEY = r"Software\Microsoft\Windows\CurrentVersion\Run"
APPROVED_KEY = r"Software\Microsoft\Windows\CurrentVersion\Explorer\StartupApproved\Run"
"""Where Task Manager and Settings record that the person has switched an entry off: an odd first octet."""
RUN_LIMIT = 260
"""Characters of a command in the Run key; Windows silently ignores a longer one."""


class Autostart(Protocol):
    """The program starts when this user logs in. Both methods raise OSError."""

    def is_on(self) -> bool:
        """The present setting, even if another program has made it."""

    def turn(self, on: bool) -> None:
        """Set it from the next login on; nothing is started or stopped now. Raises: BridgeError, too, if it cannot
        be."""


def autostart(arguments: Sequence[str]) -> Autostart:
    """For this program with these arguments."""
    command = program(arguments)
    if sys.platform == "win32":
        return RunKey(command)
    if sys.platform == "darwin":
        return StartupFile(Path.home() / "Library" / "LaunchAgents" / f"{LABEL}.plist", _written(launch_agent, command))
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return StartupFile(config / "autostart" / f"{NAME}.desktop", _written(desktop_entry, command))


def program(arguments: Sequence[str]) -> list[str]:
    """The command that starts this very program again, without a terminal and from any directory."""
    interpreter = Path(sys.executable)
    if getattr(sys, "frozen", False):  # an installer's: it is the program
        return [str(interpreter), *arguments]
    windowed = interpreter.with_name("pythonw.exe")
    if sys.platform == "win32" and windowed.exists():
        interpreter = windowed  # python.exe would open a black window
    # -P: otherwise a directory named bridge, wherever the session starts its programs, would be run in our place.
    return [str(interpreter), "-P", "-m", "bridge", *arguments]


# --- what is written (pure) -----------------------------------------------------------------------------------------


def _written(write: Callable[[Sequence[str]], bytes], command: Sequence[str]) -> bytes | None:
    """The file's content; None where such a file cannot hold the command."""
    try:
        return write(command)
    except ValueError:  # a control character in a path, or octets that are no UTF-8
        return None


def desktop_entry(command: Sequence[str]) -> bytes:
    """Desktop Entry Specification 1.5, sections "Basic format of the file" and "The Exec key"."""
    lines = (
        "[Desktop Entry]",
        "Type=Application",
        f"Name={NAME}",
        f"Exec={' '.join(map(_quoted_for_exec, command))}",
        "Terminal=false",
        "X-GNOME-Autostart-enabled=true",
    )
    return ("\n".join(lines) + "\n").encode()


def _quoted_for_exec(word: str) -> str:
    """Always in quotes; what a shell would interpret is escaped, then each backslash again, as in all text values."""
    if any(ord(character) < 32 for character in word):
        raise ValueError("a path with a control character cannot be started at login")
    quoted = word.replace("\\", "\\\\").replace('"', '\\"').replace("`", "\\`").replace("$", "\\$")
    return '"' + quoted.replace("\\", "\\\\").replace("%", "%%") + '"'


def launch_agent(command: Sequence[str]) -> bytes:
    """launchd.plist(5). Aqua: only in a session with a menu bar, not over ssh."""
    return plistlib.dumps(
        {
            "Label": LABEL,
            "ProgramArguments": list(command),
            "RunAtLoad": True,
            "LimitLoadToSessionType": "Aqua",
            "ProcessType": "Interactive",
        }
    )


def run_value(command: Sequence[str]) -> str:
    """One command line, as CommandLineToArgvW splits it again. Raises: BridgeError if Windows would ignore it."""
    line = subprocess.list2cmdline(command)
    if len(line) > RUN_LIMIT:
        raise BridgeError(
            said(
                "Windows cannot start a command of more than {most} characters at login: move the configuration, or "
                "mail-bridge itself, to a shorter path",
                most=RUN_LIMIT,
            )
        )
    return line


# --- where it is written --------------------------------------------------------------------------------------------


class StartupFile:
    """A file that the session reads at login; it exists while autostart is on."""

    def __init__(self, path: Path, content: bytes | None) -> None:
        """`content`, None where there can be no such file."""
        self._path = path
        self._content = content

    def is_on(self) -> bool:
        """False also where a desktop has disabled the entry by a line in it (Desktop Application Autostart
        Specification, Hidden)."""
        try:
            lines = self._path.read_bytes().replace(b" ", b"").splitlines()
        except FileNotFoundError:
            return False
        return b"Hidden=true" not in lines and b"X-GNOME-Autostart-enabled=false" not in lines

    def turn(self, on: bool) -> None:
        """The file is replaced as a whole, or removed. Raises: BridgeError where it cannot name this program."""
        if not on:
            self._path.unlink(missing_ok=True)
            return
        if self._content is None:
            raise BridgeError(
                said(
                    "Nothing can start at login from a path that has a control character or is not UTF-8: move the "
                    "configuration, or mail-bridge itself, to another path"
                )
            )
        make_private(self._path.parent)
        write_private(self._path, self._content.decode())


if sys.platform == "win32":
    import winreg

    class RunKey:
        """A value of the user's Run key."""

        def __init__(self, command: Sequence[str]) -> None:
            self._command = command

        def is_on(self) -> bool:
            """True if the value exists and is not switched off in Task Manager."""
            approved = _value(APPROVED_KEY)
            is_switched_off = isinstance(approved, bytes) and approved[:1] != b"" and approved[0] % 2 == 1
            return _value(RUN_KEY) is not None and not is_switched_off

        def turn(self, on: bool) -> None:
            """One value is set or removed; nothing else of the registry is touched."""
            line = run_value(self._command) if on else ""
            _remove(APPROVED_KEY)
            if not on:
                _remove(RUN_KEY)
                return
            with winreg.CreateKeyEx(winreg.HKEY_CURRENT_USER, RUN_KEY, access=winreg.KEY_SET_VALUE) as key:
                winreg.SetValueEx(key, NAME, 0, winreg.REG_SZ, line)

    def _value(path: str) -> object:
        with contextlib.suppress(FileNotFoundError), winreg.OpenKey(winreg.HKEY_CURRENT_USER, path) as key:
            return winreg.QueryValueEx(key, NAME)[0]
        return None

    def _remove(path: str) -> None:
        with (
            contextlib.suppress(FileNotFoundError),
            winreg.OpenKey(winreg.HKEY_CURRENT_USER, path, access=winreg.KEY_SET_VALUE) as key,
        ):
            winreg.DeleteValue(key, NAME)
