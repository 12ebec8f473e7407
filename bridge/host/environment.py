"""The environment that mail-bridge was started with, and what of it the programs get that we start."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping

NEEDED = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR"),
        *("DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"),  # notify-send
        *("SYSTEMROOT", "SYSTEMDRIVE", "WINDIR", "COMSPEC", "PATHEXT", "TEMP", "TMP", "USERNAME", "USERPROFILE"),
        *("APPDATA", "LOCALAPPDATA", "PROGRAMDATA", "PROGRAMFILES", "PROGRAMFILES(X86)"),
    }
)
"""What a program needs to run at all."""


class TakenEnvironment(Mapping[str, str]):
    """What `${NAME}` of the configuration reads: whatever is looked up is taken out of the process's environment.

    Client secrets come that way, and the browser that we open, or the program that fills the clipboard, inherits our
    environment whole. What has been taken can be looked up again, as each reload does.
    """

    def __init__(self) -> None:
        self._taken: dict[str, str] = {}

    def take(self, names: Iterable[str]) -> None:
        """Keep these from the programs that we start; what those need to run at all stays where it is."""
        for name in names:
            if name in os.environ and not (name.upper() in NEEDED or name.lower().endswith("_proxy")):
                self._taken[name] = os.environ.pop(name)

    def __getitem__(self, name: str) -> str:
        """Raises: KeyError."""
        self.take((name,))
        return self._taken[name] if name in self._taken else os.environ[name]

    def __iter__(self) -> Iterator[str]:
        yield from {**os.environ, **self._taken}

    def __len__(self) -> int:
        return len({**os.environ, **self._taken})


taken_environment = TakenEnvironment()
"""Of this process."""


def environment_of_programs() -> dict[str, str]:
    """For the administrator's own programs: a handful of names and nothing else."""
    return {name: value for name, value in os.environ.items() if name.upper() in NEEDED}
