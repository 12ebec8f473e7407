"""Directories per OS, and who may look into them."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import platformdirs

from bridge.advice.said import said
from bridge.errors import BridgeError
from bridge.files.directories import make_private

APP_NAME = "mail-bridge"
CONFIG_NAME = "config.yaml"
AUTHORITY_NAME = "authority.pem"
"""The authority's certificate, which people import where the bridge makes its ports' certificate."""

PRIVATE_DIRECTORY = 0o700
PRIVATE_FILE = 0o600


class NoHome(BridgeError):
    """HOME is not set, and the system does not know the user: a container run with an arbitrary user number."""


def config_dir() -> Path:
    """Where the user's configuration is looked for; a systemd service has its own. Raises: NoHome."""
    return _from_systemd("CONFIGURATION_DIRECTORY") or _of_user(
        lambda: platformdirs.user_config_dir(APP_NAME, appauthor=False)
    )


def config_file() -> Path:
    """The user's configuration, and where a new one is written unless a path is given. Raises: NoHome."""
    return config_dir() / CONFIG_NAME


def data_dir() -> Path:
    """Where the store's records live: local to this machine, never in a roaming profile, since their key does not roam.

    Raises: NoHome.
    """
    return _from_systemd("STATE_DIRECTORY") or _of_user(
        lambda: platformdirs.user_data_dir(APP_NAME, appauthor=False, roaming=False)
    )


def log_dir() -> Path:
    """Where log files go when somebody asks for files. Raises: NoHome."""
    return _from_systemd("LOGS_DIRECTORY") or _of_user(lambda: platformdirs.user_log_dir(APP_NAME, appauthor=False))


def runtime_dir() -> Path:
    """For files that matter only while programs run: of this user on this machine, even with a home on a server."""
    given = os.environ.get("XDG_RUNTIME_DIR", "") if sys.platform == "linux" else ""
    return Path(given) / APP_NAME if os.path.isabs(given) else data_dir() / "run"


def store_file() -> Path:
    """The default of `store.path`."""
    return data_dir() / "store.sqlite"


def made_certificate_dir(store: str | None) -> Path:
    """The directory of the certificate that the bridge makes: beside the store's file (`store.path`)."""
    return (Path(store).parent if store is not None else data_dir()) / "tls"


def machine_config_dir() -> Path:
    """Where the administrator of the whole machine puts a configuration."""
    if sys.platform == "linux":
        return Path("/etc") / APP_NAME  # platformdirs says /etc/xdg, where nobody looks for a service
    return Path(platformdirs.site_config_dir(APP_NAME, appauthor=False))


def service_data_dir() -> Path | None:
    """Where the service of the whole machine keeps its records: systemd's StateDirectory=, SYSTEM's profile on Windows.

    None on a system for which we know no kind of service.
    """
    if sys.platform == "linux":
        return Path("/var/lib") / APP_NAME
    if sys.platform == "win32":
        system = Path(os.environ.get("SYSTEMROOT", r"C:\Windows"), "System32", "config", "systemprofile")
        return system / "AppData" / "Local" / APP_NAME
    return None


def service_store() -> tuple[str, str]:
    """How the service's configuration names its store and its key file: beside the configuration; on Linux, where
    systemd lets the service write, because it may not write in /etc."""
    directory = f"{service_data_dir()}/" if sys.platform == "linux" else ""
    return f"{directory}store.sqlite", f"{directory}store.key"


def from_root(path: Path) -> Path:
    """Windows' C:file, relative to the current directory of C:, as a path from C:\\ on; any other path unchanged.

    Before Python 3.12 Path.absolute() leaves C:file alone, and paths relative to that file would be wrong.
    """
    if path.drive and not path.root:
        return Path(os.path.abspath(path.drive), *path.parts[1:])
    return path


def is_for_service(config: Path) -> bool:
    """True for the whole machine's configuration: it is read by another user than the one who writes it."""
    return config == machine_config_dir() / CONFIG_NAME


def is_machines(config: Path) -> bool:
    """True for a configuration that is not this person's: the whole machine's, or one that they may not read."""
    return is_for_service(config) or not os.access(config, os.R_OK)


def may_look(path: Path) -> bool:
    """False where we may not find out whether the path exists, as in a directory that only a service's user may
    enter."""
    try:
        path.stat()
    except PermissionError:
        return False
    except (OSError, ValueError):
        pass
    return True


def config_candidates() -> list[Path]:
    """Where to look for the configuration, first match wins.

    The current directory comes last: whoever has a configuration never gets one that somebody left in a shared folder.
    """
    candidates = [machine_config_dir() / CONFIG_NAME]
    with suppress(NoHome):
        candidates.insert(0, config_file())
    with suppress(OSError):  # the current directory may have been removed
        candidates.append(Path.cwd() / CONFIG_NAME)
    return list(dict.fromkeys(candidates))  # for a systemd service, the first two may be the same


def ensure_private(path: Path, *, directory: bool = False) -> Path:
    """Make `path` exist, for its owner alone: a file 0600 in a directory 0700, or with `directory` the latter only.

    An existing one is kept, and closed to others where they could look in; above it, only directories that are created
    here get a mode. On Windows the user's profile has an ACL of its own and nothing is changed. Raises: OSError.
    """
    if directory:
        make_private(path)
        _close_to_others(path, PRIVATE_DIRECTORY)
        return path
    make_private(path.parent)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, PRIVATE_FILE))
    _close_to_others(path, PRIVATE_FILE)
    return path


def _close_to_others(path: Path, mode: int) -> None:
    if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
        path.chmod(mode)


def _of_user(directory: Callable[[], str]) -> Path:
    try:
        return Path(directory())
    except RuntimeError as problem:
        raise NoHome(
            said("this user has no home directory; set HOME to a directory that mail-bridge may write to")
        ) from problem


def _from_systemd(variable: str) -> Path | None:
    """The first directory of a list that systemd made for the service (systemd.exec(5), StateDirectory=)."""
    first = os.environ.get(variable, "").split(":")[0] if os.name == "posix" else ""
    return Path(first) if first else None
