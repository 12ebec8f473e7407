"""Pydantic plugins, here a real one in an installed package: none of them gets to see a configuration."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = str(Path(__file__).parents[2])
SPY = """
import sys

class Spy:
    def new_schema_validator(self, *_, **__):
        print("a plugin is asked")
        return None, None, None

spy = Spy()
"""


@pytest.fixture
def spied(tmp_path: Path) -> list[str]:
    """A package with such a plugin. Returns: the entries for sys.path, its own and ours."""
    (tmp_path / "spying.py").write_text(SPY)
    about = tmp_path / "spying-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: spying\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[pydantic]\nspying = spying:spy\n")
    return [ROOT, str(tmp_path)]


def told(places: list[str], program: str) -> str:
    """What this program prints."""
    found = f"import sys; sys.path[:0] = {places!r}; "  # Windows' embeddable Python ignores PYTHONPATH
    done = subprocess.run([sys.executable, "-c", found + program], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_pydantic_asks_plugins_where_nobody_prevents_it(spied: list[str]) -> None:
    """Otherwise the next test would prove nothing."""
    assert told(spied, "import pydantic; pydantic.TypeAdapter(int)") == "a plugin is asked"


def test_our_models_are_shown_to_no_plugin(spied: list[str]) -> None:
    assert told(spied, "import bridge.config.load") == ""


def test_what_looks_for_plugins_is_not_even_imported() -> None:
    """These modules would take a MiB of memory."""
    late = "print([name for name in ('importlib.metadata', 'zipfile', 'csv') if name in sys.modules])"
    assert told([ROOT], f"import bridge.config.load; {late}") == "[]"
