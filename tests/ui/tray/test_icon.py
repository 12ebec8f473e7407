"""The pictures, at the sizes that systems ask for. The icon itself is tested in tests/e2e/test_tray.py."""

from __future__ import annotations

import io
import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from PIL.IcoImagePlugin import IcoImageFile

from bridge.ui.tray.icon import SIZES, Drawing, clipped
from bridge.ui.tray.taskbar import WM_CLOSE, WM_ENDSESSION
from bridge.ui.tray.view import Picture

SCRIPTS = Path(__file__).parents[3] / "scripts"


def test_every_picture_is_made_from_its_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    script = runpy.run_path(str(SCRIPTS / "icons.py"))
    assert script["SIZES"] == SIZES
    assert sorted(path.stem for path in script["PICTURES"].glob("*.svg")) == sorted(each.value for each in Picture)
    assert list(script["outdated"]()) == []


@pytest.mark.parametrize("picture", list(Picture))
def test_windows_gets_each_size_as_it_was_drawn(picture: Picture) -> None:
    content = io.BytesIO()
    Drawing(picture).save(content, format="ICO")  # the call that pystray makes on Windows
    content.seek(0)
    with IcoImageFile(content) as icon:
        assert icon.info["sizes"] == {(size, size) for size in SIZES}
        for size in SIZES:
            frame = icon.ico.getimage((size, size)).convert("RGBA")
            file = SCRIPTS.parent / f"bridge/ui/tray/pictures/{picture.value}-{size}.png"
            with Image.open(file) as drawn:
                assert frame.tobytes() == drawn.convert("RGBA").tobytes(), size


def test_the_four_pictures_differ_at_the_smallest_size() -> None:
    seen = set()
    for picture in Picture:
        with Image.open(SCRIPTS.parent / f"bridge/ui/tray/pictures/{picture.value}-16.png") as drawn:
            seen.add(drawn.convert("L").tobytes())  # in grey, for people who cannot tell the colours apart
    assert len(seen) == len(Picture)


@pytest.mark.parametrize(
    ("text", "limit", "shown"),
    [("abc", 3, "abc"), ("abcd", 3, "ab…"), ("a😀", 3, "a😀"), ("ab😀", 3, "ab…"), ("a😀c", 3, "a…")],
)
def test_what_windows_has_no_room_for_is_cut_between_characters(text: str, limit: int, shown: str) -> None:
    assert clipped(text, limit) == shown
    assert len(clipped(text, limit).encode("utf-16-le")) <= 2 * limit


def test_on_a_mac_nothing_is_asked_of_appkit_but_in_the_main_thread() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.ui.tray.a_mac"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["astray"] == [], "from macOS 26 on that is the end of the process (SIGTRAP)"
    assert seen["setActivationPolicy_"] == [1], "NSApplicationActivationPolicyAccessory"
    assert seen["setHidden_"] == [False]
    assert seen["setToolTip_"] == ["somebody"]


@pytest.mark.skipif(sys.platform != "win32", reason="a taskbar is Windows' alone")
@pytest.mark.parametrize("end", [WM_ENDSESSION, WM_CLOSE])
def test_a_taskbar_that_is_too_busy_is_asked_again_and_an_end_is_nothing_to_refuse(tmp_path: Path, end: int) -> None:
    told = tmp_path / "told.json"  # not a pipe: the first window starts wine's desktop, which would keep it open
    subprocess.run([sys.executable, "-m", "tests.ui.tray.a_taskbar", str(told), str(end)], timeout=60, check=True)
    seen = json.loads(told.read_text())
    add, modify, delete = range(3)
    early = [modify, add, modify, add, modify, add]
    started_anew = [modify, modify, add]
    had_us_still = [add, modify]
    assert seen["orders"] == [*early, *started_anew, *had_us_still, delete]
    assert seen["answers"] == [1, 0, 0, 1], "it may end; it does not; nobody has stopped; a stop, before the answer"
    assert seen["chosen"] == ["Quit"]
