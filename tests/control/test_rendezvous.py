"""The file by which the other commands find the running bridge."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from bridge.control import rendezvous
from bridge.errors import BridgeError
from bridge.secret import Secret

TOKEN = Secret("CANARY-token")
URL = "http://127.0.0.1:3017"
on_posix = pytest.mark.skipif(os.name == "nt", reason="Windows has access lists in place of modes")


def test_what_is_published_is_found_until_it_is_withdrawn(tmp_path: Path) -> None:
    directory = tmp_path / "a" / "b"
    assert rendezvous.find(directory) is None
    rendezvous.publish(directory, URL, TOKEN, os.getpid())
    assert rendezvous.find(directory) == (URL, TOKEN)
    rendezvous.publish(directory, "http://[::1]:1", Secret("CANARY-2"), os.getpid())
    assert rendezvous.find(directory) == ("http://[::1]:1", Secret("CANARY-2"))
    assert [path.name for path in directory.iterdir()] == ["control.json"]
    rendezvous.withdraw(directory, Secret("CANARY-2"))
    assert rendezvous.find(directory) is None
    rendezvous.withdraw(directory, Secret("CANARY-2"))


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_looking_holds_nothing_open(tmp_path: Path) -> None:
    """A tray looks for the file every few seconds, for weeks, even if another user owns it or may read it."""
    rendezvous.publish(tmp_path, URL, TOKEN, os.getpid())
    before = os.listdir("/proc/self/fd")
    assert rendezvous.find(tmp_path) is not None
    (tmp_path / rendezvous.NAME).chmod(0o644)
    assert rendezvous.find(tmp_path) is None
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_the_word_of_the_next_bridge_is_left_alone(tmp_path: Path) -> None:
    rendezvous.publish(tmp_path, URL, TOKEN, os.getpid())
    rendezvous.withdraw(tmp_path, Secret("CANARY-of-the-one-before"))
    assert rendezvous.find(tmp_path) is not None
    rendezvous.withdraw(tmp_path, TOKEN)
    assert rendezvous.find(tmp_path) is None


@on_posix
def test_a_word_that_cannot_be_taken_back_does_not_trouble_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file stays, and names a bridge that no longer answers."""
    rendezvous.publish(tmp_path, URL, TOKEN, os.getpid())
    monkeypatch.chdir(tmp_path)  # the other user cannot reach it by its whole path
    user, here = os.geteuid(), Path()
    if user == 0:  # root may delete a file anywhere
        for path in (here, here / rendezvous.NAME):
            os.chown(path, 12345, -1)
        os.seteuid(12345)
    try:
        here.chmod(0o500)
        rendezvous.withdraw(here, TOKEN)
        assert rendezvous.find(here) == (URL, TOKEN)
    finally:
        here.chmod(0o700)
        os.seteuid(user)


@on_posix
def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        rendezvous.publish(tmp_path / "new", URL, TOKEN, 1)
    finally:
        os.umask(before)
    assert (tmp_path / "new" / "control.json").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


@on_posix
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o622, 0o666])
def test_a_file_that_others_may_read_or_write_is_ignored(tmp_path: Path, mode: int) -> None:
    rendezvous.publish(tmp_path, URL, TOKEN, 1)
    (tmp_path / "control.json").chmod(mode)
    assert rendezvous.find(tmp_path) is None


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
def test_a_file_of_another_user_is_ignored(tmp_path: Path) -> None:
    rendezvous.publish(tmp_path, URL, TOKEN, 1)
    os.chown(tmp_path / "control.json", 12345, 12345)
    assert rendezvous.find(tmp_path) is None


@on_posix
@pytest.mark.parametrize(("mode", "is_found"), [(0o600, True), (0o640, True), (0o604, False), (0o660, False)])
def test_a_file_that_the_person_names_may_be_shared_with_a_group_only(
    tmp_path: Path, mode: int, is_found: bool
) -> None:
    rendezvous.publish(tmp_path, URL, TOKEN, 1)
    file = (tmp_path / "control.json").rename(tmp_path / "for-alice.json")
    file.chmod(mode)
    assert rendezvous.find_given(file) == ((URL, TOKEN) if is_found else None)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
def test_a_file_that_the_person_names_may_be_of_another_user(tmp_path: Path) -> None:
    rendezvous.publish(tmp_path, URL, TOKEN, 1)
    os.chown(tmp_path / "control.json", 12345, 12345)
    assert rendezvous.find_given(tmp_path / "control.json") == (URL, TOKEN)


@on_posix
def test_what_is_no_plain_file_is_ignored(tmp_path: Path) -> None:
    rendezvous.publish(tmp_path / "real", URL, TOKEN, 1)
    real = tmp_path / "real" / "control.json"
    link, pipe, directory = (tmp_path / kind / "control.json" for kind in ("link", "pipe", "directory"))
    for path in (link, pipe, directory):
        path.parent.mkdir()
    link.symlink_to(real)
    os.mkfifo(pipe, 0o600)
    directory.mkdir()
    with open(pipe, "r+b", buffering=0) as writer:
        writer.write(real.read_bytes())  # whoever read the pipe would find a valid file
        for path in (link, pipe, directory):
            assert rendezvous.find(path.parent) is None
    assert rendezvous.find(real.parent) == (URL, TOKEN)


@pytest.mark.parametrize(
    "change",
    [
        {"url": "https://127.0.0.1:3017"},
        {"url": "http://127.0.0.1"},
        {"url": "http://127.0.0.1:0"},
        {"url": "http://127.0.0.1:99999"},
        {"url": "http://evil.example:3017"},
        {"url": "http://localhost@evil.example:3017"},
        {"url": "http://user@localhost:3017"},
        {"url": "http://localhost:3017/"},
        {"url": "http://localhost:3017?x"},
        {"url": "http://[::1"},
        {"url": 1},
        {"token": ""},
        {"token": None},
        {"token": "a\r\nHost: evil"},
        {"token": "é"},
        {"pid": "1"},
        {"pid": True},
        {"format": 2},
        {"more": 1},
    ],
)
def test_a_malformed_file_is_ignored(tmp_path: Path, change: dict[str, object]) -> None:
    rendezvous.publish(tmp_path, URL, TOKEN, 1)
    path = tmp_path / "control.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert rendezvous.find(tmp_path) is None


def test_a_file_larger_than_we_write_is_ignored(tmp_path: Path) -> None:
    rendezvous.publish(tmp_path, URL, TOKEN, 1)
    path = tmp_path / "control.json"
    written = path.read_bytes()
    for size, is_found in ((4096, True), (4097 + len(os.linesep), False)):  # only the line's end may be cut off
        path.write_bytes(written.rjust(size))
        assert (rendezvous.find(tmp_path) is not None) is is_found


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 4000])
def test_a_file_that_is_no_json_object_is_ignored(tmp_path: Path, content: bytes) -> None:
    rendezvous.publish(tmp_path, URL, TOKEN, 1)
    (tmp_path / "control.json").write_bytes(content)
    assert rendezvous.find(tmp_path) is None
    rendezvous.withdraw(tmp_path, TOKEN)


def test_a_place_that_cannot_be_written_is_told_without_the_token(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BridgeError, match=r"control\.json cannot be written") as caught:
        rendezvous.publish(tmp_path / "file", URL, TOKEN, 1)
    assert "CANARY" not in str(caught.value)


def test_a_failed_publish_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "control.json").mkdir()  # cannot be replaced by a file
    with pytest.raises(BridgeError):
        rendezvous.publish(tmp_path, URL, TOKEN, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["control.json"]
