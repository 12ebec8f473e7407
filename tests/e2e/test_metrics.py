"""The metrics that the program serves to a monitoring system, with the real servers."""

from __future__ import annotations

import imaplib
import poplib
import re
from collections import Counter
from pathlib import Path

import pytest

from tests.e2e.bridge import Bridge, running
from tests.e2e.conftest import ALICE, BOB, World, ever_expired
from tests.e2e.logins import imap_says
from tests.e2e.test_store_faults import gone

pytestmark = pytest.mark.servers


def numbers(bridge: Bridge) -> dict[str, int]:
    """All metrics that are not 0, except the accounts, which are not counted each time."""
    found = {name: value for name, value in all_numbers(bridge).items() if value}
    return {name: value for name, value in found.items() if not name.startswith("accounts")}


def all_numbers(bridge: Bridge) -> dict[str, int]:
    status, page = bridge.get("/metrics")
    assert status == 200
    samples = re.findall(r"(?m)^mail_bridge_(\S+) (\d+)$", page)
    assert len(samples) == sum(not line.startswith("#") for line in page.splitlines())
    return {name: int(value) for name, value in samples}


@pytest.mark.parametrize("workers", [1, 2])
def test_logins_bytes_sessions_and_refreshes_are_counted_over_all_processes(
    world: World, tmp_path: Path, workers: int
) -> None:
    bridge = world.bridge(tmp_path)
    bridge.config["workers"] = workers
    with running(bridge):
        bridge.sign_in(world.provider, ALICE)
        (info,) = numbers(bridge)
        assert info.startswith("info{version=")
        login = bridge.login(ALICE)
        with imaplib.IMAP4("localhost", login.imap, timeout=30) as first:
            first.login(login.username, login.password)
            bridge.wait_until(lambda: numbers(bridge).get('sessions{protocol="imap"}') == 1, "a session")
            for _ in range(4):  # spread over the workers
                assert imap_says(login).startswith("1 OK")
        assert "NO" in imap_says(bridge.login(ALICE, "wrong password"))
        assert "must sign in" in imap_says(bridge.login(BOB))
        pop3 = poplib.POP3("localhost", login.pop3, timeout=30)
        pop3.user(login.username)
        pop3.pass_(login.password)
        pop3.quit()
        counted = {
            'logins_total{protocol="imap",answer="yes"}': 5,
            'logins_total{protocol="imap",answer="no"}': 1,
            'logins_total{protocol="imap",answer="later"}': 1,
            'logins_total{protocol="pop3",answer="yes"}': 1,
        }
        bridge.wait_until(lambda: counted.items() <= numbers(bridge).items(), "all that has happened")
        bridge.wait_until(lambda: not any(name.startswith("sessions") for name in numbers(bridge)), "their end")
        found = numbers(bridge)
        assert found.keys() == counted.keys() | {info} | {
            f'relayed_bytes_total{{protocol="{protocol}",to="{to}"}}'
            for protocol in ("imap", "pop3")
            for to in ("program", "server")
        }
        assert bridge.log.count("session.done ") == 6
        for side, to in (("to_client", "program"), ("to_upstream", "server")):
            logged = sum(map(int, re.findall(rf"session\.done [^\n]*\b{side}=(\d+)", bridge.log)))
            told = sum(value for name, value in found.items() if name.endswith(f'to="{to}"}}'))
            assert told == logged > 0


def test_the_accounts_are_counted_by_the_states_that_the_status_shows(world: World, tmp_path: Path) -> None:
    with running(world.bridge(tmp_path)) as bridge:
        bridge.sign_in(world.provider, ALICE)
        states = Counter(account["state"] for account in bridge.json("status")["accounts"])
        assert states["ready"] == 1
        assert states["sign-in"] >= 1
        found = all_numbers(bridge)
        for state in ("ready", "sign-in", "pending", "trouble"):
            assert found[f'accounts{{state="{state}"}}'] == states[state]


def test_a_refresh_is_counted_by_what_has_come_of_it(world: World, tmp_path: Path) -> None:
    with running(world.bridge(tmp_path)) as bridge:
        with ever_expired(world):
            bridge.sign_in(world.provider, BOB)
        before = numbers(bridge)
        assert imap_says(bridge.login(BOB)).startswith("1 OK")
        assert grown(before, numbers(bridge))['token_refreshes_total{outcome="done"}'] == 1
        with ever_expired(world):
            bridge.sign_in(world.provider, BOB)
        world.provider.revoke_person(BOB)
        before = numbers(bridge)
        assert "must sign in" in imap_says(bridge.login(BOB))
        assert grown(before, numbers(bridge)) == {
            'token_refreshes_total{outcome="failed"}': 1,
            'logins_total{protocol="imap",answer="later"}': 1,
        }


def test_while_the_store_is_away_the_numbers_are_told(world: World, tmp_path: Path) -> None:
    with running(world.bridge(tmp_path)) as bridge:
        login = bridge.login(BOB)  # nothing about him is in memory
        with gone(tmp_path / "store.sqlite"):
            said = imap_says(login)
            assert "NO [UNAVAILABLE]" in said
            assert "must sign in" not in said
            assert numbers(bridge)['logins_total{protocol="imap",answer="later"}'] == 1
            assert all_numbers(bridge)['accounts{state="trouble"}'] == len(bridge.config["accounts"])


def grown(before: dict[str, int], now: dict[str, int]) -> dict[str, int]:
    """How much each number has changed."""
    return {name: value - before.get(name, 0) for name, value in now.items() if value != before.get(name)}
