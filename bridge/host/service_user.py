"""An administrator's command about the service of this machine, carried out as the user whom that service runs as."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

from bridge.advice.said import said
from bridge.advice.system import system_reason
from bridge.errors import BridgeError
from bridge.host.hardening import forbid_dumps
from bridge.host.paths import is_for_service, service_data_dir
from bridge.host.system_service import looking, parts_of_program

SYSTEMD = Path("/run/systemd/system")
"""Exists where systemd has booted the machine (sd_booted(3)). Elsewhere, such as in a container, root runs the bridge,
although its directory may belong to a user of the host."""


def become_service_user(config: Path) -> bool:
    """Switch to the service's user for good, if root uses the whole machine's configuration; otherwise do nothing.

    The user is the owner of the service's directory. As root a command would look for the running bridge in root's own
    directory and, where none runs, create files of the store that the service cannot read.

    Returns: whether this process now runs as another user. Raises: BridgeError.
    """
    if sys.platform == "win32" or os.geteuid() != 0 or not is_for_service(config.absolute()):
        return False
    directory = service_data_dir()
    owner = _owner_of(directory) if directory is not None and SYSTEMD.is_dir() else None
    if directory is None or owner is None or owner.st_uid == 0:
        return False
    import pwd  # not on Windows

    _check_program()
    try:
        entry = pwd.getpwuid(owner.st_uid)
        os.initgroups(entry.pw_name, entry.pw_gid)
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    except KeyError:
        raise BridgeError(
            said(
                "{directory} belongs to user number {number}, and this machine has no such user",
                directory=directory,
                number=owner.st_uid,
            )
        ) from None
    except OSError as problem:
        raise BridgeError(
            said(
                "mail-bridge cannot act as the service's user {user}: {reason}",
                user=entry.pw_name,
                reason=system_reason(problem),
            )
        ) from problem
    forbid_dumps()  # again: setuid(2) has undone it
    _have_its_directories(directory, config)
    return True


def _owner_of(directory: Path) -> os.stat_result | None:
    """The directory's owner; None if there is no directory. Raises: BridgeError if that cannot be told, because as root
    the command would not use the service's own files."""
    with looking():
        try:
            found = directory.lstat()
        except FileNotFoundError:
            return None  # no service has ever run here
    return found if stat.S_ISDIR(found.st_mode) else None


@looking()
def _check_program() -> None:
    """Check that the program can still be read afterwards, because most of it is loaded late."""
    for part in parts_of_program():
        for place in (part, *part.parents):
            mode = place.stat().st_mode
            if not mode & (stat.S_IXOTH if stat.S_ISDIR(mode) else stat.S_IROTH):
                raise BridgeError(
                    said("the service's user cannot read {place}: run the program that the service runs", place=place)
                )


def _have_its_directories(directory: Path, config: Path) -> None:
    """Set the service's directories as systemd does, and remove root's own."""
    for name in [name for name in os.environ if name.startswith("XDG_")]:
        del os.environ[name]
    os.environ |= {
        "HOME": str(directory),
        "STATE_DIRECTORY": str(directory),
        "CONFIGURATION_DIRECTORY": str(config.absolute().parent),
    }
