"""A system with exceptions from its proxy by address, as each Mac has one by default and Windows may have some."""

from __future__ import annotations

import socket
import threading
import urllib.request
from typing import Any

import pytest

EXCEPTIONS = {"exclude_simple": False, "exceptions": ("*.local", "169.254/16")}
"""A Mac's own, where nobody has set anything up (System Settings, Network, Proxies)."""


def threads_that_look_up(monkeypatch: pytest.MonkeyPatch) -> list[threading.Thread]:
    """Urllib's own code for a Mac compares, up to Python 3.12 with each host looked up for it. Returns: where it does,
    to be filled."""
    compare: Any = getattr(urllib.request, "_proxy_bypass_macosx_sysconf")  # noqa: B009  private, and there everywhere
    found: list[threading.Thread] = []

    def bypass(host: str) -> bool:
        found.append(threading.current_thread())
        return bool(compare(host, EXCEPTIONS))

    def look_up(host: str) -> str:
        assert threading.current_thread() in found
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")

    monkeypatch.setattr(socket, "gethostbyname", look_up)
    monkeypatch.setattr("bridge.config.proxies.proxy_bypass", bypass)
    return found
