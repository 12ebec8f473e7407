"""Files for their owner alone, written whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from bridge.drafts import stage_private
from bridge.replacing import replace


def write_private(path: Path, text: str, *, overwrite: bool = False) -> None:
    """Write a text as UTF-8 into a file that only its owner may read; readers see all of it or nothing.

    On Windows the directory's access list says who may read. Raises: FileExistsError unless `overwrite`; OSError.
    """
    temporary = stage_private(path, text)
    try:
        take_place(temporary, path, overwrite=overwrite)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def take_place(temporary: Path, path: Path, *, overwrite: bool) -> None:
    """Rename a staged file. Raises: FileExistsError unless `overwrite`; OSError."""
    if overwrite:
        replace(temporary, path)
    else:
        _take_place(temporary, path)


def _take_place(temporary: Path, path: Path) -> None:
    """Rename to a name that is free; of two who try, one gets FileExistsError, and nobody's file is lost."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)  # rename alone would overwrite
    try:
        os.close(handle)
        replace(temporary, path)
    except OSError:
        with suppress(OSError):  # as stage_private() does
            path.unlink(missing_ok=True)
        raise
