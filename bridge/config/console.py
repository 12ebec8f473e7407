"""What the console is called: in links, as the redirect URI, and by browsers, which leave port 80 out."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

NAMES: Final = ("localhost", "127.0.0.1", "[::1]")
"""This machine's names, as they stand in a URL."""

DEFAULT_PORT: Final = 80
"""That of http (RFC 9110 section 4.2.1). A browser omits it in Host, in Origin and in its address bar."""

USUAL_CONSOLE: Final = 3017
"""The console's port unless another is configured: the one that is registered with the providers."""


def console_url(port: int) -> str:
    """Where the browser finds the console, and comes back to after a sign-in.

    Spelled as browsers spell it, so that nothing on the way to a provider's registration changes the text.
    """
    return f"http://localhost{_port(port)}/"


def sign_in_url(port: int, address: str) -> str:
    """The console's page that starts a sign-in for this address; short enough to type."""
    return f"{console_url(port)}{sign_in_path(address)}"


def sign_in_path(address: str) -> str:
    """The part of that URL after the console's slash. `address` may be any text that a stranger has typed."""
    return f"sign-in/{quote(address, safe='@', errors='replace')}"


def console_urls(port: int) -> frozenset[str]:
    """All spellings that mean the same to a browser. A provider may take each for another redirect URI, so that the
    spelling in the file counts."""
    return frozenset(f"http://{host}{slash}" for host in _hosts("localhost", port) for slash in ("/", ""))


def console_hosts(port: int) -> frozenset[str]:
    """The values of Host by which browsers and other programs may call the console."""
    return frozenset(host for name in NAMES for host in _hosts(name, port))


def _hosts(name: str, port: int) -> set[str]:
    return {f"{name}:{port}", f"{name}{_port(port)}"}


def _port(port: int) -> str:
    return "" if port == DEFAULT_PORT else f":{port}"
