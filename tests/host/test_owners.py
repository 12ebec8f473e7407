"""A machine-wide configuration is refused if it belongs to a user who had no right to make it."""

from __future__ import annotations

import hashlib
import os
import struct
import sys
from pathlib import Path
from typing import Any

import pytest

from bridge.errors import ConfigError
from bridge.host import owners, paths
from bridge.host.callers_windows import user_id
from bridge.host.owners import ADMINISTRATORS, SYSTEM, is_trusted
from bridge.host.security_descriptors import owner_of
from bridge.ui.cli.configured import Settings, find_config, load

COLLEAGUE = "S-1-5-21-1-2-3-1001"
NAME = hashlib.sha1("TRUSTEDINSTALLER".encode("utf-16-le"), usedforsecurity=False).digest()
WINDOWS = "-".join(map(str, ("S-1-5-80", *struct.unpack("<5I", NAME))))
"""NT SERVICE\\TrustedInstaller: the SID of a service is computed from its name ([MS-DTYP], 2.4.2.4)."""


@pytest.fixture
def machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration in Windows' ProgramData, where any user may make directories; this user's own place is empty."""
    directory = tmp_path / "ProgramData" / "mail-bridge"
    directory.mkdir(parents=True)
    monkeypatch.setattr(paths, "machine_config_dir", lambda: directory)
    monkeypatch.setattr(paths, "config_dir", lambda: tmp_path / "mine")
    config = directory / "config.yaml"
    config.write_text("notify:\n  command: [colleague.exe]\n")
    return config


def belong(monkeypatch: pytest.MonkeyPatch, file: str, directory: str) -> None:
    monkeypatch.setattr(owners, "owner_of", lambda path: file if path.suffix else directory)


@pytest.mark.parametrize(("file", "directory"), [(COLLEAGUE, ADMINISTRATORS), (ADMINISTRATORS, COLLEAGUE)])
def test_a_colleagues_is_refused(machines: Path, monkeypatch: pytest.MonkeyPatch, file: str, directory: str) -> None:
    belong(monkeypatch, file, directory)
    for named in (None, machines):
        with pytest.raises(ConfigError, match="neither you nor the administrators"):
            find_config(Settings(named, None))
    elsewhere = machines.parents[2] / "config.yaml"
    elsewhere.write_text("providers: {}\n")
    assert find_config(Settings(elsewhere, None)) == elsewhere, "which the person has named"


@pytest.mark.parametrize("owner", [ADMINISTRATORS, SYSTEM, WINDOWS, ""])
def test_the_administrators_is_used(machines: Path, monkeypatch: pytest.MonkeyPatch, owner: str) -> None:
    belong(monkeypatch, owner, owner)
    assert find_config(Settings(None, None)) == machines


def test_ones_own_is_used(machines: Path) -> None:
    assert is_trusted(machines)
    assert find_config(Settings(None, None)) == machines


@pytest.mark.skipif(sys.platform == "win32", reason="asks the system whose a file is")
def test_a_colleagues_in_a_directory_that_people_share_is_refused(
    machines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A configuration can name a program to run, and a user without one of their own may start the bridge there."""
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    machines.unlink()
    config = machines.parents[2] / "config.yaml"
    config.write_text("notify:\n  command: [colleague]\n")
    monkeypatch.chdir(config.parent)
    assert find_config(Settings(None, None)) == config, "one's own"
    os.chown(config, 4242, 4242)
    with pytest.raises(ConfigError, match="belongs to another user"):
        find_config(Settings(None, None))
    with pytest.raises(ConfigError, match="belongs to another user"):
        find_config(Settings(None, None, found=config))  # put in its place while the bridge runs
    with pytest.raises(ConfigError, match=r"other\.yaml: there is no such file"):
        find_config(Settings(None, None, found=config.with_name("other.yaml")))
    assert find_config(Settings(config, None)) == config, "which the person has named"
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    assert find_config(Settings(None, None)) == config, "one's own"
    os.chown(config, 0, 0)
    assert find_config(Settings(None, None)) == config, "root's"


@pytest.mark.skipif(sys.platform == "win32", reason="asks the system whose a file is")
def test_a_link_of_a_colleagues_to_ones_own_is_refused(machines: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative paths in the configuration start at the link's directory: the colleague's program, their CA files."""
    if os.geteuid() != 0:
        pytest.skip("only root gives links away")
    machines.unlink()
    config, own = machines.parents[2] / "config.yaml", machines.parent / "own.yaml"
    own.write_text("notify:\n  command: [./told]\n")
    config.symlink_to(own)
    monkeypatch.chdir(config.parent)
    assert find_config(Settings(None, None)) == config, "one's own"
    os.lchown(config, 4242, 4242)
    with pytest.raises(ConfigError, match="belongs to another user"):
        find_config(Settings(None, None))
    with pytest.raises(ConfigError, match="belongs to another user"):
        load(Settings(None, None))
    assert find_config(Settings(config, None)) == config, "which the person has named"


@pytest.mark.skipif(sys.platform == "win32", reason="asks the system whose a file is")
def test_it_is_the_file_that_is_read_whose_owner_counts(machines: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Someone who may write into the directory can swap the files between the check and the read."""
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    machines.unlink()
    config, theirs = (machines.parents[2] / name for name in ("config.yaml", "theirs.yaml"))
    config.write_text("ours: 1\n")
    theirs.write_text("theirs: 1\n")
    os.chown(theirs, 4242, 4242)
    monkeypatch.chdir(config.parent)
    really_open = Path.open

    def exchanged(path: Path, *arguments: Any, **options: Any) -> Any:
        if path == config and theirs.exists():
            theirs.replace(config)
        return really_open(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", exchanged)
    with pytest.raises(ConfigError, match="belongs to another user"):
        load(Settings(None, None))
    assert not theirs.exists()


@pytest.mark.skipif(sys.platform != "win32", reason="asks Windows itself")
def test_windows_says_whose_a_file_is(machines: Path) -> None:
    assert owner_of(machines) in {ADMINISTRATORS, user_id(os.getpid())}
    assert owner_of(machines / "nothing") == ""
