"""The exact packages, by hash, for the other scripts: `python3 scripts/lock.py [--upgrade | --check | --audit]`.

Without an argument: writes scripts/locks/ anew for the requirements of pyproject.toml, keeping what is locked already.
--upgrade takes the newest of everything; --check (offline, part of scripts/test.py) fails if the locks are not those of
pyproject.toml; --audit asks for known weaknesses of what is locked, and fails too for what could not be asked about.

One lock is good for every system and Python that we support (environment markers). Everything in a small lock has the
same version in the large one.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tomllib
from pathlib import Path

from environment import DEVELOPMENT, OLDEST_PYTHON, ROOT, lock_file, prepare, python
from options import chosen

LOCKED: tuple[tuple[str, ...], ...] = (DEVELOPMENT, (), ("tray",), ("lock",))
"""The sets of extras that the scripts install, the one that decides the versions first."""
MARK = "# For the requirements of pyproject.toml with SHA-256 "


def main() -> int:
    option = chosen("--upgrade", "--check", "--audit")
    if option == "--check":
        problems = check()
        print("\n".join(problems) or "the locks are those of pyproject.toml")
        return int(bool(problems))
    if option == "--audit":
        return audit()
    return write(upgrade=option == "--upgrade")


def requirements(pyproject: Path = ROOT / "pyproject.toml") -> str:
    """SHA-256 of pyproject.toml's requirements, and of nothing else in it."""
    content = tomllib.loads(pyproject.read_text(encoding="utf-8"))
    project = content["project"]
    parts = (
        content["build-system"]["requires"],
        project["requires-python"],
        project["dependencies"],
        project["optional-dependencies"],
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def check(pyproject: Path = ROOT / "pyproject.toml") -> list[str]:
    """What is wrong with the locks, in words."""
    wanted = MARK + requirements(pyproject)
    problems = []
    for extras in LOCKED:
        path = lock_file(extras)
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        if lines[:1] != [wanted]:
            problems.append(f"{path.relative_to(ROOT)} is not up to date: run python3 scripts/lock.py")
        problems += [f"{path.relative_to(ROOT)}: no hash for {name}" for name in unhashed(lines)]
    return problems


def unhashed(lines: list[str]) -> list[str]:
    """Requirements that are not followed by a hash."""
    found = []
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        if line and not line.startswith((" ", "#")) and not after.lstrip().startswith("--hash=sha256:"):
            found.append(line)
    return found


def write(*, upgrade: bool) -> int:
    tool = python_tool("uv")
    for extras in LOCKED:
        path = lock_file(extras)
        path.parent.mkdir(exist_ok=True)
        command = [tool, "pip", "compile", "pyproject.toml", "--universal", "--generate-hashes", "--quiet"]
        command += ["--python-version", ".".join(map(str, OLDEST_PYTHON)), "--no-annotate", "--no-header"]
        # pip refuses "coverage[toml]>=7" beside "coverage==7.17.4" as soon as there is a newer coverage.
        command += ["--no-strip-extras"]
        # The project itself is built with the locked setuptools, too, and not with the newest one.
        command += ["--group", "build"]
        command += [word for extra in extras for word in ("--extra", extra)]
        command += ["--upgrade"] if upgrade and extras == DEVELOPMENT else []
        command += [] if extras == DEVELOPMENT else ["--constraints", str(lock_file(DEVELOPMENT))]
        command += ["--output-file", str(path)]
        if subprocess.run(command, cwd=ROOT).returncode != 0:
            return 1
        path.write_text(f"{MARK}{requirements()}\n{path.read_text(encoding='utf-8')}", encoding="utf-8")
        print(f"{path.relative_to(ROOT)}: written")
    return 0


def audit() -> int:
    """Known vulnerabilities, from PyPI's advisories; --strict, since "could not be checked" does not mean "has
    none"."""
    tool = python_tool("pip-audit")
    command = [tool, "--strict", "--disable-pip", "--require-hashes", "--requirement", str(lock_file(DEVELOPMENT))]
    return subprocess.run(command, cwd=ROOT).returncode


def python_tool(name: str) -> str:
    """A program of the extra `lock`."""
    prepare("lock")
    return str(python().with_name(name + python().suffix))


if __name__ == "__main__":
    sys.exit(main())
