"""A Windows console window: makes it show a log's colours, and not block writers while text is selected."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager

STD_INPUT_HANDLE, STD_ERROR_HANDLE = -10, -12
ENABLE_QUICK_EDIT_MODE = 0x0040
ENABLE_EXTENDED_FLAGS = 0x0080
"""Without it the quick edit flag is ignored: SetConsoleMode, High-Level Console Modes."""
ENABLE_VIRTUAL_TERMINAL_PROCESSING = 0x0004
"""Without it the window prints colour codes as text, `←[32m`. Since Windows 10; initially on only where a shell has
left it on."""


@contextmanager
def held_by_no_click() -> Iterator[None]:
    """Switch off quick edit meanwhile, so that a click cannot block us; *Edit > Mark* in the window's menu still
    copies."""
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
    """Enable colours in the window of standard error; where it cannot show them, switch them off (no-color.org)."""
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
    """The encoding of pipes between console programs, in French cp850, while Python would use the cp1252 of files;
    PowerShell uses pipes even for redirection to a file. Empty if the descriptor is no pipe, or the user has chosen an
    encoding.

    Raises: OSError.
    """
    if sys.platform != "win32" or sys.flags.utf8_mode or "PYTHONIOENCODING" in os.environ:
        return ""
    import ctypes

    number = ctypes.WinDLL("kernel32").GetConsoleOutputCP()
    return f"cp{number}" if number and stat.S_ISFIFO(os.fstat(descriptor).st_mode) else ""
