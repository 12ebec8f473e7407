"""A configuration and its secrets: either all files are written, or none."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.errors import BridgeError
from bridge.ui.setup.writing import check_writable, write_configuration


def everything(directory: Path) -> dict[str, str]:
    return {path.relative_to(directory).as_posix(): path.read_text() for path in directory.rglob("*") if path.is_file()}


def files(directory: Path) -> dict[Path, str]:
    return {directory / "secrets" / "a.txt": "CANARY-new", directory / "config.yaml": "new"}


def test_all_are_written_and_nothing_else(tmp_path: Path) -> None:
    write_configuration(files(tmp_path / "bridge"))
    assert everything(tmp_path / "bridge") == {"secrets/a.txt": "CANARY-new", "config.yaml": "new"}


def test_what_is_there_is_replaced_only_if_that_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("old")
    with pytest.raises(BridgeError, match=r"config\.yaml cannot be written"):
        write_configuration(files(tmp_path))
    assert everything(tmp_path) == {"config.yaml": "old"}
    write_configuration(files(tmp_path), files(tmp_path))
    assert everything(tmp_path) == {"secrets/a.txt": "CANARY-new", "config.yaml": "new"}


def test_a_configuration_that_cannot_be_written_leaves_the_old_secret_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "a.txt").write_text("CANARY-old")
    (tmp_path / "config.yaml").mkdir()
    with pytest.raises(BridgeError, match=r"config\.yaml cannot be written: Is a directory"):
        write_configuration(files(tmp_path), files(tmp_path))
    assert everything(tmp_path) == {"secrets/a.txt": "CANARY-old"}


def test_a_text_that_no_file_can_hold_leaves_nothing(tmp_path: Path) -> None:
    """Nor does an interruption: whatever exception is raised, the temporary files are removed."""
    strange = {tmp_path / "a.txt": "CANARY", tmp_path / "config.yaml": "a lone surrogate: \ud800"}
    with pytest.raises(UnicodeEncodeError):
        write_configuration(strange, strange)
    assert everything(tmp_path) == {}


def test_to_ask_whether_a_place_can_be_written_makes_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    check_writable(tmp_path / "of" / "the" / "bridge" / "config.yaml")
    with pytest.raises(BridgeError, match=r"config\.yaml cannot be written: Not a directory"):
        check_writable(tmp_path / "file" / "config.yaml")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
