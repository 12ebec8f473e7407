"""Whether something exists at a path, and what it is. If we may not look, that is an error and not a "no".

In that case `Path.exists()`, `is_file()` and `is_dir()` raise PermissionError up to Python 3.13, but return False from
3.14 on: an administrator would be told to make a file that exists.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def exists(path: Path) -> bool:
    """True if anything is there. Raises: OSError."""
    return _mode(path) != 0


def is_file(path: Path) -> bool:
    """True for a regular file. Raises: OSError."""
    return stat.S_ISREG(_mode(path))


def is_directory(path: Path) -> bool:
    """True for a directory. Raises: OSError."""
    return stat.S_ISDIR(_mode(path))


def above(place: Path) -> Path:
    """The nearest existing parent, in which a file would be made. Raises: OSError."""
    found = next((directory for directory in place.parents if exists(directory)), None)
    if found is None:  # a Windows drive that does not exist
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(place))
    return found


def _mode(path: Path) -> int:
    """The mode of the link's target; 0 if nothing is there."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0
