"""Fuzzing guided by coverage (atheris): `python3 scripts/fuzz.py [--seconds 60] [--runs N] [TARGET …]`.

Targets: imap, pop3, smtp, upstream, redirect, yaml (tests/fuzz/targets.py); all of them, one after the other, if none
is named. What is found is kept in `fuzz/`, and tried first the next time; an input that breaks a promise is written
there as crash-…, and the command ends with 1. Linux on x86-64 only, as atheris is.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from environment import DEVELOPMENT, ROOT, prepare

KEPT = ROOT / "fuzz"
LONGEST = 16 * 1024
"""Octets of an input: more than the longest line that we accept."""

RUN = """
import logging
import sys
import atheris
logging.disable(logging.CRITICAL)  # what is refused is logged, by the thousand
with atheris.instrument_imports(include=["bridge"]):
    from tests.fuzz.targets import TARGETS
atheris.Setup(sys.argv[1:], TARGETS[sys.argv.pop(1)])
atheris.Fuzz()
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--runs", type=int, default=-1, help="inputs for each target at most")
    options = parser.parse_args()
    interpreter = str(prepare(*DEVELOPMENT))
    known = subprocess.run(
        [interpreter, "-c", "from tests.fuzz.targets import TARGETS; print(*TARGETS)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    if unknown := set(options.targets) - set(known):
        parser.error(f"no target {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    failed = [
        name for name in options.targets or known if fuzz(interpreter, name, options.seconds, options.runs, KEPT / name)
    ]
    print(f"broken: {', '.join(failed)}" if failed else "no promise was broken")
    return int(bool(failed))


def fuzz(interpreter: str, name: str, seconds: int, runs: int, kept: Path) -> int:
    """Run one target. Returns: 0 if nothing was found."""
    kept.mkdir(parents=True, exist_ok=True)
    write = f"import sys, pathlib; from tests.fuzz.targets import seeds; p = pathlib.Path({str(kept)!r})\n" + (
        f"for n, s in enumerate(seeds({name!r})): (p / f'seed-{{n}}').write_bytes(s)"
    )
    subprocess.run([interpreter, "-c", write], cwd=ROOT, check=True)
    limits = [f"-max_total_time={seconds}", f"-runs={runs}", f"-max_len={LONGEST}", "-timeout=10", "-rss_limit_mb=1024"]
    command = [interpreter, "-c", RUN, name, *limits, f"-artifact_prefix={kept}/", "-verbosity=0", str(kept)]
    print(f"--- {name}", flush=True)
    return subprocess.run(command, cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
