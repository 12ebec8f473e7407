"""Makes private directories, and makes the missing ones above them private, too."""

from __future__ import annotations

import errno
import os
from pathlib import Path

MODE = 0o700
"""What the XDG Base Directory Specification wants for directories in a home."""
INHERITED = 0o777
"""On Windows: inherit the access control list of the directory above."""


def make_private(directory: Path) -> None:
    """Make the directory if it does not exist; existing ones stay as they are. Raises: OSError.

    `Path.mkdir(parents=True)` gives its mode only to the last directory. The others get what the umask leaves of 0777:
    with a umask of 0, which some supervisors set, that is all of it, and anybody could replace what is in there.
    """
    try:
        directory.mkdir(_mode(directory))
    except FileNotFoundError:
        if directory.parent == directory:
            raise
        make_private(directory.parent)
        directory.mkdir(_mode(directory), exist_ok=True)
    except OSError as problem:
        if directory.is_dir():
            return
        if isinstance(problem, FileExistsError):  # "cannot be opened: File exists" nobody would understand
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(directory)) from None
        raise


def _mode(directory: Path) -> int:
    """The mode. In a Windows profile, inherit: a profile is private, whoever makes something in it.

    From 3.12.4 on, Python turns 0700 on Windows into an access list of SYSTEM, administrators and the owner. But what
    is made "as administrator" is owned by all administrators, so the same person without these rights would be locked
    out.
    """
    profile = os.environ.get("USERPROFILE", "") if os.name == "nt" else ""
    return INHERITED if profile and directory.is_relative_to(profile) else MODE
