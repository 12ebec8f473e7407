"""Find coverage files that cannot be read to their end: combining one of them would end the whole run."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path


def is_whole(path: Path) -> bool:
    """True for a SQLite file that its writer has finished."""
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path)) as database:
        return path.stat().st_size > 0 and database.execute("PRAGMA quick_check").fetchall() == [("ok",)]
    return False


def drop_damaged(data_file: Path) -> list[Path]:
    """Remove the damaged files that killed processes have left beside `data_file`. Returns: their paths."""
    damaged = [path for path in data_file.parent.glob(f"{data_file.name}.*") if not is_whole(path)]
    for path in damaged:
        path.unlink(missing_ok=True)
    return damaged
