"""Text into the clipboard; xclip itself is used in tests/e2e/test_tray.py."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bridge.host.clipboard import copy

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux has no clipboard of its own")

RECORDER = """#!/bin/sh
printf '%s %s|' "${0##*/}" "$*" > "$HOME/record"
exec cat >> "$HOME/record"
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory for programs that write down how they were called; a display of each kind."""
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


def test_the_text_goes_through_a_pipe_and_never_into_the_arguments(programs: Path) -> None:
    install(programs, "wl-copy")
    copy("CANARY-é")
    assert (programs.parent / "record").read_text() == "wl-copy |CANARY-é"


def test_what_fits_the_display_is_taken(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(programs, "wl-copy")
    install(programs, "xclip")
    monkeypatch.delenv("WAYLAND_DISPLAY")
    copy("x")
    assert (programs.parent / "record").read_text() == "xclip -selection clipboard|x"


def test_a_program_that_fails_is_an_error_without_the_text(programs: Path) -> None:
    install(programs, "wl-copy", "#!/bin/sh\necho CANARY >&2; exit 1\n")
    with pytest.raises(OSError, match="wl-copy failed") as caught:
        copy("CANARY")
    assert "CANARY" not in str(caught.value)


def test_without_a_display_or_a_program_it_is_an_error(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(programs))
    with pytest.raises(OSError, match="none of wl-copy, xclip and xsel"):
        copy("x")
    install(programs, "xsel")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name)
    with pytest.raises(OSError, match="no display"):
        copy("x")
