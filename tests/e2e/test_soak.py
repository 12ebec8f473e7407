"""Shows in a few seconds that `scripts/soak.py` works, which is made for twenty minutes: see docs/testing.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.bridge import running
from tests.e2e.conftest import World
from tests.e2e.settled import Look, observed
from tests.e2e.soak import slope, soak

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]


def test_a_few_seconds_of_the_soak(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    minutes = soak(world, tmp_path, seconds=6, seed=1, each=3)
    assert sum(minute.ends["done"] for minute in minutes) > 0
    assert sum(minute.faults for minute in minutes) > 0
    assert "none lost, doubled or partial" in capsys.readouterr().out


def test_who_has_the_number_of_a_process_that_has_died_is_looked_at_all_the_same(world: World, tmp_path: Path) -> None:
    """There are 32,768 process ids, and a long soak, which kills workers, sometimes gets one twice."""
    bridge = world.bridge(tmp_path)
    bridge.launcher = ["sh", "-c", 'touch "$PYTHON_MAIL_BRIDGE_OBSERVER/$$"; exec "$@"', "sh"]
    with observed(bridge), running(bridge):
        assert Look.at(bridge).descriptors


def test_the_slope_of_memory_is_that_of_the_line_that_fits_best() -> None:
    assert slope([(minute, 1000 + 64 * minute) for minute in range(10)]) == pytest.approx(64)
    assert slope([(0, 5), (1, 9), (2, 5)]) == pytest.approx(0)
