"""Everything that must hold before a commit: `python3 scripts/test.py [options] [pytest arguments …]`.

Makes the virtual environment, installs the test servers where it may (root on Debian; elsewhere their tests are visibly
skipped), then: lint, format, import rules, types for three systems, translations, the locked packages, the tree in
docs/architecture.md, tests.
--fix repairs what can be repaired; --quick leaves out the tests that start servers or a browser; --coverage tells which
lines no test has run, and takes longer for it: each of the many programs that the tests start is measured.
"""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from debian import install
from environment import DEVELOPMENT, ROOT, prepare
from options import parser

SURROUNDINGS = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""The environment of every step. Otherwise each of pytest's processes, and each program that a test starts, would
compile all modules anew."""
COLLECTION = "collection"
OTHER_PLATFORMS = tuple(name for name in ("linux", "win32", "darwin") if name != sys.platform)


def main() -> int:
    words = parser()
    for option in ("--fix", "--quick", "--coverage"):
        words.add_argument(option, action="store_true")
    ours, rest = words.parse_known_args()
    fix, quick, coverage = ours.fix, ours.quick, ours.coverage
    if not quick:
        install_servers()
    interpreter = str(prepare(*DEVELOPMENT))
    if not quick:
        install_npm_packages()

    def module(*words: str) -> list[str]:
        return [interpreter, "-m", *words]

    steps = [
        ("lint", module("ruff", "check", *(["--fix"] if fix else []), ".")),
        ("format", module("ruff", "format", *([] if fix else ["--check"]), ".")),
        ("import rules", [_tool("lint-imports")]),
        ("types", module("mypy")),
        # The tests run real servers and need POSIX; the program must be right for all three.
        *((f"types on {name}", module("mypy", *_for_platform(name), "-p", "bridge")) for name in OTHER_PLATFORMS),
        ("catalogues", [interpreter, str(ROOT / "scripts" / "translate.py"), *([] if fix else ["--check"])]),
        ("locks", [interpreter, str(ROOT / "scripts" / "lock.py"), "--check"]),
        ("tree", [interpreter, str(ROOT / "scripts" / "tree.py"), "--write" if fix else "--check"]),
        # All workers collect the tests at the same moment: with this step first, the modules are compiled by then.
        *([] if rest else [(COLLECTION, module("pytest", "--collect-only", "-qqq", "-rN"))]),
    ]
    failed = carry_out(steps, at_once=1 if fix else os.cpu_count() or 1)
    tests = module("pytest", *rest)
    if not rest:
        tests += ["-q", "-n", str(workers()), "--dist", "worksteal"]
    if coverage:
        tests += ["--cov", "--cov-report=term"]
    if quick:
        tests += ["-m", "not servers and not browser and not keyring_daemon and not desktop"]
    if failed:
        print(f"\nFAILED before the tests: {', '.join(failed)}\n", flush=True)
    # Last, so that its closing line is the last line.
    print("--- tests", flush=True)
    return subprocess.run(tests, cwd=ROOT, env=SURROUNDINGS).returncode or int(bool(failed))


def carry_out(steps: Sequence[tuple[str, list[str]]], at_once: int) -> list[str]:
    """Run the steps, and print their output in order. Returns: those that failed."""

    def run(step: tuple[str, list[str]]) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(step[1], cwd=ROOT, env=SURROUNDINGS, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    failed = []
    with ThreadPoolExecutor(at_once) as threads:
        for (name, _), done in zip(steps, threads.map(run, steps), strict=True):
            print(f"--- {name}", flush=True)
            if done.returncode or name != COLLECTION:  # which lists every file
                sys.stdout.buffer.write(done.stdout)
            if done.returncode:
                failed.append(name)
    return failed


def _for_platform(name: str) -> list[str]:
    """With a cache of its own: mypy would discard another platform's cache, and both run at the same time."""
    return ["--platform", name, "--cache-dir", str(ROOT / ".mypy_cache" / name)]


def workers() -> int:
    """Five for two cores: real servers wait more than they compute; with four, a quarter of the processor was idle."""
    return max(2, min(8, 5 * (os.cpu_count() or 1) // 2))


def install_servers() -> None:
    """Dovecot, Postfix, mail clients, a browser."""
    packages = runpy.run_path(str(ROOT / "tests" / "servers" / "packages.py"))
    install("the test servers", packages["missing"](), "their tests will be skipped")


def install_npm_packages() -> None:
    """Install the locked packages from npm into the virtual environment; nothing of them runs before a test runs it."""
    packages = runpy.run_path(str(ROOT / "tests" / "servers" / "packages.py"))
    npm = shutil.which("npm")
    if packages["has_npm_packages"]() or npm is None:
        return
    print("installing what the tests take from npm …", flush=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(packages["NPM_LOCK"] / name, packages["NPM_PREFIX"])
    quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    if subprocess.run([npm, "ci", *quiet, "--prefix", packages["NPM_PREFIX"]]).returncode:
        print("npm failed; the tests will say what is missing", flush=True)


def _tool(name: str) -> str:
    return str(ROOT / ".venv" / ("Scripts" if os.name == "nt" else "bin") / name)


if __name__ == "__main__":
    sys.exit(main())
