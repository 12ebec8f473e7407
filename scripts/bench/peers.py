"""The other systems: installed where that may be done, and which version they are."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
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
_SYSTEM_PYTHON = Path("/usr/bin/python3")
_OLDEST_PYTHON = (3, 11)


def missing_packages() -> list[str]:
    found = [name for name, sign in PACKAGES.items() if not Path(sign).exists()]
    if (
        _SYSTEM_PYTHON.exists()
        and subprocess.run([_SYSTEM_PYTHON, "-c", "import ensurepip"], capture_output=True).returncode
    ):
        found.append("python3-venv")
    return found


def has_haproxy() -> bool:
    return Path(PACKAGES["haproxy"]).exists()


def has_dovecot() -> bool:
    return not any(name.startswith("dovecot") for name in missing_packages())


def emailproxy() -> Path | None:
    """From PyPI; None where that does not work."""
    python = _environment("emailproxy", [EMAILPROXY])
    return python.parent / "emailproxy" if python else None


def mail_bridge() -> Path | None:
    """An interpreter with the packages that users have: libraries would load some of the test tools' packages, too. We
    measure the working tree, by PYTHONPATH; the installed copy only provides its dependencies."""
    return _environment("mail-bridge", [str(_ROOT)])


def _environment(name: str, wanted: list[str]) -> Path | None:
    """An environment of its own; None where it cannot be made."""
    python, whole = _PLACE / name / "bin" / "python", _PLACE / name / "installed"
    if not whole.exists():  # also if making it was interrupted
        shutil.rmtree(_PLACE / name, ignore_errors=True)
        print(f"installing {name} in an environment of its own …", file=sys.stderr)
        make = [_builder(), "-m", "venv", str(_PLACE / name)]
        pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *wanted]
        if subprocess.run(make).returncode or subprocess.run(pip).returncode:
            shutil.rmtree(_PLACE / name, ignore_errors=True)
            return None
        whole.touch()
    return python


def _builder() -> str:
    """The system's Python, as a user has it, if it is new enough: built with the same care by the same distribution as
    HAProxy and Dovecot. A locally compiled one may take a quarter more for the same work."""
    is_fit = _SYSTEM_PYTHON.exists() and _succeeds(
        _SYSTEM_PYTHON, f"import ensurepip, sys; sys.exit(sys.version_info < {_OLDEST_PYTHON})"
    )
    return str(_SYSTEM_PYTHON) if is_fit else sys.executable


def _succeeds(python: Path, code: str) -> bool:
    return subprocess.run([python, "-c", code], capture_output=True).returncode == 0


def python_version(python: Path) -> str:
    """That of an environment, with the TLS library that it uses."""
    code = "import platform, ssl; print('Python', platform.python_version() + ',', *ssl.OPENSSL_VERSION.split()[:2])"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def versions() -> list[str]:
    """The versions of the systems that are installed."""
    found = []
    for name, command in (
        ("HAProxy", [PACKAGES["haproxy"], "-v"]),
        ("Dovecot", [PACKAGES["dovecot-core"], "--version"]),
    ):
        if Path(command[0]).exists():
            told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
            version = re.search(r"\d+(\.\d+)+", told)
            found.append(f"{name} {version[0] if version else '?'}")
    if (_PLACE / "emailproxy" / "installed").exists():
        found.append(EMAILPROXY.replace("==", " "))
    return found
