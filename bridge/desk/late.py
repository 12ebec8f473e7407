"""Late imports: that the system has too little left for one just now is an answer, not a bug."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bridge.advice.system import too_little
from bridge.errors import TooLittleLeft
from bridge.shortage import is_short


@contextmanager
def loading() -> Iterator[None]:
    """Put it around late imports. Raises: TooLittleLeft without a descriptor or memory for them; other errors."""
    try:
        yield
    except (OSError, ImportError) as problem:
        if not is_short(problem):
            raise
        raise TooLittleLeft(too_little(problem)) from problem
