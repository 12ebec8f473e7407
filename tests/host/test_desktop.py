"""The name of the desktop session that this process belongs to."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bridge.host.desktop import desktop_name


@pytest.mark.skipif(sys.platform != "linux", reason="the environment tells it on Linux alone")
@pytest.mark.parametrize(
    ("display", "wayland", "name"),
    [
        (":0", "", ":0"),
        (":0.1", "", ":0"),
        ("host:10.0", "", "host:10"),
        (":1", "wayland-0", ":1"),
        ("", "wayland-0", "wayland-0"),
        ("", "", ""),
    ],
)
def test_two_screens_of_one_desktop_are_one(
    monkeypatch: pytest.MonkeyPatch, display: str, wayland: str, name: str
) -> None:
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.setenv("WAYLAND_DISPLAY", wayland)
    assert desktop_name() == name


@pytest.mark.skipif(sys.platform != "win32", reason="of a terminal server of Windows")
def test_all_programs_of_a_session_are_of_one_desktop() -> None:
    """They have the session's number, which stays the same when somebody reconnects to it."""
    ask = "from bridge.host.desktop import desktop_name; print(desktop_name())"
    other = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, timeout=60, check=True).stdout
    assert other.strip() == desktop_name()
    assert desktop_name().isdecimal()
