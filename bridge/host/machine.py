"""This machine, for the doctor: open files, browser, ports, users, programs."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from pathlib import Path

from bridge.doctor.machine import Machine, Telling
from bridge.host import browser, users
from bridge.host.callers import owner_of, this_system
from bridge.host.descriptors import descriptor_limit
from bridge.host.holders import excluded_ports, holder_of
from bridge.host.sockets import answers
from bridge.model import Ends
from bridge.threads import NotDone

DRIVE_REMOTE = 4
"""Returned by GetDriveTypeW for a letter that stands for a share."""


def this_machine() -> Machine:
    """The functions that ask this operating system."""
    return Machine(
        holder_of,
        excluded_ports,
        descriptor_limit,
        browser.name,
        tells_users,
        has_user,
        has_program,
        answers,
        is_on_network,
    )


def tells_users() -> Telling:
    """Tried with a connection of our own; on Windows only administrators and services are told of others' programs."""
    system = this_system()
    try:
        with (
            socket.create_server(("127.0.0.1", 0)) as server,
            socket.create_connection(server.getsockname()) as client,
        ):
            ends = Ends(client.getsockname(), client.getpeername())
            if system is None or owner_of(system, ends) is None:
                return Telling.NOTHING
    except (OSError, NotDone):
        return Telling.NOTHING
    if sys.platform == "win32":
        import ctypes  # its windll is Windows' alone

        return Telling.ALL if ctypes.windll.shell32.IsUserAnAdmin() else Telling.OWN
    if sys.platform == "linux":
        from bridge.host.callers_linux import everybody_else

        return Telling.INSIDE if everybody_else() else Telling.ALL
    return Telling.ALL


def has_user(name: str) -> bool | None:
    """Whether there is this user, by name or number. None where that is unknown: the directory cannot be asked just
    now, or this is Windows, where a domain may know more users than we are told of."""
    if sys.platform == "win32":
        return None
    try:
        return bool(users.name_of(name) if name.isdecimal() else users.id_of(name))
    except NotDone:
        return None


def has_program(name: str) -> bool:
    """True if the program is found by path, or by name in PATH; for another user than this one that may differ."""
    found = shutil.which(name)
    if sys.platform == "win32" and found is not None and os.path.basename(name) == name:
        return os.path.isabs(found)  # Python 3.11 looks in the current directory, too
    return found is not None


def is_on_network(place: Path) -> bool:
    """Judged by the drive alone, as Windows names it: \\\\server\\share, or a letter."""
    if sys.platform != "win32":
        return False
    import ctypes  # its windll is Windows' alone

    drive = place.drive.upper()
    if drive.startswith("\\\\"):
        return not drive.startswith(("\\\\?\\", "\\\\.\\")) or drive.startswith("\\\\?\\UNC\\")
    return bool(drive) and ctypes.windll.kernel32.GetDriveTypeW(f"{drive}\\") == DRIVE_REMOTE
