"""Late imports: that a part cannot be loaded just now is an answer, not a bug."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bridge.errors import TooLittleLeft
from bridge.shortage import lacking


@contextmanager
def loading() -> Iterator[None]:
    """Put it around late imports. Raises: TooLittleLeft if they cannot be carried out (see bridge.shortage)."""
    try:
        yield
    except (OSError, ImportError) as problem:
        if (reason := lacking(problem)) is None:
            raise
        raise TooLittleLeft(reason) from problem
