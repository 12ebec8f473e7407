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
"""What mail-bridge, Python and the libraries go by in this process: places, switches, names. What may be a secret is
not among them (PGPASSWORD, KEYRING_PROPERTY_…)."""

_FAMILIES = ("XDG_", "LC_")


class TakenEnvironment(Mapping[str, str]):
    """What `${NAME}` of the configuration reads: whatever is looked up is taken out of the process's environment.

    Client secrets come that way, and the browser that we open, or the program that fills the clipboard, inherits our
    environment whole. What has been taken can be looked up again, as each reload does.

    What this very program goes by is no secret and stays, or `${CREDENTIALS_DIRECTORY}/key` would be the last that
    anybody hears of that directory.
    """

    def __init__(self) -> None:
        self._taken: dict[str, str] = {}

    def take(self, names: Iterable[str]) -> None:
        """Keep these from the programs that we start; what those and we need to run at all stays where it is."""
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
    """Windows has one variable for all spellings, as os.environ knows there."""
    return name.upper() if os.name == "nt" else name


def _stays(name: str) -> bool:
    is_pythons = name.startswith("PYTHON") and name.isalnum()  # no others of Python's own are read after its start
    return name.upper() in NEEDED | OWN or name.startswith(_FAMILIES) or name.lower().endswith("_proxy") or is_pythons


def look_in_path_alone() -> None:
    """Call once, first, on Windows: a program that is named without a path is then no more looked for in the current
    directory, and there before PATH. That may be everybody's. Source: NeedCurrentDirectoryForExePath."""
    os.environ["NODEFAULTCURRENTDIRECTORYINEXEPATH"] = "1"


taken_environment = TakenEnvironment()
"""Of this process."""


def environment_of_programs() -> dict[str, str]:
    """For the administrator's own programs: a handful of names and nothing else."""
    return {name: value for name, value in os.environ.items() if name.upper() in NEEDED}
