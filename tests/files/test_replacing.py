"""A file replaces another one, even while that one is being read."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from bridge.control import rendezvous
from bridge.files import replacing
from bridge.host.files import write_private
from bridge.secret import Secret


def test_who_reads_for_a_moment_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows refuses to replace a file that is open."""
    write_private(tmp_path / "file", "old")
    real, attempts = os.replace, [0]

    def refused_twice(source: Path, target: Path) -> None:
        attempts[0] += 1
        if attempts[0] % 3:
            raise PermissionError(13, "in use by another process")
        real(source, target)

    monkeypatch.setattr(replacing, "PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setattr(os, "replace", refused_twice)
    write_private(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "new"
    rendezvous.publish(tmp_path, "http://127.0.0.1:3017", Secret("CANARY"), os.getpid())
    assert rendezvous.find(tmp_path) is not None
    assert attempts == [6]


@pytest.mark.parametrize("held", ["the new one", "the old one"])
def test_who_holds_either_of_them_is_waited_for(held: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A virus scanner or backup program holds a file and lets go while we wait. Only on Windows it is in the way."""
    source, target = tmp_path / "new", tmp_path / "old"
    source.write_text("new")
    target.write_text("old")
    with (source if held == "the new one" else target).open() as holder:
        monkeypatch.setattr("time.sleep", lambda seconds: holder.close())
        replacing.replace(source, target)
    assert target.read_text() == "new"


@pytest.mark.skipif(sys.platform != "win32", reason="elsewhere nobody waits")
def test_a_scanner_may_take_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "new").write_text("new")
    waited: list[float] = []

    def scanned(seconds: float) -> None:
        waited.append(seconds)
        if sum(waited) > 1:
            holder.close()

    with (tmp_path / "new").open() as holder:
        monkeypatch.setattr("time.sleep", scanned)
        replacing.replace(tmp_path / "new", tmp_path / "old")


def test_who_reads_for_ever_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(source: Path, target: Path) -> None:
        raise PermissionError(13, "in use by another process")

    monkeypatch.setattr(replacing, "PAUSES", (0.0, 0.0))
    monkeypatch.setattr(os, "replace", refused)
    with pytest.raises(PermissionError):
        write_private(tmp_path / "file", "new")
    assert not list(tmp_path.iterdir()), "nothing is left behind"


@pytest.mark.skipif(sys.platform == "win32", reason="of the other systems")
def test_elsewhere_nobody_waits() -> None:
    assert replacing.PAUSES == ()
