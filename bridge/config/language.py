"""The configuration's `language` alone, for a command that needs nothing else of it."""

from __future__ import annotations

import re
from pathlib import Path

_LINE = re.compile(r"""(?m)^language:[ \t]+(["']?)(en|fr|auto)\1[ \t]*(?:#.*)?$""")
"""A key of the root stands in the first column, and no line of another value does. A command that only asks a running
bridge reads no YAML for one word; whoever writes this key in another way gets the system's language."""


def configured_language(path: Path) -> str:
    """`en`, `fr` or `auto`; `auto` too for a file that cannot be read, since others tell what is wrong with it."""
    try:
        text = path.read_text("utf-8", "replace")
    except OSError:
        return "auto"
    found = _LINE.search(text.removeprefix("\ufeff"))
    return found[2] if found is not None else "auto"
