"""Windows: directories below a person's profile inherit its access list."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import pytest

from bridge.files.directories import make_private

pytestmark = pytest.mark.skipif(sys.platform != "win32", reason="other systems have modes")

FILE, ACCESS_LIST, REVISION = 1, 4, 1
"""SE_FILE_OBJECT, DACL_SECURITY_INFORMATION, SDDL_REVISION_1."""


def access_list(directory: Path) -> str:
    """The access list of a directory in Windows' text form (SDDL)."""
    if sys.platform != "win32":
        return ""
    advapi32, descriptor, text = ctypes.WinDLL("advapi32"), ctypes.c_void_p(), ctypes.c_wchar_p()
    name = ctypes.c_wchar_p(str(directory))
    assert not advapi32.GetNamedSecurityInfoW(name, FILE, ACCESS_LIST, None, None, None, None, ctypes.byref(descriptor))
    assert advapi32.ConvertSecurityDescriptorToStringSecurityDescriptorW(
        descriptor, REVISION, ACCESS_LIST, ctypes.byref(text), None
    )
    return text.value or ""


def test_what_an_administrator_makes_there_is_not_closed_to_the_same_person_without_these_rights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From 3.12.4 on, Python gives a directory of mode 0700 an access list of SYSTEM, administrators and owner only."""
    inherits = tmp_path / "inherits"
    inherits.mkdir()
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    make_private(tmp_path / "AppData" / "Local" / "mail-bridge")
    for directory in (tmp_path / "AppData", tmp_path / "AppData" / "Local" / "mail-bridge"):
        assert access_list(directory) == access_list(inherits)
