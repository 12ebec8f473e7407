"""Installs Debian's packages where this is Debian and we may; what they bring does not start by itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

POLICY = Path("/usr/sbin/policy-rc.d")
"""Debian asks this program whether a newly installed daemon may start; ours are started by the scripts that need
them."""


def install(what: str, packages: Sequence[str], without: str) -> None:
    """Install `packages`; say that this is done for `what`, or what follows (`without`) where it cannot be done."""
    if not packages:
        return
    if not may_install():
        print(f"not installed here, {without}: {', '.join(packages)}", file=sys.stderr, flush=True)
        return
    print(f"installing {what}: {', '.join(packages)} …", file=sys.stderr, flush=True)
    if failed := fetch(packages):
        print(f"{failed} failed; {without}", file=sys.stderr, flush=True)


def may_install() -> bool:
    """True for root on Debian or a distribution derived from it."""
    return shutil.which("apt-get") is not None and hasattr(os, "geteuid") and os.geteuid() == 0


def fetch(packages: Sequence[str]) -> str:
    """Install `packages`; prints only apt's errors. Returns: the command that failed, or ""."""
    may_start = POLICY.exists()
    if not may_start:
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    try:
        if _apt_get("update") != 0:
            return "apt-get update"
        if _apt_get("install", "-y", "--no-install-recommends", *_offered(packages)) != 0:
            return "apt-get install"
    finally:
        if not may_start:
            POLICY.unlink(missing_ok=True)
    return ""


def _apt_get(command: str, *arguments: str) -> int:
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    return subprocess.run(["apt-get", command, "-qq", *arguments], env=quiet, stdout=subprocess.DEVNULL).returncode


def _offered(packages: Sequence[str]) -> list[str]:
    """The packages that this release of Debian has: apt-get installs nothing at all if it does not know one, and each
    release lacks some."""
    known = subprocess.run(["apt-cache", "show", *packages], capture_output=True, text=True).stdout
    names = {line.removeprefix("Package: ") for line in known.splitlines() if line.startswith("Package: ")}
    if lacking := [name for name in packages if name not in names]:
        print(f"this release has none of: {', '.join(lacking)}", file=sys.stderr, flush=True)
    return [name for name in packages if name in names]
