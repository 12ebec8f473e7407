"""The configuration's `language` or `console` alone, for a command that needs nothing else of it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from bridge.config.console import USUAL_CONSOLE

_LINE = re.compile(r"""(?m)^language:[ \t]+(["']?)(en|fr|auto)\1[ \t]*(?:#.*)?$""")
"""Only a key of the root can begin in the first column. A command that only asks a running bridge does not parse YAML
for one word; if this key is written in another way, the system's language is used."""
_CONSOLE = re.compile(r"""(?m)^console:[ \t]+(["']?)(?:[\w.\[\]:-]*:)?(\d{1,5})\1[ \t]*(?:#.*)?$""")


def configured_language(path: Path) -> str:
    """`en`, `fr` or `auto`; `auto` too for a file that cannot be read, since others tell what is wrong with it."""
    found = _LINE.search(_text_of(path))
    return found[2] if found is not None else "auto"


def configured_console_port(path: Path) -> int:
    """The console's port; the usual one too for a file that cannot be read."""
    found = _CONSOLE.search(_text_of(path))
    return int(found[2]) if found is not None else USUAL_CONSOLE


def _text_of(path: Path) -> str:
    """Empty if the file cannot be read, or is no regular file, which could be read only once."""
    if not os.path.isfile(path):
        return ""
    try:
        return path.read_text("utf-8", "replace").removeprefix("\ufeff")
    except OSError:
        return ""
