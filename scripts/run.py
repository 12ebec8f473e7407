"""Start mail-bridge from this directory: `python3 scripts/run.py [command …]`.

Without a command: `run`, or the demo if there is no configuration yet. Makes a virtual environment the first time.
"""

from __future__ import annotations

import os
import subprocess
import sys

from environment import ROOT, prepare
from words import tell

FIND_CONFIG = (
    "import os; from bridge.host.paths import config_candidates; "
    "raise SystemExit(not any(map(os.path.exists, config_candidates())))"
)


def main() -> int:
    arguments = sys.argv[1:]
    interpreter = str(prepare(*(["tray"] if {"tray", "--tray"} & set(arguments) else [])))
    if not arguments:
        arguments = ["run"] if has_config(interpreter) else ["run", "--demo"]
    command = [interpreter, "-m", "bridge", *arguments]
    if os.name == "nt":
        return subprocess.run(command).returncode  # Windows' exec would return to the shell before the end
    return os.execv(interpreter, command)


def has_config(interpreter: str) -> bool:
    """True if `run` will find a configuration; the README puts it here, whatever the caller's current directory."""
    if os.environ.get("MAIL_BRIDGE_CONFIG"):
        return True
    os.chdir(ROOT)
    if subprocess.run([interpreter, "-c", FIND_CONFIG]).returncode == 0:
        return True
    sentence = "There is no configuration yet, so this is the demo. For real mail: {command}"
    tell(sentence, command=r"py scripts\run.py init" if os.name == "nt" else "python3 scripts/run.py init")
    return False


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(1)
