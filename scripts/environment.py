"""The virtual environment that the other scripts work in; made, and kept up to date, when they need it."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import runpy
import subprocess
import sys
import sysconfig
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PureWindowsPath

import debian
from words import BUILT_FOR_64_BITS, INCOMPLETE, OF_THE_STORE, TO_BE_COMPILED, say, tell

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv"
OLDEST_PYTHON = (3, 11)
DEVELOPMENT = ("dev", "postgresql", "tray")
"""The extras for development: tests, benchmark, catalogues, pictures."""
AS_LOCKED = ("--require-hashes", "--no-deps", "-r")
"""Options with which pip installs a lock and nothing else. Without --no-deps, pip 23 looks for the newest release of a
package that is required with an extra, and then refuses it because it is not the locked one: each new release would
break the installation."""
INSTALLED_ELSEWHERE = ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT")
"""Variables that have pip install for another place than its own environment. An empty option does not switch them off:
pip then takes the current directory."""


def python() -> Path:
    """The environment's interpreter."""
    return ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def prepare(*extras: str) -> Path:
    """Make the environment with this project and these extras installed; does nothing if it is up to date.

    The packages are those of scripts/locks, by hash: the same at any time, here and in CI.

    Returns: its interpreter. Ends the program with a sentence if that is not possible.
    """
    if sys.version_info < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        sys.exit(
            say(
                "mail-bridge needs Python {oldest} or newer; this is {this}", oldest=oldest, this=sys.version.split()[0]
            )
        )
    wanted = _fingerprint(extras)
    stamp = ENVIRONMENT / f"mail-bridge-{'-'.join(extras) or 'run'}.stamp"
    if not _has(stamp, wanted):
        with _alone():
            if not _has(stamp, wanted):  # whoever was waited for may have installed the same
                _install(extras, stamp, wanted)
    return python()


def _has(stamp: Path, wanted: str) -> bool:
    """True if the environment is here, and has what is wanted."""
    return _is_here() and python().exists() and stamp.exists() and stamp.read_text() == wanted


@contextmanager
def _alone() -> Iterator[None]:
    """One process at a time: two pips at once, such as after a second click, would break the environment for good."""
    try:
        handle = os.open(ROOT / ".venv.lock", os.O_RDWR | os.O_CREAT, 0o666)
    except OSError:  # a directory that only an administrator may write, as pip then says
        yield
        return
    hold = runpy.run_path(str(ROOT / "bridge" / "host" / "file_lock.py"))["hold"]
    try:
        with suppress(OSError):  # a file system without locks
            if not hold(handle):
                tell("waiting until another start of mail-bridge has installed it …")
                while not hold(handle):
                    time.sleep(0.5)
        yield
    finally:
        os.close(handle)


def _install(extras: tuple[str, ...], stamp: Path, wanted: str) -> None:
    if not (_is_here() and _can_install()):
        _make()
    tell("installing mail-bridge and what it needs …")
    with suppress(OSError):  # none yet, or an environment that only an administrator may write, as pip then says
        stamp.unlink()  # whoever goes back to the version before this one needs that one's packages again
    # The project last, without its requirements and with the locked setuptools, so that nothing is fetched without a
    # hash.
    _pip(*AS_LOCKED, str(lock_file(extras)))
    _pip("--no-deps", "--no-build-isolation", "-e", str(ROOT))
    stamp.write_text(wanted)


def lock_file(extras: tuple[str, ...]) -> Path:
    """The exact packages for these extras; scripts/lock.py writes it."""
    return ROOT / "scripts" / "locks" / f"{'-'.join(sorted(extras)) or 'run'}.txt"


def _is_here() -> bool:
    """False for an environment that was moved or copied with its directory: its commands name the interpreter, and it
    finds mail-bridge, at the old place. One that was not made by Python's venv does not tell."""
    made = [value.partition(" -m venv ")[2].split(" ") for key, value in _settings() if key == "command"]
    places = [" ".join(word for word in words if not word.startswith("--")) for words in made]
    here = os.path.normcase(os.path.realpath(ENVIRONMENT))  # .venv may be a link itself
    return all(os.path.normcase(os.path.realpath(place)) == here for place in places)


def _sees_system() -> bool:
    """True if it was made with the system's packages: GTK, which draws the icon's menu on Linux, is one of them."""
    return ("include-system-site-packages", "true") in _settings()


def _settings() -> list[tuple[str, str]]:
    """The settings with which the environment was made, key and value; empty if there is none."""
    try:
        lines = (ENVIRONMENT / "pyvenv.cfg").read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
    parts = [line.partition("=") for line in lines]
    return [(key.strip(), value.strip()) for key, _, value in parts]


def _can_install() -> bool:
    """False also for an environment that was left half made, or was made for a Python that the system has since
    upgraded: it has an interpreter then, but no packages for it."""
    try:
        return subprocess.run([python(), "-m", "pip", "--version"], capture_output=True).returncode == 0
    except OSError:
        return False


def _make() -> None:
    if _is_of_the_store():
        sys.exit(say(OF_THE_STORE))
    tell("making a virtual environment in {directory}/ …", directory=ENVIRONMENT.name)
    if not _is_complete():  # Debian has a part of Python's venv in a package of its own
        package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
        if debian.may_install():
            debian.fetch([package])
        if not _is_complete():
            sys.exit(say(INCOMPLETE, package=package))
    try:
        # A copy of the system's interpreter would miss its updates. Any other is replaced as a whole, with its path,
        # and may be where not every user of mail-bridge gets in (pyenv, in root's home).
        links = sys.base_prefix == "/usr"
        venv.create(ENVIRONMENT, with_pip=True, clear=True, symlinks=links, system_site_packages=_sees_system())
    except OSError as problem:
        sys.exit(say("no virtual environment could be made: {problem}", problem=problem))
    except subprocess.CalledProcessError as failed:  # has the exit code; the reason is the last line of what was said
        reason = failed.output.decode(errors="replace").rstrip().rpartition("\n")[2]
        sys.exit(say("no virtual environment could be made: {problem}", problem=reason or failed))


def _is_of_the_store() -> bool:
    """True for a Python from the Microsoft Store. Windows gives each program from there a private copy of AppData and
    of the registry: our autostart entry and all our files would be in that copy, and in another one with the next
    Python. Source: "Using Python on Windows", Redirection of local data, registry, and temporary paths."""
    return "WindowsApps" in PureWindowsPath(sys.base_prefix).parts


def _is_complete() -> bool:
    importlib.invalidate_caches()
    return importlib.util.find_spec("ensurepip") is not None


def _pip(*arguments: str) -> None:
    command = [python(), "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-user", *arguments]
    surroundings = {name: value for name, value in os.environ.items() if name not in INSTALLED_ELSEWHERE}
    surroundings["PYTHONWARNINGS"] = "ignore"  # setuptools warns about every editable installation
    if subprocess.run(command, env=surroundings, stdout=sys.stderr).returncode != 0:
        sys.exit("\n".join((say("the installation failed; pip has said why, above"), *_remedy())))


def _remedy() -> tuple[str, ...]:
    """For systems for which a package (cryptography) is no longer built, so that pip had to compile it."""
    system = sysconfig.get_platform()
    if system in {"win32", "win-arm64"}:
        return (say(BUILT_FOR_64_BITS, directory=ENVIRONMENT.name),)
    if system.startswith("macosx") and platform.machine() == "x86_64":
        return (say(TO_BE_COMPILED, script=Path(sys.argv[0]).name),)
    return ()


def _fingerprint(extras: tuple[str, ...]) -> str:
    content = (ROOT / "pyproject.toml").read_bytes() + lock_file(extras).read_bytes()
    return hashlib.sha256(content + repr((extras, sys.version)).encode()).hexdigest()
