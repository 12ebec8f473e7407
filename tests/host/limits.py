"""Lower the limits of this process for a moment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def out_of_descriptors(left: int = 0) -> Iterator[None]:
    """This process can open only `left` more files at once; what is open stays open."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = [os.open(os.devnull, os.O_RDONLY) for _ in range(left)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(lowest, default=2) + 1, before[1]))
    for number in lowest:
        os.close(number)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
