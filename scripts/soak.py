"""Real mail programs and faults on the real servers: `python3 scripts/soak.py [--minutes 20] [--seed N]`.

Prints a line of figures each minute and ends with a verdict; docs/testing.md says how to read it.
"""

from __future__ import annotations

import runpy
import subprocess
import sys

from environment import DEVELOPMENT, ROOT, prepare


def main() -> int:
    runpy.run_path(str(ROOT / "scripts" / "test.py"))["install_servers"]()
    interpreter = str(prepare(*DEVELOPMENT))
    return subprocess.run([interpreter, "-m", "tests.e2e.soak", *sys.argv[1:]], cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
