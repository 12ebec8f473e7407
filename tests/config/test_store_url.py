"""Which databases `store.url` may name, and the message for any other, with its line."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest

from tests.config.bad_values import GOOD
from tests.config.loading import CANARY, load, problems

USER = f"user:{CANARY}@host"
NO_URL = "is not a URL such as postgresql+psycopg://user@host/database"
SQLITE = "sqlite is not supported; use postgresql+psycopg, or `path` for a file"
RELATIVE = "is depends on the directory that mail-bridge is started in; name it under `store.path` instead"


def text(url: str) -> str:
    return f"{GOOD}store:\n  url: '{url}'\n"


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("redis://CANARY-s3cret@host/0", "no store named 'redis'; possible here: postgresql, sqlite"),
        (f"mysql+pymysql://{USER}/db", "no store named 'mysql'; possible here: postgresql, sqlite"),
        (f"POSTGRESQL://{USER}/db", "no store named 'POSTGRESQL'; possible here: postgresql, sqlite"),
        (f"://{USER}/db", "no store named ''; possible here: postgresql, sqlite"),
        (":", NO_URL),
        (CANARY, NO_URL),
        ("postgresql", NO_URL),
        (f"postgresql:{USER}/db", NO_URL),
        (f"postgresql+psycopg-2://{USER}/db", NO_URL),
        (f"postgresql://user:{CANARY}@host:port/db", NO_URL),
        (f"postgresql://user:{CANARY}:5432/db", NO_URL),
        (f"postgresql://{USER}:0/db", NO_URL),
        (f"postgresql://{USER}:65536/db", NO_URL),
        ("sqlite://", SQLITE),
        ("sqlite:///:memory:", SQLITE),
        ("sqlite:///store.sqlite", f"which file store.sqlite {RELATIVE}"),
        ("sqlite:///../data/store.sqlite", f"which file ../data/store.sqlite {RELATIVE}"),
        ("sqlite:///~/store.sqlite", f"which file ~/store.sqlite {RELATIVE}"),
        ("sqlite:///file:store.sqlite?uri=true", f"which file file:store.sqlite {RELATIVE}"),
    ],
)
def test_a_url_that_cannot_be_used_is_told_with_its_line(url: str, problem: str) -> None:
    assert problems(text(url)) == [f"config.yaml:10:3: store.url: {problem}"]


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        (f"{CANARY}://host/db", "no store has this name; possible here: postgresql, sqlite"),
        (CANARY, NO_URL),
        (f"postgresql://user@host:{CANARY}/db", NO_URL),
        (f"sqlite:///{CANARY}", f"which file it {RELATIVE}"),
    ],
)
def test_of_what_comes_from_elsewhere_nothing_is_quoted(url: str, problem: str) -> None:
    assert problems(text("${DATABASE}"), DATABASE=url) == [f"config.yaml:10:3: store.url: {problem}"]


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg", "postgresql+psycopg2"])
def test_every_spelling_of_postgresql_is_taken_and_every_password(scheme: str) -> None:
    url = f"{scheme}://user:pa/ss#wo?rd[@db.invalid:5432/bridge?sslmode=require"
    found = load(text(url)).config.store.url
    assert found is not None
    assert found.reveal() == url


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is there, which it is not in every environment in which these tests run."""
    (tmp_path / "pip.py").touch()
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("pip")
def test_without_psycopg_the_command_installs_it_where_mail_bridge_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell's pip is not that of the virtual environment, and our mail-bridge is on no package index."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    (told,) = problems(text(f"postgresql://{USER}/db"))
    command = re.fullmatch(r"config\.yaml:10:3: store\.url: PostgreSQL needs `(.+) -m pip install \"(.+)\"`", told)
    assert command is not None
    assert command[1] == sys.executable
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert [needed.split(">")[0] for needed in project["optional-dependencies"]["postgresql"]] == [command[2]]


def test_a_file_needs_no_psycopg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    url = f"sqlite:///{(tmp_path / 'store.sqlite').as_posix()}"
    found = load(text(url)).config.store.url
    assert found is not None
    assert found.reveal() == url


@pytest.mark.usefixtures("pip")
def test_a_directory_with_a_space_is_quoted_in_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.setattr(sys, "executable", "/opt/mail bridge/python")
    (told,) = problems(text(f"postgresql://{USER}/db"))
    assert '`"/opt/mail bridge/python" -m pip install ' in told


def test_where_uv_has_installed_mail_bridge_the_command_is_uvs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its environments have no pip."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.setitem(sys.modules, "pip", None)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(sys, "executable", "/opt/mail bridge/bin/python")
    (told,) = problems(text(f"postgresql://{USER}/db"))
    assert told.endswith('PostgreSQL needs `uv pip install --python "/opt/mail bridge/bin/python" "psycopg[binary]"`')


def test_where_pipx_has_installed_mail_bridge_the_command_is_pipxs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`pipx install --suffix=-test` calls its environment mail-bridge-test."""
    place = tmp_path / "mail-bridge-test"
    place.mkdir()
    (place / "pipx_metadata.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.setattr(sys, "prefix", str(place))
    (told,) = problems(text(f"postgresql://{USER}/db"))
    assert told.endswith('PostgreSQL needs `pipx inject mail-bridge-test "psycopg[binary]"`')
