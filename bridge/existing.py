"""Whether something is at a path, and what it is. Where nobody lets us look, that is an error and not a "no".

`Path.exists()`, `is_file()` and `is_dir()` raise PermissionError there up to Python 3.13, and say no from 3.14 on: an
administrator would be told to make a file that is there already.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def exists(path: Path) -> bool:
    """Raises: OSError."""
    return _mode(path) != 0


def is_file(path: Path) -> bool:
    """True for a regular one. Raises: OSError."""
    return stat.S_ISREG(_mode(path))


def is_directory(path: Path) -> bool:
    """Raises: OSError."""
    return stat.S_ISDIR(_mode(path))


def above(place: Path) -> Path:
    """The nearest thing above it that is there: where a file would be made. Raises: OSError."""
    found = next((directory for directory in place.parents if exists(directory)), None)
    if found is None:  # a drive of Windows that is not there
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(place))
    return found


def _mode(path: Path) -> int:
    """Of what the links lead to; 0 where nothing is."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0
