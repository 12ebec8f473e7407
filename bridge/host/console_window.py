"""A console window of Windows: it shows a log's colours, and stops nobody who writes while something is selected."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager

STD_INPUT_HANDLE, STD_ERROR_HANDLE = -10, -12
ENABLE_QUICK_EDIT_MODE = 0x0040
ENABLE_EXTENDED_FLAGS = 0x0080
"""Without it the other one is not looked at: SetConsoleMode, High-Level Console Modes."""
ENABLE_VIRTUAL_TERMINAL_PROCESSING = 0x0004
"""Else it prints the marks of colours, `←[32m`. Since Windows 10; on at the start only where a shell has left it so."""


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


def show_colours() -> None:
    """In the window of standard error, from now on. What cannot show them is spared the marks (no-color.org)."""
    if sys.platform != "win32":
        return
    import ctypes
    from ctypes import wintypes

    kernel32 = ctypes.WinDLL("kernel32")
    kernel32.GetStdHandle.restype = wintypes.HANDLE
    window = wintypes.HANDLE(kernel32.GetStdHandle(STD_ERROR_HANDLE))
    mode = wintypes.DWORD()
    if not kernel32.GetConsoleMode(window, ctypes.byref(mode)):  # a task, pythonw, a file
        return
    if not kernel32.SetConsoleMode(window, mode.value | ENABLE_VIRTUAL_TERMINAL_PROCESSING):
        os.environ["NO_COLOR"] = "1"


def encoding_of_pipe(descriptor: int) -> str:
    """What the programs of a console write to each other, in French cp850, where Python has the cp1252 of files; a
    PowerShell sends through pipes what goes to a file, too. Empty where this is none, or somebody has chosen.

    Raises: OSError.
    """
    if sys.platform != "win32" or sys.flags.utf8_mode or "PYTHONIOENCODING" in os.environ:
        return ""
    import ctypes

    number = ctypes.WinDLL("kernel32").GetConsoleOutputCP()
    return f"cp{number}" if number and stat.S_ISFIFO(os.fstat(descriptor).st_mode) else ""
