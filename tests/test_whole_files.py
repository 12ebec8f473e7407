"""A process that is killed while it writes its coverage leaves a damaged file."""

from __future__ import annotations

from pathlib import Path

import coverage
import pytest

from tests.whole_files import drop_damaged


def measured(path: Path) -> bytes:
    data = coverage.CoverageData(str(path))
    data.add_lines({f"/bridge/{number}.py": range(1, 500) for number in range(200)})
    data.close()
    return path.read_bytes()


@pytest.mark.parametrize("share", [0, 0.3, 0.9])
def test_half_a_file_is_dropped_and_a_whole_one_is_kept(tmp_path: Path, share: float) -> None:
    content = measured(tmp_path / ".coverage.host.pid1.Xwhole")
    half = tmp_path / ".coverage.host.pid2.Xhalf"
    half.write_bytes(content[: int(len(content) * share)])
    assert drop_damaged(tmp_path / ".coverage") == [half]
    assert [path.name for path in tmp_path.iterdir()] == [".coverage.host.pid1.Xwhole"]


def test_a_file_with_pages_that_were_not_written_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / ".coverage.host.pid3.Xholes"
    content = bytearray(measured(path))
    content[-8192:-4096] = bytes(4096)
    path.write_bytes(content)
    assert drop_damaged(tmp_path / ".coverage") == [path]
