"""Which kind of store the configuration selects."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bridge.config.schema import StoreConfig
from bridge.config.store_url import SCHEMES
from bridge.secret import Secret
from bridge.stores.base import NEW, Record
from bridge.stores.registry import STORES, open_store
from bridge.stores.sql import SqlStore


def config(**values: str) -> StoreConfig:
    return StoreConfig.model_validate(values)


async def test_by_default_records_are_in_one_file_and_nothing_is_touched_before_the_first(tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    store = open_store(config(key_file=str(key_file)), default_path=tmp_path / "data" / "store.sqlite")
    assert os.listdir(tmp_path) == []
    await store.put("a", b"CANARY-value", expected=NEW)
    assert await store.get("a") == Record(b"CANARY-value", 1)
    await store.close()
    assert sorted(os.listdir(tmp_path)) == ["data", "key"]
    assert not any(b"CANARY" in file.read_bytes() for file in (tmp_path / "data").iterdir())

    again = open_store(config(key_file=str(key_file)), default_path=tmp_path / "data" / "store.sqlite")
    assert await again.get("a") == Record(b"CANARY-value", 1)
    await again.close()


@pytest.mark.parametrize("by", ["path", "url"])
async def test_a_configured_file_goes_before_the_default(tmp_path: Path, by: str) -> None:
    file = tmp_path / "mine.db"
    values = {"path": str(file)} if by == "path" else {"url": f"sqlite:///{file}"}
    store = open_store(config(key_file=str(tmp_path / "key"), **values), default_path=tmp_path / "default")
    await store.check()
    await store.close()
    assert sorted(os.listdir(tmp_path)) == ["key", "mine.db"]


async def test_a_home_in_the_path_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    store = open_store(config(path="~/s.db", key_file="~/key"), default_path=tmp_path / "default")
    await store.check()
    await store.close()
    assert (tmp_path / "s.db").is_file()


def test_there_is_a_store_for_each_that_the_configuration_takes() -> None:
    assert sorted(STORES) == sorted(SCHEMES)


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg", "postgresql+psycopg2"])
async def test_every_spelling_of_postgresql_is_taken_and_nothing_is_dialled(scheme: str) -> None:
    pytest.importorskip("psycopg")
    store = SqlStore.at_url(Secret(f"{scheme}://user:CANARY@db.invalid/bridge"))
    await store.close()
