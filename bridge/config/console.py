"""What the console is called: in links, as the redirect URI, and by browsers, which leave port 80 out."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

NAMES: Final = ("localhost", "127.0.0.1", "[::1]")
"""Of this machine, as they stand in a URL."""

DEFAULT_PORT: Final = 80
"""Of http (RFC 9110 section 4.2.1). A browser names it neither in Host nor in Origin, nor in its address bar."""

USUAL_CONSOLE: Final = 3017
"""The console's own port, for want of another: the one that is registered with the providers."""


def console_url(port: int) -> str:
    """Where the browser finds the console, and comes back to after a sign-in.

    Spelled as browsers do: nothing on the way to a provider's registration makes another text of it.
    """
    return f"http://localhost{_port(port)}/"


def sign_in_url(port: int, address: str) -> str:
    """The console's page that starts a sign-in for this address; short enough to type."""
    return f"{console_url(port)}{sign_in_path(address)}"


def sign_in_path(address: str) -> str:
    """The same behind the console's last slash. `address`: also what a stranger has typed, which finds nothing."""
    return f"sign-in/{quote(address, safe='@', errors='replace')}"


def console_urls(port: int) -> frozenset[str]:
    """All that means the same to a browser. To a provider each may be another redirect URI: what is written counts."""
    return frozenset(f"http://{host}{slash}" for host in _hosts("localhost", port) for slash in ("/", ""))


def console_hosts(port: int) -> frozenset[str]:
    """What browsers and other programs may call it in Host."""
    return frozenset(host for name in NAMES for host in _hosts(name, port))


def _hosts(name: str, port: int) -> set[str]:
    return {f"{name}:{port}", f"{name}{_port(port)}"}


def _port(port: int) -> str:
    return "" if port == DEFAULT_PORT else f":{port}"
