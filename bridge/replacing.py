"""A file takes another one's place, on Windows too, where whoever reads that one is in the way for a moment."""

from __future__ import annotations

import os
import time
from pathlib import Path

PAUSES = (0.02, 0.1, 0.4) if os.name == "nt" else ()
"""Seconds between attempts: what reads such a small file (an icon, a virus scanner, a backup) is done by then."""


def replace(source: Path, target: Path) -> None:
    """As os.replace(); may block for half a second. Raises: OSError."""
    for seconds in PAUSES:
        try:
            return os.replace(source, target)
        except PermissionError:
            time.sleep(seconds)
    return os.replace(source, target)
