"""Tells whether everybody may read or change a file: by its access list on Windows, by its mode elsewhere."""

from __future__ import annotations

import sys

from bridge.config.exposure import MODES, Readers


def file_readers() -> Readers:
    """This system's."""
    if sys.platform == "win32":
        from bridge.host.access_lists import AccessLists

        return AccessLists()
    return MODES
