"""Each target of scripts/fuzz.py runs for a moment, so that none is broken; and the fuzzer finds a broken promise."""

from __future__ import annotations

import importlib
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fuzz.targets import TARGETS, seeds

ROOT = Path(__file__).parents[2]
RUNS = 500

needs_atheris = pytest.mark.skipif(
    sys.platform != "linux" or sys.version_info >= (3, 14), reason="atheris is for Linux, and not yet for 3.14"
)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("fuzz")


@pytest.mark.parametrize("name", TARGETS)
def test_the_seeds_and_their_neighbours_keep_every_promise(name: str) -> None:
    dice = random.Random(name)
    known = list(seeds(name))
    assert known
    for seed in known:
        TARGETS[name](seed)
        for _ in range(10):
            at = dice.randrange(len(seed) + 1)
            TARGETS[name](seed[:at] + dice.randbytes(dice.randint(0, 4)) + seed[at + dice.randint(0, 4) :])


@needs_atheris
@pytest.mark.parametrize("name", TARGETS)
def test_the_fuzzer_runs(script: Any, tmp_path: Path, name: str) -> None:
    assert script.fuzz(sys.executable, name, 30, RUNS, tmp_path) == 0
    assert len(list(tmp_path.iterdir())) > len(list(seeds(name)))  # it has found new paths


@needs_atheris
def test_a_broken_promise_is_found(tmp_path: Path) -> None:
    """Found by coverage alone: these are four octets in a row, which would take years by chance."""
    program = """
import sys, atheris
def target(data):
    if data[:1] == b"a" and data[1:2] == b"1" and data[2:3] == b" " and data[3:4] == b"{":
        raise AssertionError("found")
target = atheris.instrument_func(target)
atheris.Setup([sys.argv[0], "-runs=200000", "-seed=1", "-artifact_prefix=" + sys.argv[1] + "/"], target)
atheris.Fuzz()
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode != 0
    assert "found" in done.stdout + done.stderr
