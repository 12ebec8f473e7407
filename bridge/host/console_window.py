"""A console window of Windows, where a click selects text, and stops whoever writes to it until a key is pressed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

STD_INPUT_HANDLE = -10
ENABLE_QUICK_EDIT_MODE = 0x0040
ENABLE_EXTENDED_FLAGS = 0x0080
"""Without it the other one is not looked at: SetConsoleMode, High-Level Console Modes."""


@contextmanager
def held_by_no_click() -> Iterator[None]:
    """Meanwhile a click does nothing; who wants to copy a line has *Edit > Mark* in the window's menu."""
    if sys.platform != "win32":
        yield
        return
    import ctypes
    from ctypes import wintypes

    kernel32 = ctypes.WinDLL("kernel32")
    kernel32.GetStdHandle.restype = wintypes.HANDLE
    window = wintypes.HANDLE(kernel32.GetStdHandle(STD_INPUT_HANDLE))
    before = wintypes.DWORD()
    if not kernel32.GetConsoleMode(window, ctypes.byref(before)):  # no console: a task, pythonw, a file
        yield
        return
    kernel32.SetConsoleMode(window, before.value & ~ENABLE_QUICK_EDIT_MODE | ENABLE_EXTENDED_FLAGS)
    try:
        yield
    finally:
        kernel32.SetConsoleMode(window, before.value | ENABLE_EXTENDED_FLAGS)
