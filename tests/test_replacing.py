"""A file takes another one's place, also while that one is read."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from bridge import replacing
from bridge.control import rendezvous
from bridge.host.files import write_private
from bridge.secret import Secret


def test_who_reads_for_a_moment_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, which replaces no file that is open."""
    write_private(tmp_path / "file", "old")
    real, attempts = os.replace, [0]

    def refused_twice(source: Path, target: Path) -> None:
        attempts[0] += 1
        if attempts[0] % 3:
            raise PermissionError(13, "in use by another process")
        real(source, target)

    monkeypatch.setattr(replacing, "PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setattr(os, "replace", refused_twice)
    write_private(tmp_path / "file", "new", overwrite=True)
    assert (tmp_path / "file").read_text() == "new"
    rendezvous.publish(tmp_path, "http://127.0.0.1:3017", Secret("CANARY"), os.getpid())
    assert rendezvous.find(tmp_path) is not None
    assert attempts == [6]


def test_who_reads_for_ever_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(source: Path, target: Path) -> None:
        raise PermissionError(13, "in use by another process")

    monkeypatch.setattr(replacing, "PAUSES", (0.0, 0.0))
    monkeypatch.setattr(os, "replace", refused)
    with pytest.raises(PermissionError):
        write_private(tmp_path / "file", "new", overwrite=True)
    assert not list(tmp_path.iterdir()), "nothing is left behind"


@pytest.mark.skipif(sys.platform == "win32", reason="of the other systems")
def test_elsewhere_nobody_waits() -> None:
    assert replacing.PAUSES == ()
