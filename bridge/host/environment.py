"""The environment that mail-bridge was started with, and the part of it that programs get which we start."""

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

OWN = frozenset(
    {
        *("STATE_DIRECTORY", "CONFIGURATION_DIRECTORY", "LOGS_DIRECTORY", "RUNTIME_DIRECTORY", "CACHE_DIRECTORY"),
        *("CREDENTIALS_DIRECTORY", "MAIL_BRIDGE_CONFIG", "SUDO_UID"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE"),  # OpenSSL and Python's ssl
        *("OPENSSL_CONF", "OPENSSL_CONF_INCLUDE", "OPENSSL_ENGINES", "OPENSSL_MODULES"),
        *("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NETRC"),  # requests, aiohttp
        *("PYTHON_KEYRING_BACKEND", "KEYCHAIN_PATH", "DBUS_SYSTEM_BUS_ADDRESS"),  # keyring
        *("HOMEDRIVE", "HOMEPATH", "ALLUSERSPROFILE"),  # where Python and platformdirs find directories on Windows
        *("LANGUAGE", "TZDIR", "TERM", "COLUMNS", "LINES", "NO_COLOR", "JOURNAL_STREAM", "BROWSER", "PYSTRAY_BACKEND"),
        *("RES_OPTIONS", "LOCALDOMAIN", "HOSTALIASES"),  # resolver(5), hostname(7)
        *("PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGUSER", "PGSERVICE", "PGSERVICEFILE", "PGPASSFILE"),
        *("PGSSLMODE", "PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY", "PGSSLCRL", "PGOPTIONS"),  # libpq
    }
)
"""Variables that mail-bridge, Python and the libraries read in this process: places, switches, names. Those that may
hold a secret are not among them (PGPASSWORD, KEYRING_PROPERTY_…)."""

_FAMILIES = ("XDG_", "LC_")


class TakenEnvironment(Mapping[str, str]):
    """What `${NAME}` of the configuration reads: each variable looked up is taken out of the process's environment.

    Client secrets come that way, and the browser that we open, or the program that fills the clipboard, inherits our
    whole environment. A variable that was taken can be looked up again, as each reload does.

    Variables that this program itself reads are no secrets and stay; otherwise, after `${CREDENTIALS_DIRECTORY}/key`,
    nobody else would find that directory.
    """

    def __init__(self) -> None:
        self._taken: dict[str, str] = {}

    def take(self, names: Iterable[str]) -> None:
        """Keep these from the programs that we start, except for what those and we need to run at all."""
        for name in names:
            if name in os.environ and not _stays(name):
                self._taken[_key(name)] = os.environ.pop(name)

    def __getitem__(self, name: str) -> str:
        """Raises: KeyError."""
        self.take((name,))
        return self._taken[_key(name)] if _key(name) in self._taken else os.environ[name]

    def __iter__(self) -> Iterator[str]:
        yield from {**os.environ, **self._taken}

    def __len__(self) -> int:
        return len({**os.environ, **self._taken})


def _key(name: str) -> str:
    """The name as it is stored: on Windows the case of a variable's name does not matter."""
    return name.upper() if os.name == "nt" else name


def _stays(name: str) -> bool:
    is_pythons = name.startswith("PYTHON") and name.isalnum()  # Python reads no others of its own after its start
    return name.upper() in NEEDED | OWN or name.startswith(_FAMILIES) or name.lower().endswith("_proxy") or is_pythons


def look_in_path_alone() -> None:
    """Call once, first, on Windows: a program named without a path is then no longer looked for in the current
    directory, before PATH; anybody may be able to write there. Source: NeedCurrentDirectoryForExePath."""
    os.environ["NODEFAULTCURRENTDIRECTORYINEXEPATH"] = "1"


taken_environment = TakenEnvironment()
"""The one of this process."""


def environment_of_programs() -> dict[str, str]:
    """The environment for the administrator's own programs: a handful of variables and nothing else."""
    return {name: value for name, value in os.environ.items() if name.upper() in NEEDED}
