"""mail-bridge beside HAProxy, Dovecot and emailproxy: `python3 scripts/bench.py [--quick] [--json] [--only ROW] …`.

Makes the virtual environment, installs the other systems where it may (root on Debian; emailproxy from PyPI) and
measures those that are there. --quick takes under three minutes, --write puts table and chart into docs/performance.md,
--help names the rest. The package bench/ beside this file does the work.
"""

from __future__ import annotations

import os
import sys

from bench import peers
from debian import install
from environment import DEVELOPMENT, ROOT, prepare


def main() -> int:
    interpreter = str(prepare(*DEVELOPMENT))
    install("the other systems", peers.missing_packages(), "their columns stay empty")
    paths = os.pathsep.join([str(ROOT / "scripts"), str(ROOT)])
    command = [interpreter, "-m", "bench", *sys.argv[1:]]
    return os.execve(interpreter, command, {**os.environ, "PYTHONPATH": paths})


if __name__ == "__main__":
    sys.exit(main())
