"""The person's browser: what it is called, and a page in it. Python's webbrowser, with one word for "there is none"."""

from __future__ import annotations


def name() -> str | None:
    """The default browser's; None if there is none to start, as in a service."""
    import webbrowser  # for whoever asks; each start would hold it

    try:
        found = webbrowser.get()
    except (webbrowser.Error, ValueError):
        return None
    return str(getattr(found, "name", "")) or type(found).__name__


def show(url: str) -> bool:
    """Open a page; False if no browser can be started. Blocks until it is closed where it is one of the terminal, or a
    program that webbrowser does not know."""
    import webbrowser

    try:
        return webbrowser.open(url)
    except (OSError, ValueError, webbrowser.Error):  # ValueError: $BROWSER has a quote without its end
        return False
