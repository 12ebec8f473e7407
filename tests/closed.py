"""A directory that belongs to another user than the one this process runs as."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NOBODY = 65534


@contextmanager
def closed(directory: Path) -> Iterator[None]:
    """While the context is open, this process is a user who may not enter `directory`; before and after it is root."""
    if sys.platform != "linux" or os.getuid() != 0:
        pytest.skip("only root may become another user, and root again")
    directory.chmod(0o700)
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
