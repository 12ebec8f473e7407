"""A console window of Windows shows the log's colours, and a click in it does not stop a program that writes to it."""

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


COLOURS = """
import ctypes, os, sys
from ctypes import wintypes
from bridge.host.console_window import show_colours

kernel32 = ctypes.WinDLL("kernel32")
kernel32.GetStdHandle.restype = wintypes.HANDLE
window, mode = wintypes.HANDLE(kernel32.GetStdHandle(-12)), wintypes.DWORD()
assert kernel32.SetConsoleMode(window, 0x3)
show_colours()
assert kernel32.GetConsoleMode(window, ctypes.byref(mode))
sys.exit(0 if mode.value == 0x7 and "NO_COLOR" not in os.environ else 1)
"""


@pytest.mark.skipif(sys.platform != "win32", reason="Windows alone has such windows")
def test_colours_are_shown_and_nothing_is_changed_where_there_is_no_window() -> None:
    new_window = getattr(subprocess, "CREATE_NEW_CONSOLE", 0)
    assert subprocess.run([sys.executable, "-c", COLOURS], creationflags=new_window, timeout=60).returncode == 0
    call = "import os; from bridge.host import console_window; console_window.show_colours(); print(os.environ.keys())"
    done = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True, timeout=60, check=True)
    assert "NO_COLOR" not in done.stdout
