"""A crash leaves no core dump behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

DIE = (
    "import os, signal, sys; signal.signal({number}, signal.SIG_DFL); {first}; "
    "sys.stdout.write('here'); sys.stdout.flush(); os.kill(os.getpid(), {number})"
)
FORBID = "from bridge.host.hardening import forbid_dumps; forbid_dumps()"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and prctl(2) of Linux")


def crash(directory: Path, first: str, number: int = signal.SIGABRT) -> list[str]:
    """Run a Python process that may write a core dump of any size, and dies. Returns: the files that it left."""
    command = [sys.executable, "-c", DIE.format(first=first, number=int(number))]
    limited = ["sh", "-c", 'ulimit -c unlimited && exec "$@"', "sh", *command]
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(limited, cwd=directory, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == -number, done.stderr
    assert done.stdout == "here"
    return [path.name for path in directory.iterdir()]


@pytest.mark.parametrize("name", ["SIGABRT", "SIGSEGV", "SIGQUIT"])
def test_a_crash_leaves_no_core(tmp_path: Path, name: str) -> None:
    assert crash(tmp_path, FORBID, signal.Signals[name]) == []


def test_without_it_a_core_would_be_there(tmp_path: Path) -> None:
    """Otherwise the test above proves nothing. If core dumps go elsewhere or nowhere, the next test still proves it."""
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    if "/" in pattern or pattern.startswith("|"):
        assert crash(tmp_path, "pass") == []
    else:
        assert any(name.startswith("core") for name in crash(tmp_path, "pass"))


def test_the_kernel_says_that_this_process_is_not_dumped() -> None:
    script = (
        f"{FORBID}; import ctypes, resource; "
        "print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), *resource.getrlimit(resource.RLIMIT_CORE))"  # PR_GET_DUMPABLE
    )
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "0", "0"]
