"""`os_user` and `local_password` in the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.accounts.directory import Directory
from bridge.config.diff import plan, summary_of
from bridge.config.load import json_schema, parse_config
from bridge.config.schema import Config
from bridge.errors import ConfigError

HEAD = """\
providers:
  it: {kind: google, client_id: c, client_secret: CANARY}
  code: {kind: microsoft, client_id: c, tenant: contoso.com, flow: device}
accounts:
"""


def load(accounts: str, more: str = "") -> Config:
    return parse_config(HEAD + accounts + more, directory=Path("/nowhere"), environ={}).config


def problems(accounts: str, more: str = "") -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(accounts, more)
    return list(caught.value.problems)


def test_one_user_or_several() -> None:
    config = load(
        "- {address: a@example.com, provider: it, os_user: alice}\n"
        "- {address: b@example.com, provider: it, os_user: ['OFFICE\\bob', 1001, S-1-5-21-1]}\n"
        '- {address: "*@example.com", provider: it, os_user: same}\n'
        "- {address: c@example.com, provider: it}\n"
    )
    directory = Directory(config)
    found = {name: directory.find(f"{name}@example.com") for name in ("a", "b", "c", "anybody")}
    assert {name: account.os_users for name, account in found.items() if account is not None} == {
        "a": ("alice",),
        "b": ("OFFICE\\bob", "1001", "S-1-5-21-1"),
        "c": (),
        "anybody": ("same",),
    }


@pytest.mark.parametrize("value", ["''", "'*'", "alice@example.com", "[alice, '']", "a/b"])
def test_what_is_no_os_user(value: str) -> None:
    (problem,) = problems(f"- {{address: a@example.com, provider: it, os_user: {value}}}\n")
    assert "must be a user of the operating system, such as alice" in problem


def test_nobody_is_no_way_to_write_everybody() -> None:
    (problem,) = problems("- {address: a@example.com, provider: it, os_user: []}\n")
    assert "names nobody; leave os_user out" in problem


def test_first_use_for_all_or_for_one() -> None:
    accounts = (
        "- {address: a@example.com, provider: it}\n- {address: b@example.com, provider: it, local_password: random}\n"
    )
    directory = Directory(load(accounts, "local_password: first-use\n"))
    assert [account.is_first_use for account in directory.accounts] == [True, False]
    assert [account.is_first_use for account in Directory(load(accounts)).accounts] == [False, False]
    own = load("- {address: a@example.com, provider: it, local_password: first-use}\n")
    assert [account.is_first_use for account in Directory(own).accounts] == [True]


def test_first_use_needs_a_browser_that_comes_back() -> None:
    """The person who enters a device code may be another than the one who asked for it."""
    own = "- {address: a@example.com, provider: code, local_password: first-use}\n"
    (problem,) = problems(own)
    assert problem.startswith("config.yaml:5:")
    assert "first-use needs a provider with `flow: browser`" in problem
    (problem,) = problems("- {address: a@example.com, provider: code}\n", "local_password: first-use\n")
    assert problem.startswith("config.yaml:6:")
    assert "give accounts[0] `local_password: random`" in problem
    load("- {address: a@example.com, provider: code, local_password: random}\n", "local_password: first-use\n")


def test_a_change_is_told_and_signs_nobody_out() -> None:
    old = load("- {address: a@example.com, provider: it}\n")
    new = load("- {address: a@example.com, provider: it, os_user: alice}\n", "local_password: first-use\n")
    change = plan(old, new)
    assert summary_of(change) == "account a@example.com changed; local_password changed"
    assert not change.grants_invalidated


def test_editors_know_both_forms() -> None:
    field = json_schema()["$defs"]["AccountConfig"]["properties"]["os_user"]
    assert [form["type"] for form in field["anyOf"]] == ["string", "array"]
    assert "default" not in field
