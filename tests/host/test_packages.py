"""Packages that are imported late: every command reports at once that one is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bridge.host.packages import LATE, missing


def test_what_is_there_is_found_without_being_imported() -> None:
    program = (
        "import sys\n"
        "from bridge.host.packages import LATE, missing\n"
        "assert missing() == (), missing()\n"
        "assert not {*LATE} & {*sys.modules}, sorted(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], timeout=30, check=True)


def test_what_is_not_there_is_named() -> None:
    assert missing(("json", "no_such_package", "no_such_package.part", "json.no_such_part")) == (
        "no_such_package",
        "no_such_package.part",
        "json.no_such_part",
    )


@pytest.mark.parametrize("package", LATE)
def test_no_bridge_starts_and_no_check_is_content_without_one(package: str, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("providers: {}\naccounts: []\n")
    without = f"import sys; sys.modules[{package!r}] = None; from bridge.__main__ import main; sys.exit(main())"
    command = [sys.executable, "-c", without, "--config", str(config)]
    for name in ("run", "check"):
        done = subprocess.run([*command, name], capture_output=True, text=True, timeout=60, cwd=tmp_path)
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1] == (
            f"mail-bridge cannot start: mail-bridge is not installed completely: {package} cannot be found. "
            "Install it again."
        )
