"""README's first command, in a copy whose interpreter is a stand-in: nothing is installed, and what it is asked for is
printed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the stand-in is a shell script")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for name in ("scripts", "bridge/host"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def run(copy: Path, stand_in: str, **environment: str) -> tuple[int, str]:
    """The exit code, and all that was said."""
    interpreter = copy / ".venv" / "bin" / "python"
    interpreter.parent.mkdir(parents=True, exist_ok=True)
    interpreter.write_text(f"#!/bin/sh\n{stand_in}\n")
    interpreter.chmod(0o755)
    done = subprocess.run(
        [sys.executable, str(copy / "scripts" / "run.py")],
        env={"PATH": os.environ["PATH"], "PYTHONUTF8": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return done.returncode, done.stdout.decode("utf-8", "replace")


LACKS_CONFIGURATION = 'case "$1$3" in -c*) exit 1;; -minstall) exit 0;; esac; echo "$@"'


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        (
            {"LANG": "fr_CA.UTF-8"},
            ["installation de mail-bridge et de ce dont il a besoin …", "Il n’y a pas encore de"],
        ),
        ({"LANG": "de_DE.UTF-8"}, ["installing mail-bridge and what it needs …", "There is no configuration yet, so"]),
        ({"LC_ALL": "C", "LANGUAGE": "fr"}, ["installing mail-bridge and what it needs …"]),
    ],
)
def test_the_first_command_speaks_the_systems_language(
    copy: Path, environment: dict[str, str], words: list[str]
) -> None:
    code, said = run(copy, LACKS_CONFIGURATION, **environment)
    assert code == 0
    assert all(word in said for word in words), said
    assert said.endswith("python3 scripts/run.py init\n-m bridge run --demo\n")


def test_an_installation_that_fails_is_told_in_french_too(copy: Path) -> None:
    code, said = run(copy, "echo pip says why; exit 1", LANG="fr_FR.UTF-8")
    assert code == 1
    assert said.endswith("pip says why\nl’installation a échoué ; pip a dit pourquoi, ci-dessus\n")


def test_a_terminal_without_the_characters_is_no_reason_to_end(copy: Path) -> None:
    code, said = run(copy, LACKS_CONFIGURATION, LANG="fr_FR.ISO-8859-1", PYTHONIOENCODING="iso-8859-1")
    assert (code, "Traceback" in said) == (0, False), said
    assert "-m bridge run --demo" in said
