"""The browser that the environment names: its name, and that it is started. Each test asks in a separate process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

SHOWN = "browser.name(), browser.show('http://localhost:3017/')"
"""The browser's name, and whether it could be started."""


def asked(named: str, question: str = SHOWN, display: Mapping[str, str] = MappingProxyType({})) -> str:
    environ = {name: value for name, value in os.environ.items() if name not in {"DISPLAY", "WAYLAND_DISPLAY", "TERM"}}
    command = [sys.executable, "-c", f"from bridge.host import browser; print({question})"]
    environ |= {"PATH": "", "BROWSER": named, **display}
    return subprocess.check_output(command, text=True, env=environ).strip()


@pytest.mark.skipif(sys.platform == "win32", reason="a shell's script, and Windows has a browser of its own")
def test_it_is_started_with_the_page(tmp_path: Path) -> None:
    program = tmp_path / "browser"
    program.write_text(f"#!/bin/sh\necho \"$1\" > '{tmp_path}/page'\n")
    program.chmod(0o755)
    assert asked(f"{program} %s") == f"{program} True"
    assert (tmp_path / "page").read_text() == "http://localhost:3017/\n"


@pytest.mark.skipif(sys.platform in {"win32", "darwin"}, reason="these have a browser of their own")
@pytest.mark.parametrize("named", ["", "/home/o'brien/browser %s"])
def test_none_is_none_and_no_traceback(named: str) -> None:
    """Python splits BROWSER as a shell does, and this one has an unmatched apostrophe."""
    assert asked(named) == "None False"


@pytest.mark.skipif(sys.platform in {"win32", "darwin"}, reason="these have a browser of their own")
@pytest.mark.parametrize(
    ("named", "display", "has_window"),
    [
        ("/opt/browsers/firefox %s", {"DISPLAY": ":7"}, True),
        ("/opt/browsers/firefox %s", {"WAYLAND_DISPLAY": "wayland-0"}, True),
        ("/opt/browsers/firefox %s", {}, False),
        ("/usr/bin/w3m %s", {"DISPLAY": ":7"}, False),
    ],
)
def test_one_of_the_terminal_is_known(named: str, display: dict[str, str], has_window: bool) -> None:
    assert asked(named, "browser.has_window()", display) == str(has_window)
