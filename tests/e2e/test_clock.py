"""A machine whose clock is wrong, or is set while the bridge runs (libfaketime changes only the wall clock)."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.bridge import Bridge, configuration, running
from tests.e2e.chaos import Chaos
from tests.e2e.conftest import ALICE, BOB, World, ever_expired
from tests.e2e.errands import Cut, Line, imap_login
from tests.e2e.logins import imap_says
from tests.e2e.settled import Settled, observed
from tests.servers import postgresql
from tests.servers.packages import needs, program

pytestmark = pytest.mark.servers

HOUR = 3600

Set = Callable[[int], None]
"""Sets the bridge's clock so many seconds ahead of the real one, from now on."""


@pytest.fixture
def stepped(world: World, tmp_path: Path) -> tuple[Bridge, Set]:
    """A bridge that is not started yet, and a function that sets its clock."""
    needs("libfaketime")
    file = tmp_path / "clock"
    bridge = world.bridge(tmp_path)
    bridge.environment |= {
        "LD_PRELOAD": str(program("/usr/lib/*/faketime/libfaketimeMT.so.1")),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }

    def set_clock(seconds: int) -> None:
        beside = tmp_path / "clock.new"
        beside.write_text(f"{seconds:+d}\n")
        beside.replace(file)

    set_clock(0)
    return bridge, set_clock


def test_a_clock_that_is_set_while_the_bridge_runs_costs_one_refresh_each_time(
    world: World, stepped: tuple[Bridge, Set]
) -> None:
    bridge, set_clock = stepped
    with observed(bridge), running(bridge):
        for address in (ALICE, BOB):
            bridge.sign_in(world.provider, address)
        logins = [bridge.login(address) for address in (ALICE, BOB)]
        settled = Settled.of(bridge, *logins)
        for ahead in (HOUR, 0, -HOUR, 0, -HOUR, HOUR):
            set_clock(ahead)
            before = world.provider.count("refresh_token")
            for login in logins * 3:
                assert imap_says(login).startswith("1 OK"), bridge.log
            assert world.provider.count("refresh_token") - before == len(logins), (ahead, bridge.log)
        settled.check(are_grants_kept=False)


@pytest.mark.parametrize("ahead", [HOUR, -HOUR])
def test_with_a_clock_an_hour_off_people_sign_in_and_mail_flows(
    world: World, stepped: tuple[Bridge, Set], ahead: int
) -> None:
    bridge, set_clock = stepped
    set_clock(ahead)
    with running(bridge):
        before = world.provider.count("refresh_token")
        for address in (ALICE, BOB):
            bridge.sign_in(world.provider, address)
            login = bridge.login(address)
            for _ in range(3):
                assert imap_says(login).startswith("1 OK"), bridge.log
        assert world.provider.count("refresh_token") == before
        assert "Traceback" not in bridge.log


@pytest.fixture
def apart(world: World, stepped: tuple[Bridge, Set], tmp_path: Path) -> Iterator[tuple[Bridge, Bridge, Set]]:
    """Two bridges on one database, neither started yet, and a function that sets the first one's clock."""
    one, set_clock = stepped
    with postgresql.running() as database:
        one.config["store"] = {"url": database.new_database().reveal(), "key_file": str(tmp_path / "key")}
        home = tmp_path / "other"
        home.mkdir()
        accounts, store = one.config["accounts"], one.config["store"]
        two = Bridge(home, configuration(home, world.providers(), accounts, store=store))
        yield one, two, set_clock


@pytest.mark.parametrize("ahead", [HOUR, -HOUR])
def test_two_bridges_whose_clocks_are_an_hour_apart_ask_once_each_and_wait_for_a_lease_no_longer(
    world: World, apart: tuple[Bridge, Bridge, Set], ahead: int
) -> None:
    """A lease uses the database's clock; a token's expiry uses the clock of the bridge that received it."""
    one, two, set_clock = apart
    set_clock(ahead)
    world.provider.rotates = False  # the refresh token that the killed bridge has used stays valid
    try:
        with running(two), running(one):
            with ever_expired(world):
                one.sign_in(world.provider, BOB)
            logins = [bridge.login(BOB, one.password(BOB)) for bridge in (one, two)]
            asked = world.provider.count("refresh_token")
            with world.provider.holding_back(), ThreadPoolExecutor(1) as pool:
                pool.submit(imap_says, logins[0])
                one.wait_until(lambda: world.provider.count("refresh_token") > asked, "a refresh is under way")
                one.stop_hard()
            assert imap_says(logins[1]).startswith("1 OK"), two.log
            one.start()
            asked = world.provider.count("refresh_token")
            for login in logins * 2:
                assert imap_says(login).startswith("1 OK"), one.log + two.log
            assert world.provider.count("refresh_token") - asked <= 2
    finally:
        world.provider.rotates = True


def test_a_token_that_the_mail_server_refuses_is_replaced_once_and_the_login_succeeds(
    world: World, stepped: tuple[Bridge, Set]
) -> None:
    """The token should live for an hour, but is revoked. In its first minute it would not be replaced, because a new
    one would be refused too."""
    bridge, set_clock = stepped
    with running(bridge):
        for address in (ALICE, BOB):
            bridge.sign_in(world.provider, address)
        logins = [bridge.login(address) for address in (ALICE, BOB)]
        set_clock(120)
        world.provider.expire_all_access()
        before = world.provider.count("refresh_token")
        for login in logins * 2:
            assert imap_says(login).startswith("1 OK"), bridge.log
        assert world.provider.count("refresh_token") - before == len(logins)
        assert "sign_in.needed" not in bridge.log


def test_a_machine_that_wakes_up_hours_later_refreshes_once_and_lets_go_of_what_died_meanwhile(
    world: World, stepped: tuple[Bridge, Set]
) -> None:
    """SIGSTOP, then SIGCONT; meanwhile the clock goes on, the tokens expire and the servers hang up."""
    bridge, set_clock = stepped
    with observed(bridge), running(bridge):
        for address in (ALICE, BOB):
            bridge.sign_in(world.provider, address)
        logins = [bridge.login(address) for address in (ALICE, BOB)]
        settled = Settled.of(bridge, *logins)
        lines = [Line(login, "imap") for login in logins]
        for line, login in zip(lines, logins, strict=True):
            imap_login(line, login)
        before = world.provider.count("refresh_token")
        os.kill(bridge.pid, signal.SIGSTOP)
        set_clock(8 * HOUR)
        world.provider.expire_all_access()
        Chaos(world, bridge, {}).crash("imap-login")
        os.kill(bridge.pid, signal.SIGCONT)
        for line in lines:
            with pytest.raises(Cut):
                line.read_line()
            line.close()
        settled.check(are_grants_kept=False)
        assert world.provider.count("refresh_token") - before == len(logins)


def test_an_idle_that_speaks_every_29_minutes_goes_on_and_a_forgotten_session_ends(
    world: World, stepped: tuple[Bridge, Set]
) -> None:
    """RFC 2177. The bridge's monotonic clock is set too: the minutes pass for the bridge, not for the mail server."""
    bridge, set_clock = stepped
    del bridge.environment["FAKETIME_DONT_FAKE_MONOTONIC"]
    now = 0

    def pass_minutes(count: int) -> None:
        nonlocal now
        for _ in range(count):
            now += 60
            set_clock(now)
            if now % 240 == 0:
                assert imap_says(other).startswith("1 OK")  # its event loop reads the clock when something happens

    with observed(bridge), running(bridge):
        world.provider.lifetime = 24 * HOUR  # no refresh may be under way, since its time limit would pass at once
        for address in (ALICE, BOB):
            bridge.sign_in(world.provider, address)
        world.provider.lifetime = HOUR
        login, other = (bridge.login(address) for address in (ALICE, BOB))
        settled = Settled.of(bridge, login, other)
        line = Line(login, "imap")
        imap_login(line, login)
        line.send(b"2 SELECT INBOX\r\n")
        while not line.read_line().startswith(b"2 OK"):
            pass
        for _ in range(3):
            line.send(b"3 IDLE\r\n")
            while not line.read_line().startswith(b"+"):
                pass
            pass_minutes(29)
            line.send(b"DONE\r\n")
            while not line.read_line().startswith(b"3 OK"):
                pass
        assert "ended_by=idle" not in bridge.log
        pass_minutes(75)
        with pytest.raises(Cut):
            line.read_line()
        line.close()
        bridge.wait_for_log("ended_by=idle")
        settled.check(are_grants_kept=False)
