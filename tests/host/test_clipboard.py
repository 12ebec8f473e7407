"""Text in the clipboard, with fake programs; tests/e2e/test_tray.py uses the real xclip."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bridge.host.clipboard import copy

linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux has no clipboard of its own")

RECORDER = """#!/bin/sh
printf '%s %s|' "${0##*/}" "$*" > "$HOME/record"
exec cat >> "$HOME/record"
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory for fake programs, which write down how they were called; DISPLAY and WAYLAND_DISPLAY are set."""
    place = tmp_path / "bin"
    place.mkdir()
    monkeypatch.setenv("PATH", f"{place}:/bin:/usr/bin")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DISPLAY", ":7")
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-7")
    return place


def install(place: Path, name: str, script: str = RECORDER) -> None:
    path = place / name
    path.write_text(script)
    path.chmod(0o755)


@linux
def test_the_text_goes_through_a_pipe_and_never_into_the_arguments(programs: Path) -> None:
    install(programs, "wl-copy")
    copy("CANARY-é")
    assert (programs.parent / "record").read_text() == "wl-copy |CANARY-é"


@linux
def test_what_fits_the_display_is_taken(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(programs, "wl-copy")
    install(programs, "xclip")
    monkeypatch.delenv("WAYLAND_DISPLAY")
    copy("x")
    assert (programs.parent / "record").read_text() == "xclip -selection clipboard|x"


@linux
def test_a_program_that_fails_is_an_error_without_the_text(programs: Path) -> None:
    install(programs, "wl-copy", "#!/bin/sh\necho CANARY >&2; exit 1\n")
    with pytest.raises(OSError, match="wl-copy failed") as caught:
        copy("CANARY")
    assert "CANARY" not in str(caught.value)


@linux
def test_without_a_display_or_a_program_it_is_an_error(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(programs))
    with pytest.raises(OSError, match="none of wl-copy, xclip and xsel"):
        copy("x")
    install(programs, "xsel")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name)
    with pytest.raises(OSError, match="no display"):
        copy("x")


HOLDER = """
import ctypes
user32 = ctypes.WinDLL("user32")
user32.CreateWindowExW.restype = ctypes.c_void_p
user32.CreateWindowExW.argtypes = [
    ctypes.c_uint32, ctypes.c_wchar_p, ctypes.c_wchar_p, ctypes.c_uint32, *[ctypes.c_int] * 4, *[ctypes.c_void_p] * 4
]
user32.OpenClipboard.argtypes = [ctypes.c_void_p]
window = user32.CreateWindowExW(0, "STATIC", "", 0, 0, 0, 0, 0, None, None, None, None)
print("held" if user32.OpenClipboard(window) else "not held", flush=True)
input()
"""


@pytest.mark.skipif(sys.platform != "win32", reason="Windows' clipboard is one program's at a time")
def test_a_program_that_has_the_clipboard_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", HOLDER], stdin=pipe, stdout=pipe, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        slept: list[float] = []

        def released(seconds: float) -> None:
            slept.append(seconds)
            holder.communicate("\n")

        monkeypatch.setattr("bridge.host.clipboard.time.sleep", released)
        copy("CANARY")
    assert len(slept) == 1
