"""What is at a path; a check that could not look must not report "nothing"."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.files.existing import above, exists, is_directory, is_file
from tests.closed import closed

LOOKS = (exists, is_file, is_directory)


def seen(path: Path) -> tuple[bool, ...]:
    return tuple(look(path) for look in LOOKS)


def test_files_directories_links_and_nothing(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert seen(file) == (True, True, False)
    assert seen(tmp_path) == (True, False, True)
    assert seen(tmp_path / "none") == seen(tmp_path / "none" / "none") == seen(file / "none") == (False, False, False)


@pytest.mark.skipif(os.name != "posix", reason="links and devices")
def test_a_link_is_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "there").symlink_to(tmp_path)
    (tmp_path / "nowhere").symlink_to(tmp_path / "none")
    assert seen(tmp_path / "there") == (True, False, True)
    assert seen(tmp_path / "nowhere") == (False, False, False)
    assert seen(Path(os.devnull)) == (True, False, False)


def test_the_nearest_above_is_where_a_file_would_be_made(tmp_path: Path) -> None:
    assert above(tmp_path / "none" / "none") == above(tmp_path / "none") == tmp_path


LOST = Path(r"Q:\mail-bridge\store.sqlite") if os.name == "nt" else Path()
"""A drive that is not there, as a service does not see a user's network drives. On other systems every path with a name
has an existing directory above it, so an empty path stands for it."""


def test_a_drive_that_is_not_there_is_an_error_of_the_systems() -> None:
    with pytest.raises(FileNotFoundError):
        above(LOST)


@pytest.mark.parametrize("look", LOOKS)
def test_where_nobody_lets_us_look_there_is_an_error(look: Callable[[Path], bool], tmp_path: Path) -> None:
    """From 3.14 on, Python's own methods return False here."""
    (tmp_path / "file").write_text("")
    with closed(tmp_path):
        for name in ("file", "none"):
            with pytest.raises(PermissionError):
                look(tmp_path / name)
