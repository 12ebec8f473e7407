"""Only one process at a time for one purpose: the lock that the system keeps."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.host.sole import sole

HOLDER = """
import sys
from pathlib import Path
from bridge.host.sole import sole
with sole(Path(sys.argv[1])) as is_first:
    print(is_first, flush=True)
    sys.stdin.readline()
"""


def holding(file: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_the_second_process_is_told_and_the_next_one_after_the_first_has_it(tmp_path: Path) -> None:
    file = tmp_path / "new" / "icon.lock"
    with holding(file) as first:
        assert said(first) == "True"
        with sole(file) as is_first:
            assert not is_first
        with sole(tmp_path / "other.lock") as is_first:
            assert is_first
        first.communicate("\n")
    with sole(file) as is_first:
        assert is_first


def test_a_process_that_was_killed_blocks_nobody(tmp_path: Path) -> None:
    file = tmp_path / "icon.lock"
    with holding(file) as first:
        assert said(first) == "True"
        first.kill()
        first.communicate()
    assert file.exists()
    with sole(file) as is_first:
        assert is_first


@pytest.mark.skipif(os.name != "posix", reason="Windows: the directory's access list says who may")
def test_nobody_else_can_hold_it_and_no_child_inherits_it(tmp_path: Path) -> None:
    file = tmp_path / "icon.lock"
    with sole(file) as is_first:
        assert is_first
        child = subprocess.Popen(
            ["/bin/cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, close_fds=False
        )
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(b"x")
        assert child.stdout.read(1) == b"x"  # by now it has closed the descriptors that it must not inherit
    with child, sole(file) as is_first:
        assert is_first
        child.communicate()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
