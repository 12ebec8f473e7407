"""Directories for their owner alone, and so all above them that have to be made."""

from __future__ import annotations

import os
from pathlib import Path

MODE = 0o700
"""As the XDG Base Directory Specification wants it of what is made in a home."""
INHERITED = 0o777
"""On Windows: with the access list of the directory above."""


def make_private(directory: Path) -> None:
    """Make it, if it is not there; what is there stays as it is. Raises: OSError.

    `Path.mkdir(parents=True)` gives its mode to the last one alone. The others get what the umask leaves of 0777: all
    of it with that of 0 which some supervisors give, and anybody may exchange what is in there.
    """
    try:
        directory.mkdir(_mode(directory))
    except FileNotFoundError:
        if directory.parent == directory:
            raise
        make_private(directory.parent)
        directory.mkdir(_mode(directory), exist_ok=True)
    except OSError:
        if not directory.is_dir():
            raise


def _mode(directory: Path) -> int:
    """In a profile of Windows what that has: it is its owner's alone, whoever makes something in it.

    From 3.12.4 on Python takes 0700 there for a list of SYSTEM, administrators and the owner; and what is made "as
    administrator" belongs to all administrators, so that the same person without these rights would be locked out.
    """
    profile = os.environ.get("USERPROFILE", "") if os.name == "nt" else ""
    return INHERITED if profile and directory.is_relative_to(profile) else MODE
