"""The program's directories, and who may read them."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from bridge.host import paths
from bridge.ui.cli.main import run_command_line

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX modes")
linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux's directories")

SYSTEMD = ("CONFIGURATION_DIRECTORY", "STATE_DIRECTORY", "LOGS_DIRECTORY")
XDG = ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (*SYSTEMD, *XDG):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@linux
def test_a_user_has_the_directories_of_the_desktop(home: Path) -> None:
    assert paths.config_dir() == home / ".config/mail-bridge"
    assert paths.data_dir() == home / ".local/share/mail-bridge"
    assert paths.store_file() == home / ".local/share/mail-bridge/store.sqlite"
    assert paths.log_dir() == home / ".local/state/mail-bridge/log"


@posix
def test_a_service_has_the_directories_that_systemd_made_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONFIGURATION_DIRECTORY", "/etc/mail-bridge")
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/mail-bridge:/var/lib/other")
    monkeypatch.setenv("LOGS_DIRECTORY", "/var/log/mail-bridge")
    assert paths.config_dir() == Path("/etc/mail-bridge")
    assert paths.store_file() == Path("/var/lib/mail-bridge/store.sqlite")
    assert paths.log_dir() == Path("/var/log/mail-bridge")


@linux
def test_the_configuration_is_looked_for_at_the_users_the_machines_and_here_last(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    assert paths.config_candidates() == [
        home / ".config/mail-bridge/config.yaml",
        Path("/etc/mail-bridge/config.yaml"),
        home / "config.yaml",
    ]


@linux
def test_no_place_is_told_twice(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONFIGURATION_DIRECTORY", "/etc/mail-bridge")
    monkeypatch.chdir(home)
    assert paths.config_candidates() == [Path("/etc/mail-bridge/config.yaml"), home / "config.yaml"]


@posix
def test_a_removed_current_directory_is_no_place_to_look_in(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = home / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert [path.parent.name for path in paths.config_candidates()] == ["mail-bridge", "mail-bridge"]


@posix
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_what_is_made_is_for_its_owner_alone_whatever_the_umask(home: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        file = paths.ensure_private(home / "a" / "b" / "file")
        directory = paths.ensure_private(home / "c" / "d", directory=True)
    finally:
        os.umask(before)
    assert mode(file) == 0o600
    assert mode(file.parent) == 0o700
    assert mode(directory) == 0o700


@posix
def test_what_exists_is_closed_to_others_and_keeps_its_content(home: Path) -> None:
    file = home / "file"
    file.write_text("kept")
    file.chmod(0o644)
    directory = home / "directory"
    directory.mkdir()
    directory.chmod(0o755)
    assert paths.ensure_private(file).read_text() == "kept"
    paths.ensure_private(directory, directory=True)
    assert mode(file) == 0o600
    assert mode(directory) == 0o700


@posix
def test_stricter_modes_and_the_directory_of_a_file_are_left_alone(home: Path) -> None:
    folder = home / "shared"
    folder.mkdir()
    folder.chmod(0o755)
    file = paths.ensure_private(folder / "file")
    file.chmod(0o400)
    if os.geteuid() == 0:  # root may open what its mode forbids
        paths.ensure_private(file)
        assert mode(file) == 0o400
    assert mode(folder) == 0o755


def test_a_directory_where_a_file_should_be_is_an_os_error(home: Path) -> None:
    (home / "file").mkdir()
    with pytest.raises(OSError, match="file"):
        paths.ensure_private(home / "file")


@linux
def test_a_user_without_a_home_is_told_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """As in a container that runs as a uid without an entry in the user directory."""

    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.delenv("HOME")
    monkeypatch.setenv("LANGUAGE", "en")
    monkeypatch.setattr("pwd.getpwuid", unknown)
    with pytest.raises(paths.NoHome, match="set HOME"):
        paths.data_dir()
    assert paths.config_candidates()[0] == Path("/etc/mail-bridge/config.yaml"), "the machine's is found all the same"
    assert run_command_line(["--version"]) == 0
    assert run_command_line(["init"]) == 1
    assert "set HOME" in capsys.readouterr().err, "the machine's configuration is not what this user is asked about"
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/mail-bridge")
    assert paths.store_file() == Path("/var/lib/mail-bridge/store.sqlite")


@pytest.mark.skipif(sys.platform != "win32", reason="Windows' directories")
def test_nothing_of_ours_roams() -> None:
    """The store's key does not roam, so a store that roams with a profile to another server could not be read there."""
    local, roaming = Path(os.environ["LOCALAPPDATA"]), Path(os.environ["APPDATA"])
    for directory in (paths.config_dir(), paths.data_dir(), paths.log_dir(), paths.runtime_dir()):
        assert directory.is_relative_to(local)
        assert not directory.is_relative_to(roaming)
