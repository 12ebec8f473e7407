"""Tells apart a person's desktops: somebody who is logged in twice has an icon on each."""

from __future__ import annotations

import ctypes
import os
import re
import sys


def desktop_name() -> str:
    """A name that all programs of one desktop share, and no other desktop has; empty where nobody has two."""
    if sys.platform == "win32":
        session = ctypes.c_ulong()
        ctypes.windll.kernel32.ProcessIdToSessionId(os.getpid(), ctypes.byref(session))
        return str(session.value)
    if sys.platform == "darwin":
        return ""
    display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY", "")
    return re.sub(r"\.\d+$", "", display)  # :0 and :0.1 are screens of one
