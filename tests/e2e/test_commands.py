"""The commands, with a running bridge and without one."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.error
import urllib.request
from datetime import date, timedelta
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.e2e.bridge import Bridge, running
from tests.e2e.conftest import ALICE, BOB, CAROL, World
from tests.e2e.logins import replies

pytestmark = pytest.mark.servers


def test_status_tells_accounts_listeners_and_version(bridge: Bridge) -> None:
    status = bridge.json("status")
    states = {account["address"]: account["state"] for account in status["accounts"]}
    assert states == {ALICE: "ready", BOB: "ready", CAROL: "sign-in"}
    assert {listener["protocol"] for listener in status["listeners"]} == {"imap", "pop3", "smtp"}
    assert f"sign-in/{CAROL}" in bridge.run("status")


def test_the_console_opens_by_a_link_that_works_once(bridge: Bridge) -> None:
    (link,) = re.findall(r"http://localhost:\d+/admin/\S+", bridge.run("console", "--no-browser"))
    quiet = urllib.request.ProxyHandler({})
    browser = urllib.request.build_opener(quiet, urllib.request.HTTPCookieProcessor())
    assert CAROL in browser.open(link, timeout=60).read().decode()
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.build_opener(quiet).open(link, timeout=60)
    with refused.value as answer:
        assert "mail-bridge console" in answer.read().decode()


def test_check_finds_a_good_configuration_good_and_changes_nothing(world: World, tmp_path: Path) -> None:
    bridge = world.bridge(tmp_path)
    said = bridge.run("check")
    assert "FAILED" not in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml"]
    with running(bridge):
        assert "running" in bridge.run("check")


def test_check_lists_all_problems_with_their_places(world: World, tmp_path: Path) -> None:
    bridge = world.bridge(tmp_path)
    bridge.config["accounts"][1]["provider"] = "nobody"
    bridge.config["listenerz"] = {}
    found = json.loads(bridge.run("check", "--json", code=2))
    assert len(found) == 2
    assert all("config.yaml:" in finding["detail"] for finding in found)


def test_a_client_secrets_last_days_are_told_everywhere_an_administrator_looks(world: World, tmp_path: Path) -> None:
    bridge = world.bridge(tmp_path)
    bridge.config["providers"]["office365"]["client_secret_expires"] = f"{date.today() + timedelta(days=3)}"
    sentence = "The client secret of office365 expires in 3 days"
    assert sentence in bridge.run("check")
    with running(bridge):
        bridge.wait_for_log(sentence)
        assert f"warning: {sentence}" in bridge.run("status")
        (warning,) = bridge.json("status")["warnings"]
        assert warning.startswith(sentence)
    bridge.config["providers"]["office365"]["client_secret_expires"] = "2026-01-31"
    assert "expired on 2026-01-31" in bridge.run("check", code=2)


def test_a_password_is_shown_rotated_and_set_beside_a_running_bridge(bridge: Bridge) -> None:
    first = bridge.run("accounts", "password", BOB).strip()
    assert bridge.run("accounts", "password", BOB).strip() == first
    second = bridge.run("accounts", "password", BOB, "--rotate").strip()
    assert second != first
    assert replies(bridge.login(BOB, first))["imap"] == "OK"  # both work for a week
    assert replies(bridge.login(BOB, second))["imap"] == "OK"
    bridge.run("accounts", "password", BOB, "--set-from-stdin", stdin="chosen by an admin\n")
    assert bridge.run("accounts", "password", BOB).strip() == "chosen by an admin"
    assert "at least" in bridge.run("accounts", "password", BOB, "--set-from-stdin", stdin="short\n", code=2)
    assert replies(bridge.login(BOB, "chosen by an admin"))["imap"] == "OK"


def test_an_address_that_is_not_configured_is_an_error(bridge: Bridge) -> None:
    assert "is not in the configuration" in bridge.run("accounts", "password", "nobody@example.com", code=1)
    assert "is not in the configuration" in bridge.run("authorize", "nobody@example.com", "--no-browser", code=1)


def test_authorize_works_without_a_running_bridge(world: World, tmp_path: Path) -> None:
    bridge = world.bridge(tmp_path)
    assert "is signed in" in bridge.authorize(world.provider, ALICE)
    assert bridge.json("accounts", "list")[0]["state"] == "ready"
    with running(bridge):
        assert replies(bridge.login(ALICE))["imap"] == "OK"


def test_authorize_leads_nobody_to_a_sign_in_that_could_not_be_kept(world: World, tmp_path: Path) -> None:
    bridge = world.bridge(tmp_path)
    bridge.write_config()
    Path(bridge.config["store"]["path"]).write_bytes(b"SQLite format 3\0" + bytes(4096))
    said = bridge.run("authorize", ALICE, "--no-browser", code=1)
    assert "https://" not in said
    assert "store.sqlite" in said


def test_a_browser_on_another_computer_is_helped_by_pasting_its_last_address(world: World, tmp_path: Path) -> None:
    bridge = world.bridge(tmp_path)
    links: list[str] = []

    def act(line: str, command: subprocess.Popen[str]) -> None:
        assert command.stdin is not None
        if (match := re.match(r"\s+(https://\S+)", line)) is not None:
            links.append(match[1])
        if "paste it here" in line:
            parameters = world.provider.consent(links[0], BOB)
            command.stdin.write("CANARY-only-the-code\n")
            command.stdin.write(f"http://localhost:3017/?{urlencode({**parameters, 'state': 'of-yesterday'})}\n")
            command.stdin.write(f"http://localhost:3017/?{urlencode(parameters)}\n")
            command.stdin.flush()

    said = bridge.dialogue("authorize", BOB, "--paste", act=act)
    assert "begins with the redirect URI" in said
    assert "does not belong to any sign-in" in said
    assert f"{BOB} is signed in as {BOB}" in said
    assert "IMAP  works" in said
    assert "not work" not in bridge.run("accounts", "check", BOB)
    ended = bridge.dialogue("authorize", BOB, "--paste", act=lambda line, command: _close(command), code=1)
    assert "standard input ended" in ended


def _close(command: subprocess.Popen[str]) -> None:
    assert command.stdin is not None
    command.stdin.close()


def test_every_mail_server_is_tried_after_the_consent(world: World, tmp_path: Path) -> None:
    bridge = world.bridge(tmp_path)
    with running(bridge):
        said = bridge.authorize(world.provider, ALICE)
        assert all(f"{protocol:<5} works" in said for protocol in ("IMAP", "POP3", "SMTP"))
    bridge.config["accounts"][0]["sign_in_as"] = BOB
    with running(bridge):
        said = bridge.authorize(world.provider, ALICE, person=BOB)
        assert f"IMAP  does not work: {BOB} has signed in, but may not open the mailbox {ALICE}" in said
        (alice, *_) = bridge.json("accounts", "list")
        assert [check["turn"] for check in alice["checks"]] == ["tenant-admin"] * 3


def test_authorize_names_the_wrong_person_and_stores_nothing(fresh: Bridge, world: World) -> None:
    said = fresh.authorize(world.provider, ALICE, person=BOB, code=1)
    assert BOB in said
    assert ALICE in said
    assert fresh.json("accounts", "list")[0]["state"] == "sign-in"


def test_forget_revokes_and_removes(fresh: Bridge, world: World) -> None:
    fresh.sign_in(world.provider, ALICE)
    password = fresh.password(ALICE)
    before = [request["kind"] for request in world.provider.requests].count("revoke")
    fresh.run("accounts", "forget", ALICE, "--yes")
    assert [request["kind"] for request in world.provider.requests].count("revoke") - before == 1
    assert "must sign in" in replies(fresh.login(ALICE, password))["imap"]  # the local password stays valid
    assert fresh.password(ALICE) == password


@pytest.mark.parametrize("address", [ALICE, BOB])
def test_adopt_takes_over_a_refresh_token(fresh: Bridge, world: World, address: str) -> None:
    token = world.provider.issue_refresh_token(address)
    said = fresh.run("accounts", "adopt", address, stdin=f"{token}\n")
    assert "is signed in" in said
    assert replies(fresh.login(address))["imap"] == "OK"
    assert "does not accept this token" in fresh.run("accounts", "adopt", CAROL, stdin="CANARY-nonsense\n", code=1)
