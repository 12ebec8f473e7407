"""Lets only one process do a thing: a second one is told so; a process that ends, in whatever way, makes room."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bridge.host.file_lock import hold
from bridge.host.paths import ensure_private


@contextmanager
def sole(file: Path) -> Iterator[bool]:
    """True for the one process that holds this file, for as long as the context is open; False for all others.

    The system releases the lock when the process ends, so that a crashed one blocks nobody. The file itself stays: if
    it were removed, two processes could each hold a file of that name. Raises: OSError where it cannot be made.
    """
    handle = os.open(ensure_private(file), os.O_RDWR)  # not inherited by children: PEP 446
    try:
        yield hold(handle)
    finally:
        os.close(handle)
