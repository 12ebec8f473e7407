"""The person's browser: its name, and a page in it. Python's webbrowser, with one way to say "there is none"."""

from __future__ import annotations

import os
import sys

OF_THE_TERMINAL = frozenset({"elinks", "links", "lynx", "w3m", "www-browser"})
"""Browsers of the terminal that webbrowser knows."""
OS_HAS_ONE = sys.platform in {"win32", "darwin"}


def name() -> str | None:
    """The default browser's name; None if none can be started, as in a service. May take a moment the first time."""
    import webbrowser  # late: few processes need it

    try:
        found = webbrowser.get()
    except (OSError, ValueError, webbrowser.Error):  # OSError: the desktop is asked by a program
        return None
    return str(getattr(found, "name", "")) or type(found).__name__


def has_window() -> bool:
    """False if the browser may be one of the terminal, which it occupies until it ends: judged by its name, or by the
    lack of a display. May take a moment, as name() does."""
    has_display = OS_HAS_ONE or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
    return has_display and not is_of_the_terminal()


def is_of_the_terminal() -> bool:
    """True if it is a known browser of the terminal. May take a moment, as name() does."""
    return os.path.basename(name() or "") in OF_THE_TERMINAL


def show(url: str) -> bool:
    """Open a page; False if no browser can be started. Blocks until the browser is closed if it is one of the terminal,
    or a program that webbrowser does not know."""
    import webbrowser

    try:
        return webbrowser.open(url)
    except (OSError, ValueError, webbrowser.Error):  # ValueError: $BROWSER has a quote without its end
        return False
