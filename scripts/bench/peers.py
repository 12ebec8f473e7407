"""The other systems: installed where that may be done, and which version they are."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

PACKAGES = {
    "haproxy": "/usr/sbin/haproxy",
    "dovecot-core": "/usr/sbin/dovecot",
    "dovecot-imapd": "/usr/lib/dovecot/imap",
    "dovecot-pop3d": "/usr/lib/dovecot/pop3",
    "dovecot-submissiond": "/usr/lib/dovecot/submission-login",
}
"""Debian's packages, and the file that shows that one is there."""
EMAILPROXY = "emailproxy==2026.7.3"
_ROOT = Path(__file__).resolve().parents[2]
_PLACE = _ROOT / ".venv" / "peers"


def missing_packages() -> list[str]:
    return [name for name, sign in PACKAGES.items() if not Path(sign).exists()]


def has_haproxy() -> bool:
    return Path(PACKAGES["haproxy"]).exists()


def has_dovecot() -> bool:
    return not any(name.startswith("dovecot") for name in missing_packages())


def emailproxy() -> Path | None:
    """From PyPI; None where that does not work."""
    python = _environment("emailproxy", [EMAILPROXY])
    return python.parent / "emailproxy" if python else None


def mail_bridge() -> Path | None:
    """An interpreter with what users have: where the tests' tools bring rich along, for one, structlog loads it."""
    return _environment("mail-bridge", ["-e", str(_ROOT)])


def _environment(name: str, wanted: list[str]) -> Path | None:
    """An environment of its own; None where it cannot be made."""
    python = _PLACE / name / "bin" / "python"
    if not python.exists():
        print(f"installing {name} in an environment of its own …", file=sys.stderr)
        venv.create(_PLACE / name, with_pip=True)
        pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *wanted]
        if subprocess.run(pip).returncode:
            shutil.rmtree(_PLACE / name, ignore_errors=True)
            return None
    return python


def versions() -> list[str]:
    """Of those that are there."""
    found = []
    for name, command in (
        ("HAProxy", [PACKAGES["haproxy"], "-v"]),
        ("Dovecot", [PACKAGES["dovecot-core"], "--version"]),
    ):
        if Path(command[0]).exists():
            told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
            version = re.search(r"\d+(\.\d+)+", told)
            found.append(f"{name} {version[0] if version else '?'}")
    if (_PLACE / "emailproxy").exists():
        found.append(EMAILPROXY.replace("==", " "))
    return found
