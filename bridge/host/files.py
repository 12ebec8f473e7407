"""Files for their owner alone, written whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from bridge.files.drafts import staged
from bridge.files.replacing import replace


def write_private(path: Path, text: str) -> None:
    """Write a text as UTF-8 into a file that only its owner may read, replacing an existing one; readers see all of the
    new text or none. On Windows the directory's access list says who may read. Raises: OSError."""
    with staged(path, text) as draft:
        replace(draft, path)


def take_free_name(temporary: Path, path: Path) -> None:
    """Rename a staged file to a free name; if two processes try, one gets FileExistsError, and no file is overwritten.

    Raises: OSError.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)  # rename alone would overwrite
    try:
        os.close(handle)
        replace(temporary, path)
    except OSError:
        with suppress(OSError):  # as staged() does
            path.unlink(missing_ok=True)
        raise
