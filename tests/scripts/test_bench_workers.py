"""With several workers the running program holds several times as many sessions; and the workers' benchmark works."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.packages import needs, needs_root

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

ROOM = (1024 - 16) // 2
"""Sessions that a worker has descriptors for: two for each session, after those that it keeps for itself."""


def bench(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "scripts/bench/workers.py", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.timeout(600)
def test_so_many_workers_hold_so_many_times_as_many_sessions() -> None:
    """Each process may open 1,024 files, so a single one can hold no more than 511 sessions."""
    needs("gcc", "libc6-dev", "libssl-dev")
    workers = 3  # the benchmark itself measures 2 and 4
    done = bench("--held", str(workers))
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == workers * ROOM


@pytest.mark.timeout(600)
def test_every_row_is_measured_and_has_its_ratio() -> None:
    needs_root()
    needs("gcc", "libc6-dev", "libssl-dev")
    done = bench("--rounds", "1", "--logins", "20", "--mebibytes", "2", "--no-held")
    table = [line.split("|")[1:-1] for line in done.stdout.splitlines() if line.startswith("| login") or "GB" in line]
    assert len(table) == 9, done.stderr
    for what, unit, one, several, own, ratio, apart, ratio_apart in table:
        assert unit.strip() in {"CPU ms", "CPU s"}, what
        cells = (one, several, own, ratio.replace("*", ""), apart, ratio_apart)
        assert all(float(cell.split()[0]) > 0 for cell in cells), what
    assert "50 and 50" in done.stdout
