"""Switches off pydantic's plugins: they would see client secrets, and the search for them takes memory for good."""

from __future__ import annotations

import sys
from types import ModuleType

LOADER = "pydantic.plugin._loader"
"""The module that pydantic asks for them, with the first model. It imports importlib.metadata for that (and zipfile,
csv, email) and looks into each installed package, which costs 1 MiB for as long as the process lives."""


def look_for_none() -> None:
    """Call before the first model. A version of pydantic that asks another module looks for plugins as usual."""
    loader = ModuleType(LOADER)
    vars(loader)["get_plugins"] = lambda: ()
    sys.modules.setdefault(LOADER, loader)
