"""Directories for their owner alone, and so all above them that have to be made."""

from __future__ import annotations

from pathlib import Path

MODE = 0o700
"""As the XDG Base Directory Specification wants it of what is made in a home."""


def make_private(directory: Path) -> None:
    """Make it, if it is not there; what is there stays as it is. Raises: OSError.

    `Path.mkdir(parents=True)` gives its mode to the last one alone. The others get what the umask leaves of 0777: all
    of it with that of 0 which some supervisors give, and anybody may exchange what is in there.
    """
    try:
        directory.mkdir(MODE)
    except FileNotFoundError:
        if directory.parent == directory:
            raise
        make_private(directory.parent)
        directory.mkdir(MODE, exist_ok=True)
    except OSError:
        if not directory.is_dir():
            raise
