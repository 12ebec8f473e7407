"""What a command may write over: an earlier file of its own kind, never a configuration, a key or a store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from bridge.ui.i18n import say

ENOUGH = 64 * 1024
"""Octets of the beginning, to tell of what kind it is."""


def refuse_another_kind(file: Path, is_ours: Callable[[bytes], bool]) -> None:
    """Raises: UsageError for a file that is there, and that `is_ours` does not know by its beginning. An empty one, as
    mktemp makes it, will do; of one that cannot be read, whoever writes it tells."""
    try:
        if not file.is_file():
            return
        with file.open("rb") as found:
            beginning = found.read(ENOUGH)
    except OSError:
        return
    if beginning and not is_ours(beginning):
        raise click.UsageError(say("{file} already exists, and is something else: name another file").format(file=file))
