"""What each script prints before it does anything: for --help, and for an argument that it does not know."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
PASS_ON = ["test.py", "wine.py"]
"""Scripts that pass unknown arguments on to pytest."""
TAKE_NOTHING_ELSE = ["icons.py", "lock.py", "screenshots.py", "translate.py", "tree.py"]


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPTS / script), *arguments]
    environment = {**os.environ, "PYTHONUTF8": "1"}
    return subprocess.run(command, capture_output=True, encoding="utf-8", env=environment, timeout=60, check=False)


@pytest.mark.parametrize("script", [*PASS_ON, *TAKE_NOTHING_ELSE])
def test_help_is_the_docstring_and_nothing_is_done(script: str) -> None:
    done = run(script, "--help")
    assert done.returncode == 0, done.stderr
    docstring = ast.get_docstring(ast.parse((SCRIPTS / script).read_text("utf-8")))
    assert docstring
    assert docstring in done.stdout


@pytest.mark.parametrize("script", TAKE_NOTHING_ELSE)
def test_a_word_that_is_not_known_is_told_and_nothing_is_done(script: str) -> None:
    for word in ("--chek", "tests"):
        done = run(script, word)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.splitlines()[-1] == f"{script}: error: unrecognized arguments: {word}"


@pytest.mark.parametrize(
    ("script", "words"), [("lock.py", ["--check", "--audit"]), ("tree.py", ["--check", "--write"])]
)
def test_one_at_a_time(script: str, words: list[str]) -> None:
    done = run(script, *words)
    assert done.returncode == 2
    assert f"{words[1]}: not allowed with argument {words[0]}" in done.stderr
