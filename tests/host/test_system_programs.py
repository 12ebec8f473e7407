"""Windows' own programs: started as such, and read as they write."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from bridge.host.holders import _output
from bridge.host.system_programs import whole_name
from bridge.host.system_service import ServiceTrouble, ask_system

pytestmark = pytest.mark.skipif(sys.platform != "win32", reason="elsewhere a name is looked for in PATH alone")


def test_a_program_that_somebody_has_put_into_the_current_directory_is_not_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which may be a directory that people share, and the caller an administrator."""
    shutil.copy(whole_name("hostname"), tmp_path / "mb-planted.exe")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ServiceTrouble, match="`mb-planted` cannot be run"):
        ask_system("mb-planted")
    assert _output("mb-planted") == ""
    assert _output("hostname").strip()


def test_what_it_says_in_the_code_page_of_the_console_is_read_so() -> None:
    said = "import sys; sys.stdout.buffer.write('Accès refusé.'.encode('oem')); sys.exit(1)"
    with pytest.raises(ServiceTrouble, match=r"says: \"Accès refusé"):
        ask_system(sys.executable, "-c", said)
