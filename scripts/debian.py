"""Installs Debian's packages where this is Debian and we may; what they bring does not start by itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

POLICY = Path("/usr/sbin/policy-rc.d")
"""Debian asks this program whether a freshly installed daemon may start; ours are started by whoever needs them."""


def install(what: str, packages: Sequence[str], without: str) -> None:
    """Install `packages`; say that this is done for `what`, or what follows (`without`) where it cannot be done."""
    if not packages:
        return
    if shutil.which("apt-get") is None or not hasattr(os, "geteuid") or os.geteuid() != 0:
        print(f"not installed here, {without}: {', '.join(packages)}", file=sys.stderr, flush=True)
        return
    print(f"installing {what}: {', '.join(packages)} …", file=sys.stderr, flush=True)
    may_start = POLICY.exists()
    if not may_start:
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    try:
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        if subprocess.run(["apt-get", "update", "-qq"], env=quiet, stdout=subprocess.DEVNULL).returncode != 0:
            print(f"apt-get update failed; {without}", file=sys.stderr, flush=True)
            return
        command = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", *_offered(packages)]
        if subprocess.run(command, env=quiet, stdout=subprocess.DEVNULL).returncode != 0:
            print(f"apt-get install failed; {without}", file=sys.stderr, flush=True)
    finally:
        if not may_start:
            POLICY.unlink(missing_ok=True)


def _offered(packages: Sequence[str]) -> list[str]:
    """Those that this Debian has: apt-get installs nothing at all where it does not know one, and each release leaves
    some out."""
    known = subprocess.run(["apt-cache", "show", *packages], capture_output=True, text=True).stdout
    names = {line.removeprefix("Package: ") for line in known.splitlines() if line.startswith("Package: ")}
    if lacking := [name for name in packages if name not in names]:
        print(f"this release has none of: {', '.join(lacking)}", file=sys.stderr, flush=True)
    return [name for name in packages if name in names]
