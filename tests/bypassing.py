"""A system whose proxy settings except addresses: every Mac has such an exception by default, and Windows may."""

from __future__ import annotations

import socket
import threading
import urllib.request
from typing import Any

import pytest

EXCEPTIONS = {"exclude_simple": False, "exceptions": ("*.local", "169.254/16")}
"""The defaults of a Mac on which nobody has changed anything (System Settings, Network, Proxies)."""


def threads_that_look_up(monkeypatch: pytest.MonkeyPatch) -> list[threading.Thread]:
    """Use urllib's own comparison for a Mac, which up to Python 3.12 looks up every host. Returns: the threads in which
    it runs; the list fills as it is called."""
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
