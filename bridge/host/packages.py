"""Packages that are imported only when they are needed: their presence is checked at the start."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable

LATE = ("aiohttp", "certifi", "google.auth", "google_auth_oauthlib", "jinja2", "msal", "requests")
"""Imported for a visitor of the console, a webhook, a refresh or a sign-in: perhaps at night, when nobody is
watching."""


def missing(names: Iterable[str] = LATE) -> tuple[str, ...]:
    """Those that cannot be found. Imports none of them; a millisecond for all."""
    return tuple(name for name in names if not _is_there(name))


def _is_there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # its parent package is missing
        return False
