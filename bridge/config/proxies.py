"""Which proxy a request goes through, where the configuration names none: the environment's or the system's."""

from __future__ import annotations

from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from bridge.config.values import is_loopback


def environment_proxy(url: str) -> str | None:
    """As requests reads it: HTTPS_PROXY and NO_PROXY; on Windows and macOS the system's settings. None: directly.

    Blocks where those settings have exceptions by address, as on every Mac by default: the host is looked up, to
    compare its address.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_loopback(host) or proxy_bypass(host):
        return None
    proxies = getproxies()
    found = proxies.get(parts.scheme) or proxies.get("all")
    if not found:
        return None
    return found if "://" in found else f"http://{found}"
