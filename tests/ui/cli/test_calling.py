"""Command lines that are printed to be copied work as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.ui.cli.calling import own_program, with_config
from tests.e2e.bridge import PYTHON, Bridge, configuration

ALICE = "alice@example.com"

pytestmark = pytest.mark.skipif(os.name == "nt" or sys.executable != PYTHON, reason="the lines are for sh here")


def said_by(line: str) -> list[str]:
    """The arguments that a shell makes of this line."""
    done = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=30, check=True)
    return done.stdout.splitlines()


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mail-bridge that prints its arguments; it is beside the interpreter, and not in PATH."""
    directory = tmp_path / "of Amélie's $HOME"
    directory.mkdir()
    program = directory / "mail-bridge"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$0" "$@"\n')
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(directory / "python"))
    monkeypatch.setenv("PATH", os.defpath)
    return program


def test_a_program_that_no_shell_finds_is_called_by_its_path(installed: Path) -> None:
    assert said_by(f"{own_program()} init") == [str(installed), "init"]


def test_one_that_the_shell_finds_is_called_by_its_name(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{installed.parent}{os.pathsep}{os.defpath}")
    assert own_program() == "mail-bridge"
    assert said_by(f"{own_program()} init") == [str(installed), "init"]


def test_a_configuration_that_was_named_is_named_again(installed: Path) -> None:
    line = with_config(own_program(), Path("the boss's/$config.yaml"))
    assert said_by(f"{line} run") == [str(installed), "--config", "the boss's/$config.yaml", "run"]
    assert with_config(own_program(), None) == own_program()


@pytest.fixture
def admin(tmp_path: Path) -> Bridge:
    """A configuration in a directory of its own, with the store's key in a file; no bridge runs."""
    directory = tmp_path / "mail bridge"
    directory.mkdir()
    providers = {"gmail": {"kind": "google", "client_id": "1234.apps", "client_secret": "CANARY-secret"}}
    return Bridge(directory, configuration(directory, providers, [{"address": ALICE, "provider": "gmail"}]))


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (["status"], 1, r"\(start it with: (.+) run\)"),
        (["accounts", "list"], 0, r"To sign in: (.+) authorize ADDRESS"),
    ],
)
def test_what_a_command_says_to_call_next_works(admin: Bridge, words: list[str], code: int, line: str) -> None:
    found = re.search(line, admin.run(*words, code=code))
    assert found is not None
    next_one = f"{found[1]} accounts list"
    done = subprocess.run(
        next_one, shell=True, capture_output=True, text=True, env=admin.environ, cwd="/", timeout=60, check=True
    )
    assert ALICE in done.stdout
