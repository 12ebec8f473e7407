"""Windows: command lines that are printed to be copied work as they stand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bridge.ui.cli.calling import own_program, with_config

pytestmark = pytest.mark.skipif(sys.platform != "win32", reason="the lines are for sh there")

SHOW = "import sys; open(sys.argv[1], 'w', encoding='utf-8').write(ascii(sys.argv[2:]))"


@pytest.mark.parametrize("name", ["plain", "of Amélie", "R&D", "(old)", "a^b", "a;b,c=d"])
def test_a_configuration_that_was_named_is_named_again(tmp_path: Path, name: str) -> None:
    """The characters that need quotes, as `cmd /?` lists them."""
    script, shown = tmp_path / "show.py", tmp_path / "shown"
    script.write_text(SHOW)
    file = tmp_path / name / "config.yaml"
    line = with_config(f"{sys.executable} {script} {shown}", file)
    subprocess.run(f"{line} run", shell=True, timeout=60, check=True)
    assert shown.read_text() == ascii(["--config", str(file), "run"])


def test_a_program_in_such_a_directory_is_called_in_quotes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "R&D"
    directory.mkdir()
    (directory / "mail-bridge.exe").touch()
    monkeypatch.setattr(sys, "executable", str(directory / "python.exe"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert own_program() == f'"{directory}\\mail-bridge.exe"'
