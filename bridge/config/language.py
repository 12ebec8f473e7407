"""The configuration's `language` or `console` alone, for a command that needs nothing else of it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from bridge.config.console import USUAL_CONSOLE

_LINE = re.compile(r"""(?m)^language:[ \t]+(["']?)(en|fr|auto)\1[ \t]*(?:#.*)?$""")
"""A key of the root stands in the first column, and no line of another value does. A command that only asks a running
bridge reads no YAML for one word; whoever writes this key in another way gets the system's language."""
_CONSOLE = re.compile(r"""(?m)^console:[ \t]+(["']?)(?:[\w.\[\]:-]*:)?(\d{1,5})\1[ \t]*(?:#.*)?$""")


def configured_language(path: Path) -> str:
    """`en`, `fr` or `auto`; `auto` too for a file that cannot be read, since others tell what is wrong with it."""
    found = _LINE.search(_text_of(path))
    return found[2] if found is not None else "auto"


def configured_console_port(path: Path) -> int:
    """Of the console; the usual one too for a file that cannot be read."""
    found = _CONSOLE.search(_text_of(path))
    return int(found[2]) if found is not None else USUAL_CONSOLE


def _text_of(path: Path) -> str:
    """Empty if it cannot be read, or be read only once."""
    if not os.path.isfile(path):
        return ""
    try:
        return path.read_text("utf-8", "replace").removeprefix("\ufeff")
    except OSError:
        return ""
