"""Drafts: files that are written before they get their final names."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from bridge.control import rendezvous
from bridge.errors import BridgeError
from bridge.files.drafts import check_directory, draft_of, try_directory
from bridge.host.files import write_private
from bridge.secret import Secret
from tests.servers.disks import small_disk


def test_a_draft_is_beside_its_place_and_for_its_owner_alone(tmp_path: Path) -> None:
    handle, draft = draft_of(tmp_path / "file")
    os.write(handle, b"a\nb\r\n\x1a")
    os.close(handle)
    other, another = draft_of(tmp_path / "file")
    os.close(other)
    assert draft.parent == another.parent == tmp_path
    assert draft != another
    assert draft.read_bytes() == b"a\nb\r\n\x1a"
    assert os.name == "nt" or stat.S_IMODE(draft.stat().st_mode) == 0o600


@pytest.mark.parametrize("is_above", [False, True])
def test_to_try_a_directory_leaves_nothing(tmp_path: Path, is_above: bool) -> None:
    try_directory(tmp_path, is_above=is_above)
    assert not list(tmp_path.iterdir())
    with pytest.raises(OSError, match="none"):
        try_directory(tmp_path / "none", is_above=is_above)


def test_a_directory_is_looked_at_by_what_may_be_made_in_it(tmp_path: Path, without_files: Path) -> None:
    check_directory(tmp_path)
    check_directory(tmp_path, is_above=True)
    assert os.listdir(tmp_path) in ([], [without_files.name])
    if os.name == "nt" or os.geteuid() != 0:  # for root, only an attempt would show that it fails
        with pytest.raises(PermissionError):
            check_directory(without_files)
        with pytest.raises(PermissionError):
            check_directory(without_files, is_above=True)


@pytest.mark.skipif(os.name != "posix", reason="a mount")
@pytest.mark.parametrize("is_above", [False, True])
def test_a_directory_of_a_disk_that_can_only_be_read_is_told_as_that(tmp_path: Path, is_above: bool) -> None:
    """No permission stops root, so "permission denied" would puzzle root."""
    with small_disk(tmp_path / "disk", "ro") as disk, pytest.raises(OSError, match="Read-only file system"):
        check_directory(disk, is_above=is_above)


def test_where_nothing_can_be_made_that_is_said_at_once(without_files: Path) -> None:
    """On Windows, Python's tempfile would try one name after the other."""
    with pytest.raises(PermissionError):
        try_directory(without_files)
    with pytest.raises(PermissionError):
        draft_of(without_files / "file")
    with pytest.raises(PermissionError):
        write_private(without_files / "file", "text")
    with pytest.raises(BridgeError, match="cannot be written"):
        rendezvous.publish(without_files, "http://127.0.0.1:3017", Secret("CANARY"), 1)
