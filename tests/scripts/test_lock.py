"""Everything that is installed is locked by hash, and a lock that no longer matches pyproject.toml is found."""

from __future__ import annotations

import ast
import hashlib
import importlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
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


def test_no_requests_is_let_in_that_trusts_whom_it_likes() -> None:
    """requests 2.32.0 to 2.32.2 replace our TLS context by one of their own, so that `ca_file` has no effect. pip would
    not replace such a version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (oldest,) = (line.partition(">=")[2] for line in project["dependencies"] if line.startswith("requests>="))
    assert tuple(map(int, oldest.split("."))) >= (2, 32, 3)


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("aiohappyeyeballs", (2, 5)),  # aiohttp 3.14 requires it
        ("click", (8, 4)),  # older ones print "(not shown)" while the terminal still shows what is typed
        ("msal", (1, 35, 1)),  # 1.35.0 does not know the sign-in hosts of China, France, Germany and Singapore
        # 3.2.12 does not say that a host cannot be looked up, and 3.2.3 not that an option of the URL is wrong.
        ("psycopg[binary]", (3, 2, 13)),
        ("platformdirs", (4, 12)),  # older ones take "~", in the current directory, for the home of a user without one
        ("pytest-asyncio", (1, 4)),  # 1.3 has no loop factories: tests/host, relay, ui/web, workers are not collected
        ("trustme", (1, 2)),  # 1.1 cannot set the time from which a certificate is valid: test_http, test_network
    ],
)
def test_nothing_is_let_in_that_does_not_do_what_is_promised(name: str, least: tuple[int, ...]) -> None:
    """With an older version one of these fails: test_init, test_microsoft_clouds, test_paths, test_postgresql."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["postgresql"], *extras["dev"]]
    (oldest,) = (line.partition(">=")[2] for line in wanted if line.startswith(f"{name}>="))
    assert tuple(map(int, oldest.split("."))) >= least


@pytest.mark.parametrize(
    ("before", "after", "matters"),
    [
        ('"msal>=1.35.1"', '"msal>=1.36"', True),
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
    """A script with another set would end in a traceback on a machine where nothing is installed yet."""
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


@pytest.fixture
def as_locked(script: Any) -> tuple[str, ...]:
    """The arguments with which scripts/environment.py has pip install a lock."""
    locked: tuple[str, ...] = importlib.import_module("environment").AS_LOCKED
    return locked


def test_an_archive_with_another_hash_is_not_installed(script: Any, as_locked: tuple[str, ...], tmp_path: Path) -> None:
    """pip as scripts/environment.py calls it, with one hash of the lock made wrong."""
    lines = script.lock_file(()).read_text(encoding="utf-8").splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("aiosmtpd=="))
    spoilt = tmp_path / "spoilt.txt"
    spoilt.write_text(f"{lines[at]}\n    --hash=sha256:{'0' * 64}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "install", "--target", str(tmp_path / "t")]
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode:
        pytest.fail("this environment has no pip")
    done = subprocess.run([*command, *as_locked, str(spoilt)], capture_output=True, text=True)
    assert done.returncode != 0
    assert "HASH" in done.stderr.upper()
    shutil.rmtree(tmp_path / "t", ignore_errors=True)


def test_what_builds_mail_bridge_is_locked_too(script: Any) -> None:
    """Otherwise pip would download the newest setuptools for the build, and run it."""
    for extras in script.LOCKED:
        assert re.search(r"^setuptools==", script.lock_file(extras).read_text(encoding="utf-8"), re.MULTILINE), extras


@pytest.mark.skipif(os.name != "posix", reason="a shell script stands in for the environment's interpreter")
def test_nothing_is_installed_that_has_no_hash(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """scripts/environment.py has pip install the lock, and then this project without downloading anything more."""
    environment = importlib.import_module("environment")
    interpreter = tmp_path / "bin" / "python"
    interpreter.parent.mkdir()
    interpreter.write_text('#!/bin/sh\necho "$*"\n')
    interpreter.chmod(0o700)
    monkeypatch.setattr(environment, "ENVIRONMENT", tmp_path)
    for extras in script.LOCKED:
        environment.prepare(*extras)
        asked = [line.split() for line in capfd.readouterr().err.splitlines() if line.startswith("-m pip")]
        assert len(asked) == 2
        assert {"--require-hashes", str(script.lock_file(extras))} <= set(asked[0])
        assert {"--no-deps", "--no-build-isolation", str(ROOT)} <= set(asked[1])


def test_a_newer_release_does_not_stop_an_installation(as_locked: tuple[str, ...], tmp_path: Path) -> None:
    """A release of a package that another one requires with an extra, such as `coverage[toml]>=7` beside a locked
    coverage."""
    wheel(tmp_path, "part", "2")
    hashes = {"part": wheel(tmp_path, "part", "1"), "tool": wheel(tmp_path, "tool", "1", requires="part[extra]>=1")}
    lock = tmp_path / "lock.txt"
    lock.write_text("".join(f"{name}==1 --hash=sha256:{sha256}\n" for name, sha256 in hashes.items()), encoding="utf-8")
    target = tmp_path / "target"
    command = [sys.executable, "-m", "pip", "install", "--no-index", "--find-links", str(tmp_path), "--target"]
    done = subprocess.run([*command, str(target), *as_locked, str(lock)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in target.glob("*.dist-info")} == {"part-1.dist-info", "tool-1.dist-info"}


def wheel(directory: Path, name: str, version: str, *, requires: str = "") -> str:
    """Write an empty package with an extra named `extra`. Returns: its SHA-256."""
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nProvides-Extra: extra\n"
    metadata += f"Requires-Dist: {requires}\n" if requires else ""
    content = {
        "METADATA": metadata,
        "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "RECORD": "",
    }
    path = directory / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in content.items():
            archive.writestr(f"{name}-{version}.dist-info/{file}", text)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_lock_leaves_nothing_out() -> None:
    """The lock is installed without pip's resolver, and yet every package has all that it requires."""
    done = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
