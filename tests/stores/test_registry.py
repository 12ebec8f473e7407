"""Which store the configuration means."""

from __future__ import annotations

import os
import re
import sys
import tomllib
from pathlib import Path

import pytest

from bridge.config.schema import StoreConfig
from bridge.errors import ConfigError
from bridge.secret import Secret
from bridge.stores.base import NEW, Record
from bridge.stores.registry import open_store
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


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("redis://CANARY@host/0", "no store named 'redis'; there are: postgresql, sqlite"),
        (":", "no store named ''"),
        ("postgresql", "is not a URL such as postgresql"),
        ("sqlite://", "sqlite is not supported; use postgresql.psycopg, or `path` for a file"),
        ("sqlite:///:memory:", "or `path` for a file"),
        ("sqlite:///store.sqlite", r"which file store\.sqlite is depends on .* under `store\.path` instead"),
        ("sqlite:///../data/store.sqlite", r"which file .* under `store\.path` instead"),
        ("sqlite:///~/store.sqlite", r"which file .* under `store\.path` instead"),
        ("sqlite:///file:store.sqlite?uri=true", r"which file .* under `store\.path` instead"),
        ("postgresql://user:CANARY@host:port/db", "is not a URL such as"),
    ],
)
def test_a_url_that_cannot_be_used_is_an_error_of_the_configuration(tmp_path: Path, url: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=rf"^store\.url: .*{problem}") as caught:
        open_store(config(url=url), default_path=tmp_path / "default")
    assert "CANARY" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg", "postgresql+psycopg2"])
async def test_every_spelling_of_postgresql_is_taken_and_nothing_is_dialled(scheme: str) -> None:
    pytest.importorskip("psycopg")
    store = SqlStore.at_url(Secret(f"{scheme}://user:CANARY@db.invalid/bridge"))
    await store.close()


def test_without_psycopg_the_command_installs_it_where_mail_bridge_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """pip of the shell is not that of the virtual environment, and no index has a mail-bridge of ours."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigError) as caught:
        SqlStore.at_url(Secret("postgresql://user:CANARY@db.invalid/bridge"))
    told = re.fullmatch(r"store\.url: PostgreSQL needs `(.+) -m pip install \"(.+)\"`", str(caught.value))
    assert told is not None
    assert told[1] == sys.executable
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert [needed.split(">")[0] for needed in project["optional-dependencies"]["postgresql"]] == [told[2]]
