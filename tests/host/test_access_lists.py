"""Windows: a file's access list says who may read it, and the program warns if everybody may."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

import pytest

from bridge.config.exposure import MODES
from bridge.host import security_descriptors
from bridge.host.access_lists import CHANGING, EVERYBODY, READING, AccessLists, closing
from bridge.host.callers_windows import user_id
from bridge.host.file_readers import file_readers
from bridge.host.security_descriptors import ACCESS_LIST, allowed_at
from bridge.ui.cli.configured import Settings, load

if sys.platform == "win32":

    def descriptor(entry: str) -> ctypes.c_void_p:
        """A security descriptor that lets us, the administrators and SYSTEM read, and whoever is in `entry` (SDDL)."""
        text = f"D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;FA;;;{user_id(os.getpid())}){entry}"
        made = ctypes.c_void_p()
        assert ctypes.windll.advapi32.ConvertStringSecurityDescriptorToSecurityDescriptorW(
            ctypes.c_wchar_p(text), 1, ctypes.byref(made), None
        )
        return made

    def open_to(path: Path, entry: str) -> None:
        """Let these three read `path`, and whoever is in `entry`."""
        assert ctypes.windll.advapi32.SetFileSecurityW(ctypes.c_wchar_p(str(path)), ACCESS_LIST, descriptor(entry))

    @pytest.mark.parametrize(
        ("entry", "is_open"),
        [("", False), ("(A;OICI;FR;;;BU)", True), ("(A;OICI;GA;;;WD)", True), ("(A;OICI;WD;;;BU)", False)],
    )
    def test_what_everybody_reads_is_known_by_its_access_list(tmp_path: Path, entry: str, is_open: bool) -> None:
        """As SIDs, BU is Users and WD is Everyone; as a right, WD is WRITE_DAC, which alone does not allow reading."""
        entries, found = ctypes.c_void_p(), (ctypes.c_int(), ctypes.c_int())
        made = descriptor(entry)
        assert ctypes.windll.advapi32.GetSecurityDescriptorDacl(
            made, ctypes.byref(found[0]), ctypes.byref(entries), ctypes.byref(found[1])
        )
        allowed = list(security_descriptors._allowed_in(entries))
        assert len(allowed) == 3 + bool(entry)
        assert any(rights & READING and sid in EVERYBODY for sid, rights in allowed) == is_open
        if "BU" not in entry:  # wine keeps no entry for Users, because it maps access lists to Unix modes
            open_to(tmp_path, entry)
            assert AccessLists().everybody_reads(tmp_path) == is_open
        assert not AccessLists().everybody_reads(tmp_path / "not there")

    @pytest.mark.parametrize(
        ("entry", "is_open"),
        [
            ("", False),
            ("(A;;FR;;;BU)", False),
            ("(A;;0x1301bf;;;AU)", True),
            ("(A;;WD;;;WD)", True),
            ("(A;;SD;;;BU)", True),
        ],
    )
    def test_what_everybody_changes_is_known_by_its_access_list(tmp_path: Path, entry: str, is_open: bool) -> None:
        """0x1301bf is what Windows calls "Modify", which new files inherit from C:\\ for AU, all who have signed in."""
        entries, found = ctypes.c_void_p(), (ctypes.c_int(), ctypes.c_int())
        assert ctypes.windll.advapi32.GetSecurityDescriptorDacl(
            descriptor(entry), ctypes.byref(found[0]), ctypes.byref(entries), ctypes.byref(found[1])
        )
        allowed = list(security_descriptors._allowed_in(entries))
        assert any(rights & CHANGING and sid in EVERYBODY for sid, rights in allowed) == is_open
        file = tmp_path / "config.yaml"
        file.write_text("")
        open_to(file, "")
        assert AccessLists().everybody_changes(file) is None
        open_to(file, "(A;;GA;;;WD)")
        assert AccessLists().everybody_changes(file) == file

    def test_a_configuration_that_everybody_reads_is_warned_of(tmp_path: Path) -> None:
        """As in C:\\mail-bridge: new directories inherit from C:\\ that all users may read them."""
        config, key = tmp_path / "config.yaml", tmp_path / "store.key"
        config.write_text(
            "providers:\n  gmail: {kind: google, client_id: 1.apps.googleusercontent.com, client_secret: GOCSPX-abc}\n"
            "accounts:\n  - {address: a@example.com, provider: gmail}\n"
            f"store: {{key_file: '{key}'}}\n"
        )
        key.write_bytes(bytes(32))
        for path in (tmp_path, config, key):
            open_to(path, "")
        assert not load(Settings(config, None)).warnings
        open_to(config, "(A;;FR;;;WD)")
        (warning,) = load(Settings(config, None)).warnings
        assert "providers.gmail.client_secret: every user of this machine can read this secret; run: " in str(warning)
        assert closing(config, user_id(os.getpid())) in str(warning)
        open_to(config, "")
        open_to(key, "(A;;FR;;;WD)")
        (warning,) = load(Settings(config, None)).warnings
        assert f"store.key_file: every user of this machine can read the secret in {key}; run: icacls " in str(warning)
        key.unlink()
        assert not load(Settings(config, None)).warnings
        open_to(tmp_path, "(A;OICI;FR;;;WD)")  # the directory in which the next start makes it
        (warning,) = load(Settings(config, None)).warnings
        assert closing(tmp_path, user_id(os.getpid())) in str(warning)


def test_the_command_closes_a_file_or_a_directory_to_all_but_three(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("")
    removed = " ".join(f'"*{sid}"' for sid in sorted(EVERYBODY))
    rest = f"/remove:g {removed}"
    assert closing(file, "S-1-5-21-7") == (
        f'icacls "{file}" /inheritance:r /grant "*S-1-5-18:F" "*S-1-5-32-544:F" "*S-1-5-21-7:F" {rest}'
    )
    own = closing(tmp_path, "S-1-5-18", "")
    assert own == f'icacls "{tmp_path}" /inheritance:r /grant "*S-1-5-18:(OI)(CI)F" "*S-1-5-32-544:(OI)(CI)F" {rest}'


@pytest.mark.skipif(sys.platform == "win32", reason="modes decide elsewhere")
def test_modes_decide_elsewhere(tmp_path: Path) -> None:
    assert file_readers() is MODES
    assert allowed_at(tmp_path) == []
