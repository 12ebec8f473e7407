"""Which file systems copy on write."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bridge.host.disks import copies_on_write
from tests.servers.disks import copying_disk, small_disk


@pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
def test_btrfs_is_one_and_tmpfs_is_none(tmp_path: Path) -> None:
    with copying_disk(tmp_path / "btrfs") as disk:
        assert copies_on_write(disk)
    with small_disk(tmp_path / "tmpfs") as disk:
        assert not copies_on_write(disk)


def test_what_is_not_there_is_none(tmp_path: Path) -> None:
    assert not copies_on_write(tmp_path / "none")
