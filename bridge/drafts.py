"""A file that has no name of its own yet: to be written, and given one; or only to see that one can be made there.

Not by tempfile, which on Windows takes "permission denied" for a directory that has the name, and tries another name,
two thousand million times: for hours, at a full processor (CPython issue 66305, in it up to Python 3.13 at least).
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)


def draft_of(file: Path) -> tuple[int, Path]:
    """Make an empty one beside `file`, for its owner alone from its first moment. Returns: a descriptor, and what it is
    called meanwhile. Raises: OSError."""
    draft = _name(file)
    return os.open(draft, _FLAGS, 0o600), draft


def try_directory(directory: Path) -> None:
    """Whether a file can be made there; leaves nothing. Raises: OSError."""
    draft = _name(directory / "mail-bridge")
    # Windows removes it with its last descriptor, a virus scanner's too.
    handle = os.open(draft, _FLAGS | getattr(os, "O_TEMPORARY", 0), 0o600)
    os.close(handle)
    if os.name != "nt":
        draft.unlink()


def _name(file: Path) -> Path:
    return file.with_name(f".{file.name}.{secrets.token_hex(4)}")
