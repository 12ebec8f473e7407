"""What is installed is locked by hash, and a lock that no longer fits pyproject.toml is found."""

from __future__ import annotations

import ast
import importlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("lock")


def test_the_locks_are_those_of_pyproject(script: Any) -> None:
    assert script.check() == []


@pytest.mark.parametrize(
    ("before", "after", "matters"),
    [
        ('"msal>=1.35"', '"msal>=1.36"', True),
        ('"pystray>=0.19.5,<0.20"', '"pystray>=0.19.5"', True),
        ("line-length = 120", "line-length = 100", False),
    ],
)
def test_only_a_changed_requirement_makes_a_lock_stale(
    script: Any, tmp_path: Path, before: str, after: str, matters: bool
) -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert before in text
    changed = tmp_path / "pyproject.toml"
    changed.write_text(text.replace(before, after), encoding="utf-8")
    assert [line.split()[0] for line in script.check(changed)] == (
        [f"scripts/locks/{name}.txt" for name in ("dev-postgresql-tray", "run", "tray", "lock")] if matters else []
    )


def test_each_script_installs_a_set_that_is_locked(script: Any) -> None:
    """One that is not would end in a traceback, on a machine where nothing is installed yet."""
    known = {"*DEVELOPMENT", "'lock'", "*['tray'] if {'tray', '--tray'} & set(arguments) else []"}
    for path in (ROOT / "scripts").rglob("*.py"):
        calls = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
        wanted = [ast.unparse(call.args[0]) for call in calls if ast.unparse(call.func) == "prepare" and call.args]
        assert {words.replace("(", "").replace(")", "") for words in wanted} <= {
            words.replace("(", "").replace(")", "") for words in known
        }, path
    assert all(script.lock_file(extras).exists() for extras in script.LOCKED)


def test_a_requirement_without_a_hash_is_found(script: Any) -> None:
    assert script.unhashed(["# words", "a==1 \\", "    --hash=sha256:00", "b==2"]) == ["b==2"]


def test_small_locks_have_the_versions_of_the_large_one(script: Any) -> None:
    def pinned(extras: tuple[str, ...]) -> set[str]:
        lines = script.lock_file(extras).read_text(encoding="utf-8").splitlines()
        return {line.split()[0] for line in lines if "==" in line}

    everything = pinned(script.DEVELOPMENT)
    for extras in [(), ("tray",)]:
        assert pinned(extras) <= everything


def test_an_archive_with_another_hash_is_not_installed(script: Any, tmp_path: Path) -> None:
    """pip, as scripts/environment.py calls it, with one hash of the lock spoilt."""
    lines = script.lock_file(()).read_text(encoding="utf-8").splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("aiosmtpd=="))
    spoilt = tmp_path / "spoilt.txt"
    spoilt.write_text(f"{lines[at]}\n    --hash=sha256:{'0' * 64}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "install", "--require-hashes", "--no-deps", "--target", str(tmp_path / "t")]
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode:
        pytest.fail("this environment has no pip")
    done = subprocess.run([*command, "-r", str(spoilt)], capture_output=True, text=True)
    assert done.returncode != 0
    assert "HASH" in done.stderr.upper()
    shutil.rmtree(tmp_path / "t", ignore_errors=True)
