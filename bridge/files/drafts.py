"""Files under a temporary name beside their place: written and then renamed, or to see whether one can be made.

Not by tempfile: on Windows it takes "permission denied" for a directory of that name and tries another name, two
thousand million times: for hours, at full CPU load (CPython issue 66305, present up to Python 3.13 at least).
"""

from __future__ import annotations

import errno
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)


def draft_of(file: Path) -> tuple[int, Path]:
    """Make an empty draft beside `file`, private from the start. Returns: a descriptor and the temporary name. Raises:
    OSError."""
    draft = _name(file)
    return os.open(draft, _FLAGS, 0o600), draft


@contextmanager
def staged(file: Path, text: str) -> Iterator[Path]:
    """A draft of this file with a text as UTF-8, private and synced to disk. The caller renames it; otherwise it is
    removed at the end. Raises: OSError."""
    handle, draft = draft_of(file)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as opened:
            opened.write(text)
            opened.flush()
            os.fsync(opened.fileno())
        yield draft
    finally:
        with suppress(OSError):  # a failing disk may be read-only from then on; the first error is what counts
            draft.unlink(missing_ok=True)


def check_directory(directory: Path, *, is_above: bool = False) -> None:
    """As try_directory(), but without making a file if the system can tell. Raises: OSError."""
    if sys.platform == "win32":  # os.access() ignores access lists there
        try_directory(directory, is_above=is_above)
    elif not os.access(directory, os.W_OK | os.X_OK):
        is_read_only = os.statvfs(directory).f_flag & os.ST_RDONLY  # os.access() does not say why
        number = errno.EROFS if is_read_only else errno.EACCES
        raise OSError(number, os.strerror(number))


def try_directory(directory: Path, *, is_above: bool = False) -> None:
    """Check that a file can be made there, by making one; leaves nothing behind. Raises: OSError.

    Args: is_above, True if a directory is to be made there: in C:\\, Windows lets everybody make directories, but not
    files.
    """
    draft = _name(directory / "mail-bridge")
    if is_above:
        draft.mkdir(0o700)
        draft.rmdir()
        return
    # Windows removes the file when its last descriptor is closed, even if that is a virus scanner's.
    handle = os.open(draft, _FLAGS | getattr(os, "O_TEMPORARY", 0), 0o600)
    os.close(handle)
    if os.name != "nt":
        draft.unlink()


def _name(file: Path) -> Path:
    return file.with_name(f".{file.name}.{secrets.token_hex(4)}")
