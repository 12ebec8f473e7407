"""The person's browser: what it is called, and a page in it. Python's webbrowser, with one word for "there is none"."""

from __future__ import annotations

import os
import sys

OF_THE_TERMINAL = frozenset({"elinks", "links", "lynx", "w3m", "www-browser"})
"""Those that webbrowser knows."""
OS_HAS_ONE = sys.platform in {"win32", "darwin"}


def name() -> str | None:
    """The default browser's; None if there is none to start, as in a service. May take a moment, the first time."""
    import webbrowser  # late: few processes need it

    try:
        found = webbrowser.get()
    except (OSError, ValueError, webbrowser.Error):  # OSError: the desktop is asked by a program
        return None
    return str(getattr(found, "name", "")) or type(found).__name__


def has_window() -> bool:
    """False if it may be one of the terminal, which is its own until it ends: by its name, or for want of a display.
    May take a moment, as name() does."""
    has_display = OS_HAS_ONE or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
    return has_display and not is_of_the_terminal()


def is_of_the_terminal() -> bool:
    """True if it is known for one. May take a moment, as name() does."""
    return os.path.basename(name() or "") in OF_THE_TERMINAL


def show(url: str) -> bool:
    """Open a page; False if no browser can be started. Blocks until it is closed where it is one of the terminal, or a
    program that webbrowser does not know."""
    import webbrowser

    try:
        return webbrowser.open(url)
    except (OSError, ValueError, webbrowser.Error):  # ValueError: $BROWSER has a quote without its end
        return False
