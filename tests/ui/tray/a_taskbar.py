"""Run by test_icon.py on Windows: our icon, and a fake taskbar that refuses orders when the test wants it to.

Arguments: a file, and the number of the window message that ends the icon. Writes to the file, as JSON: our orders to
the taskbar; our answers to the end of a session that was then called off, with the number of actions chosen before and
after that message; and the names of the chosen actions.
"""

from __future__ import annotations

import ctypes
import json
import sys
import threading
from collections import deque
from ctypes import wintypes
from pathlib import Path

from bridge.ui.tray import icon, taskbar
from bridge.ui.tray.view import Action, Entry, Picture, Quit, View

assert sys.platform == "win32"

NIM_ADD, NIM_MODIFY, NIM_DELETE = range(3)
WM_QUERYENDSESSION, WM_ENDSESSION, WM_COPYDATA = 0x11, 0x16, 0x4A
SIGNATURE = 0x34753423
"""Marks the data that Windows' own Shell_NotifyIcon sends; wine's has no such mark, and puts the order into `kind`."""

user32 = ctypes.WinDLL("user32", use_last_error=True)
user32.SendMessageW.argtypes = (wintypes.HWND, wintypes.UINT, wintypes.WPARAM, wintypes.LPARAM)
user32.DefWindowProcW.argtypes = user32.SendMessageW.argtypes
user32.DefWindowProcW.restype = ctypes.c_ssize_t
Procedure = ctypes.WINFUNCTYPE(ctypes.c_ssize_t, wintypes.HWND, wintypes.UINT, wintypes.WPARAM, wintypes.LPARAM)


class CopyData(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_size_t), ("size", wintypes.DWORD), ("content", ctypes.POINTER(wintypes.DWORD)))


class WindowClass(ctypes.Structure):
    _fields_ = (
        ("style", wintypes.UINT),
        ("procedure", Procedure),
        ("extra", ctypes.c_int * 2),
        ("instance", wintypes.HINSTANCE),
        ("icon", wintypes.HANDLE),
        ("cursor", wintypes.HANDLE),
        ("background", wintypes.HANDLE),
        ("menu", wintypes.LPCWSTR),
        ("name", wintypes.LPCWSTR),
    )


class Bar:
    """A window that Shell_NotifyIcon takes for the taskbar, because it was created last."""

    def __init__(self) -> None:
        self.answers: deque[bool] = deque()
        """The answers to the next orders; after them it answers truthfully."""
        self.has = False
        self.orders: list[int] = []
        self.owner = 0
        self.changed = threading.Condition()
        self._procedure = Procedure(self._take)
        is_there = threading.Event()
        threading.Thread(target=self._run, args=(is_there,), daemon=True).start()
        is_there.wait()

    def until_it_has(self) -> None:
        with self.changed:
            self.changed.wait_for(lambda: self.has and not self.answers)

    def _run(self, is_there: threading.Event) -> None:
        made = WindowClass(procedure=self._procedure, name="Shell_TrayWnd")
        assert user32.RegisterClassW(ctypes.byref(made))
        assert user32.CreateWindowExW(0, "Shell_TrayWnd", None, 0, 0, 0, 0, 0, None, None, None, None)
        is_there.set()
        message = wintypes.MSG()
        while user32.GetMessageW(ctypes.byref(message), None, 0, 0) > 0:
            user32.DispatchMessageW(ctypes.byref(message))

    def _take(self, window: int, number: int, first: int, second: int) -> int:
        if number != WM_COPYDATA:
            return int(user32.DefWindowProcW(window, number, first, second))
        data = ctypes.cast(second, ctypes.POINTER(CopyData)).contents
        order = data.content[1] if data.content[0] == SIGNATURE else data.kind
        with self.changed:
            self.owner = first
            self.orders.append(order)
            is_done = self.answers.popleft() if self.answers else self.has != (order == NIM_ADD)
            if is_done:
                self.has = order != NIM_DELETE
            self.changed.notify_all()
            return int(is_done)


def seen(picture: Picture) -> View:
    return View(picture, picture.value, (Entry("quit", Quit()),))


def main() -> None:
    taskbar.RETRY_SECONDS = 0.01  # type: ignore[misc]
    bar, chosen, answers = Bar(), list[Action](), list[int]()
    shown = icon.Icon()
    shown.show(seen(Picture.ABSENT))
    bar.answers.extend([False] * 4)  # early during a login it is too busy

    def choose(action: Action) -> None:
        chosen.append(action)
        threading.Thread(target=shown.stop).start()

    def work() -> None:
        bar.until_it_has()
        bar.has = False  # the taskbar was restarted, and was too busy when we asked
        shown.show(seen(Picture.READY))
        bar.until_it_has()
        user32.SendMessageW(bar.owner, user32.RegisterWindowMessageW("TaskbarCreated"), 0, 0)  # it still has our icon
        answers.append(user32.SendMessageW(bar.owner, WM_QUERYENDSESSION, 0, 0))
        answers.append(user32.SendMessageW(bar.owner, WM_ENDSESSION, 0, 0))  # another program has refused the end
        answers.append(len(chosen))
        user32.SendMessageW(bar.owner, int(sys.argv[2]), 1, 0)
        answers.append(len(chosen))

    thread = threading.Thread(target=work)
    shown.run(choose, thread.start, lambda: None)
    thread.join()
    told = {"answers": answers, "chosen": [type(action).__name__ for action in chosen], "orders": bar.orders}
    Path(sys.argv[1]).write_text(json.dumps(told))


if __name__ == "__main__":
    main()
