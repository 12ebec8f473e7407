"""The virtual environment that the other scripts work in; made, and kept up to date, when they need it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv"
OLDEST_PYTHON = (3, 11)


def python() -> Path:
    """The environment's interpreter."""
    return ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def prepare(*extras: str) -> Path:
    """Make the environment with this project and these extras installed; does nothing if it is up to date.

    Returns: its interpreter. Ends the program with a sentence if that is not possible.
    """
    if sys.version_info < OLDEST_PYTHON:
        sys.exit(
            f"mail-bridge needs Python {'.'.join(map(str, OLDEST_PYTHON))} or newer; this is {sys.version.split()[0]}"
        )
    wanted = _fingerprint(extras)
    stamp = ENVIRONMENT / f"mail-bridge-{'-'.join(extras) or 'run'}.stamp"
    if python().exists() and stamp.exists() and stamp.read_text() == wanted:
        return python()
    if not python().exists():
        print(f"making a virtual environment in {ENVIRONMENT.name}/ …", flush=True)
        try:
            venv.create(ENVIRONMENT, with_pip=True)
        except (OSError, subprocess.CalledProcessError) as problem:
            sys.exit(f"no virtual environment could be made ({problem}). On Debian: apt install python3-venv")
    print("installing mail-bridge and what it needs …", flush=True)
    project = str(ROOT) + (f"[{','.join(extras)}]" if extras else "")
    done = subprocess.run([python(), "-m", "pip", "install", "-q", "--disable-pip-version-check", "-e", project])
    if done.returncode != 0:
        sys.exit("the installation failed; pip has said why, above")
    stamp.write_text(wanted)
    return python()


def _fingerprint(extras: tuple[str, ...]) -> str:
    return hashlib.sha256((ROOT / "pyproject.toml").read_bytes() + repr((extras, sys.version)).encode()).hexdigest()
