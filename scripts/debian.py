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
        install = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", *packages]
        for command in (["apt-get", "update", "-qq"], install):
            if subprocess.run(command, env=quiet, stdout=subprocess.DEVNULL).returncode != 0:
                print(f"{' '.join(command[:2])} failed; {without}", file=sys.stderr, flush=True)
                return
    finally:
        if not may_start:
            POLICY.unlink(missing_ok=True)
