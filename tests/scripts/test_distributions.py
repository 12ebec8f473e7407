"""What setuptools packs for others to install: a source distribution, and a wheel."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\]\(([^)#\s]+)")
LISTS = """
import json, sys
from setuptools import setup
project = setup(script_args=["-q", "egg_info", "--egg-base", sys.argv[1]])
wheel = project.get_command_obj("build_py")
wheel.ensure_finalized()
data = [f"{directory}/{name}" for _, directory, _, names in wheel.data_files for name in names]
print(json.dumps([project.get_command_obj("egg_info").filelist.files, data]))
"""
"""Prints the files of the source distribution, and those of the wheel that are not Python's."""


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> list[set[str]]:
    command = [sys.executable, "-c", LISTS, str(tmp_path_factory.mktemp("egg"))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [{Path(name).as_posix() for name in names} for names in json.loads(done.stdout.splitlines()[-1])]


@pytest.fixture
def sources(packed: list[set[str]]) -> set[str]:
    return packed[0]


def test_a_source_distribution_has_what_its_readme_leads_to(sources: set[str]) -> None:
    links = {link for link in LINK.findall((ROOT / "README.md").read_text("utf-8")) if (ROOT / link).is_file()}
    assert {"CHANGELOG.md", "SECURITY.md"} < links
    assert {"README.md", "LICENSE", "config.example.yaml", *links} <= sources


def test_a_source_distribution_has_what_its_catalogues_are_compiled_of(sources: set[str]) -> None:
    compiled = {name for name in sources if name.endswith(".mo")}
    assert compiled
    assert {name.removesuffix(".mo") + ".po" for name in compiled} <= sources


def test_a_source_distribution_has_no_test_without_what_the_test_needs(sources: set[str]) -> None:
    assert not [name for name in sources if name.startswith("tests/")]


def test_readmes_first_command_has_all_its_parts(sources: set[str], tmp_path: Path) -> None:
    pytest.importorskip("venv", reason="a Python without it cannot make an environment")
    for name in sources:
        if name.startswith(("scripts/", "bridge/host/")):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    needs = "import environment, run; print(*map(environment.lock_file, [(), ('tray',)]), sep='\\n')"
    command = [sys.executable, "-c", needs]
    done = subprocess.run(command, cwd=tmp_path / "scripts", capture_output=True, text=True, check=True)
    assert [Path(lock).exists() for lock in done.stdout.splitlines()] == [True, True]


def test_a_wheel_has_no_catalogue_but_the_compiled_ones(packed: list[set[str]]) -> None:
    assert {Path(name).suffix for name in packed[1] if "/locale/" in name} == {".mo"}
