"""Files that only their owner may read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from bridge.host.files import take_free_name, write_private


def test_a_text_is_written_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "secret.txt"
    write_private(path, "é\nline\n")
    assert path.read_bytes() == "é\nline\n".encode()
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_has_the_name_stays(tmp_path: Path) -> None:
    path, draft = tmp_path / "secret.txt", tmp_path / "draft"
    path.write_text("mine")
    draft.write_text("yours")
    with pytest.raises(FileExistsError):
        take_free_name(draft, path)
    assert (path.read_text(), draft.read_text()) == ("mine", "yours")


def test_a_text_replaces_another_and_nothing_is_left_behind(tmp_path: Path) -> None:
    path = tmp_path / "secret.txt"
    path.write_text("mine")
    write_private(path, "yours")
    assert path.read_text() == "yours"
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_taken_is_left_as_it_was(tmp_path: Path) -> None:
    directory = tmp_path / "directory"
    directory.mkdir()
    with pytest.raises(OSError, match="directory"):
        write_private(directory, "text")
    assert list(tmp_path.iterdir()) == [directory]
