"""The keyring (written, read back) and the store: "ok" only for one that was really opened."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from bridge.advice.said import said
from bridge.config.schema import LogConfig, StoreConfig
from bridge.control.contract import Outcome
from bridge.doctor import keys, local_tls
from bridge.doctor.keys import keyring_finding, store_finding
from bridge.doctor.places import log_findings, word_findings
from bridge.errors import StoreCorrupt, StoreUnavailable
from tests.closed import closed
from tests.stores.test_oskeyring_daemon import LOCKED, UNLOCKED, session

ROUND_TRIP = """
import asyncio
from bridge.config.schema import StoreConfig
from bridge.doctor.keys import keyring_finding
finding = asyncio.run(keyring_finding(StoreConfig(path=None, url=None, key_file=None)))
print(finding.outcome.value, finding.detail, sep="|")
"""


@pytest.mark.keyring_daemon
def test_an_unlocked_keyring_is_written_read_and_cleaned(tmp_path: Path) -> None:
    (line,) = session(tmp_path, UNLOCKED, ROUND_TRIP)
    assert line == "ok|SecretService keyring: an entry was written, read back and removed"


@pytest.mark.keyring_daemon
def test_a_locked_keyring_is_not_ok(tmp_path: Path) -> None:
    session(tmp_path, UNLOCKED)
    (line,) = session(tmp_path, LOCKED, ROUND_TRIP)
    assert line.startswith("failed|the OS keyring ")


async def test_a_keyring_that_is_not_used_is_not_tried() -> None:
    finding = await keyring_finding(StoreConfig(path=None, url=None, key_file="/etc/key"))
    assert (finding.outcome, finding.sentence) == (Outcome.SKIPPED, keys.KEY_FILE)


async def test_a_store_is_opened_if_it_is_there_and_never_made(tmp_path: Path) -> None:
    config = StoreConfig(path=None, url=None, key_file=str(tmp_path / "key"))
    opened: list[bool] = []

    async def check() -> None:
        opened.append(True)

    async def broken() -> None:
        raise StoreCorrupt("the key does not fit")

    place = tmp_path / "store.sqlite"
    later = await store_finding(config, place, check)
    assert (later.outcome, later.sentence, opened) == (Outcome.SKIPPED, keys.LATER, [])
    place.touch()
    assert (await store_finding(config, place, check)).sentence == keys.OPENS_AT
    assert (await store_finding(config, None, check)).sentence == keys.OPENS
    assert len(opened) == 2
    finding = await store_finding(config, place, broken)
    assert (finding.outcome, finding.detail) == (Outcome.FAILED, "the key does not fit")


async def untouched() -> None:
    raise AssertionError


@pytest.mark.parametrize(
    ("content", "mode", "says"),
    [
        (b"short", 0o600, "holds 5 bytes"),
        pytest.param(
            b"A" * 43 + b"=",
            0o644,
            "can be read by other users",
            marks=pytest.mark.skipif(os.name == "nt", reason="no modes"),
        ),
        (None, 0o700, "Is a directory"),
    ],
    ids=["too short", "for everybody", "a directory"],
)
async def test_a_key_that_the_first_run_could_not_use_is_told_of_before_it(
    tmp_path: Path, content: bytes | None, mode: int, says: str
) -> None:
    key = tmp_path / "key"
    key.mkdir() if content is None else key.write_bytes(content)
    key.chmod(mode)
    config = StoreConfig(path=None, url=None, key_file=str(key))
    finding = await store_finding(config, tmp_path / "store.sqlite", untouched)
    assert finding.outcome is Outcome.FAILED
    assert says in finding.detail


async def test_a_place_that_the_first_run_could_not_make_is_told_of_before_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    config = StoreConfig(path=None, url=None, key_file=str(tmp_path / "key"))
    finding = await store_finding(config, tmp_path / "file" / "below" / "store.sqlite", untouched)
    assert (finding.outcome, finding.detail.split(": ")[-1]) == (Outcome.FAILED, "Not a directory")
    nowhere = StoreConfig(path=None, url=None, key_file=str(tmp_path / "nowhere" / "key"))
    finding = await store_finding(nowhere, tmp_path / "store.sqlite", untouched)
    assert finding.outcome is Outcome.FAILED
    assert "cannot be created: No such file or directory" in finding.detail


async def test_the_directory_that_the_store_makes_is_there_for_its_key(tmp_path: Path) -> None:
    new = tmp_path / "not" / "yet"
    config = StoreConfig(path=None, url=None, key_file=str(new / "store.key"))
    finding = await store_finding(config, new / "store.sqlite", untouched)
    assert (finding.outcome, finding.sentence) == (Outcome.SKIPPED, keys.LATER)
    assert not new.exists()


@pytest.fixture
def nobody(tmp_path: Path) -> Iterator[None]:
    """Run as a user to whom tmp_path is closed, and afterwards as before."""
    with closed(tmp_path):
        yield


@pytest.mark.usefixtures("nobody")
async def test_a_closed_directory_is_told_of_by_what_opens_the_store(tmp_path: Path) -> None:
    async def refused() -> None:
        raise StoreUnavailable(said("the store cannot be opened"))

    config = StoreConfig(path=None, url=None, key_file=str(tmp_path / "key"))
    finding = await store_finding(config, tmp_path / "store.sqlite", refused)
    assert (finding.outcome, finding.detail) == (Outcome.FAILED, "the store cannot be opened")


@pytest.mark.usefixtures("nobody")
async def test_a_closed_directory_is_no_place_for_a_first_run(tmp_path: Path) -> None:
    """Nor is a directory in it: we cannot see whether that exists, and the nearest visible parent may be writable."""
    (finding,) = log_findings(LogConfig(file=str(tmp_path / "logs" / "bridge.log")))
    assert finding.detail == f"log.file: {tmp_path / 'logs' / 'bridge.log'} cannot be written: Permission denied"
    (finding,) = word_findings(tmp_path / "run" / "control.json")
    assert finding.detail.startswith(f"{tmp_path / 'run' / 'control.json'} cannot be written (Permission denied)")


@pytest.mark.usefixtures("nobody")
async def test_directories_of_others_are_told_of_before_the_first_run() -> None:
    below = Path("/usr/mail-bridge")
    config = StoreConfig(path=None, url=None, key_file="/usr/store.key")
    finding = await store_finding(config, below / "store.sqlite", untouched)
    assert finding.detail.startswith("the key file /usr/store.key cannot be created: Permission denied")
    config = StoreConfig(path=None, url=None, key_file=str(below / "store.key"))
    finding = await store_finding(config, below / "store.sqlite", untouched)
    assert finding.detail == f"{below / 'store.sqlite'} cannot be opened: Permission denied"


@pytest.mark.usefixtures("nobody")
async def test_a_made_certificate_in_a_closed_directory_is_a_finding(tmp_path: Path) -> None:
    finding = local_tls._of_made("imap", tmp_path / "authority.pem", date(2026, 11, 26))
    assert (finding.outcome, finding.sentence) == (Outcome.FAILED, local_tls.CLOSED)
    assert finding.detail.startswith(f"{tmp_path}, ")
    assert finding.detail.endswith("cannot be used: Permission denied")
