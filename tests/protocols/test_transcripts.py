"""Every transcript: played whole, byte by byte, and cut at random."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.protocols.transcripts import Player, all_of, read


def whole(data: bytes) -> Iterator[bytes]:
    if data:
        yield data


def byte_by_byte(data: bytes) -> Iterator[bytes]:
    for place in range(len(data)):
        yield data[place : place + 1]


def cut_at_random(data: bytes, seed: int) -> Iterator[bytes]:
    chance = random.Random(seed)
    while data:
        size = chance.randint(1, max(1, min(len(data), 40)))
        yield data[:size]
        data = data[size:]


def test_there_are_transcripts_for_each_protocol() -> None:
    assert {path.parent.name for path in all_of()} == {"imap", "pop3", "smtp"}


@pytest.mark.parametrize("path", all_of(), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_dialogue_goes_as_written_however_its_bytes_are_cut(path: Path) -> None:
    Player(read(path), whole).play()
    Player(read(path), byte_by_byte).play()
    for seed in range(10):
        Player(read(path), lambda data, seed=seed: cut_at_random(data, seed)).play()  # type: ignore[misc]
