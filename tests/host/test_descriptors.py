"""The limit on open files, raised by the program itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.host.descriptors import descriptor_limit, raise_descriptor_limit

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")

CODE = """
from bridge.host.descriptors import descriptor_limit, raise_descriptor_limit
before = descriptor_limit()
raise_descriptor_limit()
print(before, descriptor_limit())
"""


def test_the_soft_limit_goes_up_to_the_hard_one() -> None:
    limited = ["sh", "-c", 'ulimit -Sn 300; ulimit -Hn 700; exec "$@"', "sh", sys.executable, "-c", CODE]
    done = subprocess.run(limited, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["300", "700"]


class UnlimitedMac:
    """The `resource` module of a Mac as delivered: limit 256, and a hard limit that setrlimit(2) does not accept."""

    RLIMIT_NOFILE = 8
    RLIM_INFINITY = 2**63 - 1

    def __init__(self) -> None:
        self.limits = 256, self.RLIM_INFINITY

    def getrlimit(self, which: int) -> tuple[int, int]:
        return self.limits

    def setrlimit(self, which: int, limits: tuple[int, int]) -> None:
        if limits[0] == self.RLIM_INFINITY:
            raise ValueError("current limit exceeds maximum limit")
        self.limits = limits


def test_where_unlimited_cannot_be_had_there_are_still_thousands(monkeypatch: pytest.MonkeyPatch) -> None:
    mac = UnlimitedMac()
    monkeypatch.setitem(sys.modules, "resource", mac)
    raise_descriptor_limit()
    assert mac.limits == (10_240, mac.RLIM_INFINITY), "the hard one stays"
    mac.limits = 20_000, mac.RLIM_INFINITY
    raise_descriptor_limit()
    assert mac.limits[0] == 20_000, "nothing is taken away"
    mac.limits = 256, 100_000
    raise_descriptor_limit()
    assert mac.limits[0] == 100_000, "all that may be had"


def test_unlimited_is_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    mac = UnlimitedMac()
    monkeypatch.setitem(sys.modules, "resource", mac)
    assert descriptor_limit() == 256
    mac.limits = mac.RLIM_INFINITY, mac.RLIM_INFINITY
    assert descriptor_limit() is None


FILLED = """
import fcntl, os, sys
from bridge.host.descriptors import fill_standard_descriptors
fill_standard_descriptors()
with open(sys.argv[1], "w") as found:
    for number in range(3):
        mode = fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE
        print(os.readlink(f"/proc/self/fd/{number}"), os.get_inheritable(number), mode == os.O_RDWR, file=found)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
@pytest.mark.parametrize("closed", [(0, 1, 2), (0,), (2,)], ids=str)
def test_each_number_that_was_closed_is_taken_and_no_other(tmp_path: Path, closed: tuple[int, ...]) -> None:
    found, kept = tmp_path / "found", tmp_path / "kept"
    closing = " ".join(f"{number}<&-" if number in closed else f"{number}<>'{kept}'" for number in range(3))
    started = ["sh", "-c", f'exec "$@" {closing}', "sh", sys.executable, "-c", FILLED, str(found)]
    subprocess.run(started, cwd=Path(__file__).parents[2], check=True)
    assert found.read_text().splitlines() == [
        f"{os.devnull if number in closed else kept} True True" for number in range(3)
    ]


CLOSED = """
import os, sys
import bridge.ui.cli.main as command
before = {"ctypes", "_ctypes"} & set(sys.modules)
command._have_standard_streams()
print(before, *map(os.readlink, ("/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2")), file=open(sys.argv[1], "w"))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_the_standard_numbers_are_taken_before_ctypes_is_loaded(tmp_path: Path) -> None:
    """Loading ctypes makes libffi open a file, which gets the lowest free number (seen with libffi 3.5)."""
    found, script = tmp_path / "found", tmp_path / "script.py"
    script.write_text(CLOSED)
    without = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, str(script), str(found)]
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "XDG_STATE_HOME": str(tmp_path)}
    subprocess.run(without, cwd=tmp_path, env=environ, check=True)
    assert found.read_text().split() == ["set()", *[os.devnull] * 3]
