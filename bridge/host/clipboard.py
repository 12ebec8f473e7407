"""Copies text to the person's clipboard, by the system's own means; never through a command's arguments."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time

SECONDS = 10.0
"""For a program that only takes a line; one that takes longer has no display."""

PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8)
"""Seconds between attempts to open Windows' clipboard: only one program can have it open, and in a remote session
rdpclip opens it each time its content changes."""

LINUX_PROGRAMS = (
    ("WAYLAND_DISPLAY", ("wl-copy",)),
    ("DISPLAY", ("xclip", "-selection", "clipboard")),
    ("DISPLAY", ("xsel", "--clipboard", "--input")),
)
"""The display that each needs, and its command line; the first one that is installed is used."""


def copy(text: str) -> None:
    """Put `text` into the clipboard. Raises: OSError if nothing here can."""
    if sys.platform == "win32":
        _copy_on_windows(text)
    elif sys.platform == "darwin":
        _hand_to(("pbcopy",), text)
    else:
        _hand_to(_linux_program(), text)


def _linux_program() -> tuple[str, ...]:
    for display, command in LINUX_PROGRAMS:
        if os.environ.get(display) and shutil.which(command[0]) is not None:
            return command
    raise FileNotFoundError("none of wl-copy, xclip and xsel is installed, or there is no display")


def _hand_to(command: tuple[str, ...], text: str) -> None:
    """Give the text to the program. It stays in the background to serve the text, so we do not wait for its output."""
    try:
        done = subprocess.run(  # noqa: S603  the system's own program, by name; the text goes to its standard input
            command,
            input=text.encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"{command[0]} does not end") from None  # from None: the cause says nothing more
    if done.returncode != 0:
        raise OSError(f"{command[0]} failed")


if sys.platform == "win32":
    import ctypes
    from ctypes import wintypes

    CF_UNICODETEXT = 13
    GMEM_MOVEABLE = 2

    _user32 = ctypes.WinDLL("user32", use_last_error=True)
    _kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
    _user32.OpenClipboard.argtypes = (wintypes.HWND,)
    _user32.SetClipboardData.argtypes = (wintypes.UINT, wintypes.HANDLE)
    _user32.SetClipboardData.restype = wintypes.HANDLE
    _user32.RegisterClipboardFormatW.argtypes = (wintypes.LPCWSTR,)
    _kernel32.GlobalAlloc.argtypes = (wintypes.UINT, ctypes.c_size_t)
    _kernel32.GlobalAlloc.restype = wintypes.HGLOBAL
    _kernel32.GlobalFree.argtypes = (wintypes.HGLOBAL,)
    _kernel32.GlobalLock.argtypes = (wintypes.HGLOBAL,)
    _kernel32.GlobalLock.restype = wintypes.LPVOID
    _kernel32.GlobalUnlock.argtypes = (wintypes.HGLOBAL,)

    def _copy_on_windows(text: str) -> None:
        """The text is kept out of the clipboard's history, and is not sent to other machines."""
        _open()
        try:
            _user32.EmptyClipboard()
            _give(CF_UNICODETEXT, text.encode("utf-16-le") + b"\0\0")
            for name in ("CanIncludeInClipboardHistory", "CanUploadToCloudClipboard"):
                _give(_user32.RegisterClipboardFormatW(name), b"\0\0\0\0")
        finally:
            _user32.CloseClipboard()

    def _open() -> None:
        for seconds in PAUSES:
            if _user32.OpenClipboard(None):
                return
            time.sleep(seconds)
        if not _user32.OpenClipboard(None):
            raise ctypes.WinError(ctypes.get_last_error())

    def _give(kind: int, content: bytes) -> None:
        """The system owns the memory once it has taken it."""
        handle = _kernel32.GlobalAlloc(GMEM_MOVEABLE, len(content))
        address = _kernel32.GlobalLock(handle) if handle else None
        if not address:
            raise ctypes.WinError(ctypes.get_last_error())
        ctypes.memmove(address, content, len(content))
        _kernel32.GlobalUnlock(handle)
        if not _user32.SetClipboardData(kind, handle):
            problem = ctypes.WinError(ctypes.get_last_error())
            _kernel32.GlobalFree(handle)
            raise problem
