"""Directories that only their owner may enter."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.control import rendezvous
from bridge.errors import StoreFileUnusable
from bridge.files.directories import make_private
from bridge.host.autostart import StartupFile
from bridge.host.paths import ensure_private
from bridge.observe.log_file import log_file
from bridge.secret import Secret
from bridge.stores.base import NEW
from bridge.stores.sqlite import SqliteStore
from bridge.ui.setup.writing import write_configuration

pytestmark = pytest.mark.skipif(os.name != "posix", reason="a directory's access list, which it inherits, says that")


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """An empty umask, as some supervisors set it."""
    before = os.umask(0)
    yield
    os.umask(before)


def modes(directory: Path) -> set[int]:
    """The modes of all directories below `directory`."""
    return {stat.S_IMODE(found.stat().st_mode) for found in directory.rglob("*") if found.is_dir()}


def test_all_that_have_to_be_made_are_the_owners_alone_and_the_others_stay_as_they_are(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir(0o755)
    make_private(there / "a" / "b" / "c")
    make_private(there / "a" / "b")
    assert modes(there) == {0o700}
    assert stat.S_IMODE(there.stat().st_mode) == 0o755


def test_what_is_no_directory_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for directory in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(NotADirectoryError):
            make_private(directory)


async def test_a_store_below_a_file_is_told_as_that(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = SqliteStore(tmp_path / "file" / "records.sqlite")
    with pytest.raises(StoreFileUnusable, match=r"records\.sqlite cannot be opened: Not a directory"):
        await store.get("a")
    await store.close()


async def test_whoever_makes_one_makes_it_so(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "store" / "of" / "records.sqlite")
    await store.put("a", b"value", expected=NEW)
    await store.close()
    rendezvous.publish(tmp_path / "data" / "run" / "here", "http://127.0.0.1:3017", Secret("CANARY"), 1)
    log_file(tmp_path / "state" / "log" / "file.log").close()
    ensure_private(tmp_path / "private" / "of" / "file")
    ensure_private(tmp_path / "tls" / "of" / "ours", directory=True)
    StartupFile(tmp_path / "config" / "autostart" / "it.desktop", b"").turn(True)
    write_configuration({tmp_path / "settings" / "mail-bridge" / "config.yaml": ""})
    assert modes(tmp_path) == {0o700}
    assert len(list(tmp_path.iterdir())) == 7
