"""Files for their owner alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from bridge.host.files import write_private


def test_a_text_is_written_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "secret.txt"
    write_private(path, "é\nline\n")
    assert path.read_bytes() == "é\nline\n".encode()
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_is_there_stays_and_nothing_is_left_behind(tmp_path: Path) -> None:
    path = tmp_path / "secret.txt"
    path.write_text("mine")
    with pytest.raises(FileExistsError):
        write_private(path, "yours")
    assert path.read_text() == "mine"
    write_private(path, "yours", overwrite=True)
    assert path.read_text() == "yours"
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_taken_is_left_as_it_was(tmp_path: Path) -> None:
    directory = tmp_path / "directory"
    directory.mkdir()
    with pytest.raises(OSError, match="directory"):
        write_private(directory, "text", overwrite=True)
    assert list(tmp_path.iterdir()) == [directory]
