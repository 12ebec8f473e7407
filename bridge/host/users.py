"""The system's users by number and by name, as passwd(5), LDAP or a domain has them; not on Windows.

Python's pwd says "no such user" even where the directory could not be asked. For a login we must tell these apart: the
one is final, the other may pass in a second. So we ask the C library, which has an error number for each.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import sys
import threading

from bridge.shortage import is_short
from bridge.threads import NotDone

NOBODY = frozenset({0, errno.ENOENT, errno.ESRCH})
"""What getpwuid_r(3) returns if there is no such user."""
FIRST_ROOM, MOST_ROOM = 4096, 1024 * 1024
"""Octets for one user's entry."""
NOBODYS_NUMBER = 2**31 - 2
"""A number that no user has."""
NUMBERS = 2**32
"""A uid_t is one of so many."""


class _Entry(ctypes.Structure):
    """struct passwd, of Linux and of macOS, as far as it is read; the rest is shorter than that."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("password", ctypes.c_char_p),
        ("number", ctypes.c_uint),
        ("_rest", ctypes.c_char * 256),
    )


def name_of(user_id: str) -> str:
    """The user's name; empty if nobody has this number. Blocks. Raises: NotDone."""
    number = int(user_id)
    entry = _found("getpwuid_r", ctypes.c_uint(number)) if number < NUMBERS else None
    return entry[0] if entry is not None else ""


def id_of(name: str) -> str:
    """The user's number; empty if nobody has this name. Blocks. Raises: NotDone."""
    entry = _found("getpwnam_r", ctypes.c_char_p(os.fsencode(name)))
    return str(entry[1]) if entry is not None else ""


def load_directory() -> None:
    """Look up a user that does not exist, in a thread that nobody waits for, so that the C library loads its modules.

    The C library loads each name service module (sssd's, LDAP's, a domain's) when it is first needed. If that fails for
    want of a descriptor, glibc does not try again during the life of the process, which then knows none of the module's
    users. Only for a bridge with `os_user`: it costs half a MiB, and otherwise user names are merely shown to people.
    """
    if sys.platform != "win32":
        with contextlib.suppress(RuntimeError):  # no thread: the modules are loaded when they are needed
            threading.Thread(target=_load, name="users", daemon=True).start()


def _load() -> None:
    with contextlib.suppress(NotDone):
        name_of(str(NOBODYS_NUMBER))


def _found(function: str, wanted: ctypes.c_uint | ctypes.c_char_p) -> tuple[str, int] | None:
    """Name and number. Looks twice before it says that there is none: descriptors may have run out during the lookup
    and be available again for the check that follows it."""
    for _ in range(2):
        if (entry := _looked_up(function, wanted)) is not None:
            return entry
        _must_have_descriptors()
    return None


def _looked_up(function: str, wanted: ctypes.c_uint | ctypes.c_char_p) -> tuple[str, int] | None:
    """Raises: NotDone where the directory reports that it could not look; not every one does."""
    if sys.platform == "win32":
        return None
    call = getattr(ctypes.CDLL(None), function)
    room = FIRST_ROOM
    while True:
        entry, texts, found = _Entry(), ctypes.create_string_buffer(room), ctypes.POINTER(_Entry)()
        problem = call(wanted, ctypes.byref(entry), texts, ctypes.c_size_t(room), ctypes.byref(found))
        if found:
            return os.fsdecode(entry.name or b""), int(entry.number)
        if problem == errno.ERANGE and room < MOST_ROOM:
            room *= 4
        elif problem in NOBODY:
            return None
        elif problem != errno.EINTR:
            raise NotDone(os.strerror(problem))


def _must_have_descriptors() -> None:
    """Raises: NotDone if this process cannot open a file just now: then passwd(5) seems to be empty, without an
    error."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as problem:
        if is_short(problem):
            raise NotDone(problem.strerror or str(problem)) from problem
