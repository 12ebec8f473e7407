"""Which desktop this is."""

from __future__ import annotations

import sys

import pytest

from bridge.host.desktop import desktop_name

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the environment tells it on Linux alone")


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
