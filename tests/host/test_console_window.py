"""No click in a console window of Windows stops who writes to it."""

from __future__ import annotations

import subprocess
import sys

import pytest

IN_A_WINDOW = """
import ctypes, sys
from ctypes import wintypes
from bridge.host.console_window import held_by_no_click

kernel32 = ctypes.WinDLL("kernel32")
kernel32.GetStdHandle.restype = wintypes.HANDLE

def quick_edit():
    mode = wintypes.DWORD()
    assert kernel32.GetConsoleMode(wintypes.HANDLE(kernel32.GetStdHandle(-10)), ctypes.byref(mode))
    return bool(mode.value & 0x40)

window = wintypes.HANDLE(kernel32.GetStdHandle(-10))
assert kernel32.SetConsoleMode(window, 0x1F7)
modes = [quick_edit()]
with held_by_no_click():
    modes.append(quick_edit())
modes.append(quick_edit())
sys.exit(0 if modes == [True, False, True] else 1)
"""


@pytest.mark.skipif(sys.platform != "win32", reason="Windows alone has such windows")
def test_a_click_selects_nothing_meanwhile() -> None:
    new_window = getattr(subprocess, "CREATE_NEW_CONSOLE", 0)
    assert subprocess.run([sys.executable, "-c", IN_A_WINDOW], creationflags=new_window, timeout=60).returncode == 0
