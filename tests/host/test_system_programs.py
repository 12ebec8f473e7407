"""Windows' own programs: only the real ones are started, and their output is decoded as they write it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from bridge.__main__ import main
from bridge.hooks.delivery import HookFailed
from bridge.host.holders import _output
from bridge.host.machine import has_program
from bridge.host.programs import run_program
from bridge.host.system_programs import whole_name
from bridge.host.system_service import ServiceTrouble, ask_system

pytestmark = pytest.mark.skipif(sys.platform != "win32", reason="elsewhere a name is looked for in PATH alone")


def test_a_program_that_somebody_has_put_into_the_current_directory_is_not_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The current directory may be shared by several people, and the caller may be an administrator."""
    shutil.copy(whole_name("hostname"), tmp_path / "mb-planted.exe")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ServiceTrouble, match="`mb-planted` cannot be run"):
        ask_system("mb-planted")
    assert _output("mb-planted") == ""
    assert _output("hostname").strip()


async def test_nor_is_one_that_the_configuration_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """config.example.yaml says that a name is looked up in PATH, so the current directory does not count."""
    monkeypatch.delenv("NODEFAULTCURRENTDIRECTORYINEXEPATH", raising=False)
    monkeypatch.setattr(sys, "argv", ["mail-bridge", "--version"])
    assert main() == 0
    shutil.copy(whole_name("hostname"), tmp_path / "mb-planted.exe")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HookFailed, match="mb-planted cannot be started"):
        await run_program(["mb-planted"], {}, 60)
    assert (await run_program([str(tmp_path / "mb-planted.exe")], {}, 60)).output
    told = [has_program(name) for name in ("mb-planted", str(tmp_path / "mb-planted.exe"), "hostname")]
    assert told == [False, True, True], "what `check` says of it"


def test_what_it_says_in_the_code_page_of_the_console_is_read_so() -> None:
    said = "import sys; sys.stdout.buffer.write('Accès refusé.'.encode('oem')); sys.exit(1)"
    with pytest.raises(ServiceTrouble, match=r"says: \"Accès refusé"):
        ask_system(sys.executable, "-c", said)
