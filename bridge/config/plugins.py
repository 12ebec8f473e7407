"""No plugins of pydantic: they would see client secrets, and to look for them takes memory for good."""

from __future__ import annotations

import sys
from types import ModuleType

LOADER = "pydantic.plugin._loader"
"""Where pydantic asks for them, with the first model. It imports importlib.metadata for that (and zipfile, csv, email)
and looks into each installed package, which is 1 MiB for as long as the process lives."""


def look_for_none() -> None:
    """Call before the first model. A pydantic that asks elsewhere looks for them as ever."""
    loader = ModuleType(LOADER)
    vars(loader)["get_plugins"] = lambda: ()
    sys.modules.setdefault(LOADER, loader)
