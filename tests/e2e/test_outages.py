"""A provider that is down while a CRM keeps trying: nothing is lost, and the bridge does not make the outage worse."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest

from bridge.tokens.refresh import RETRY_AFTER
from tests.e2e.bridge import Bridge, running
from tests.e2e.clients import Login
from tests.e2e.conftest import ALICE, BOB, World, ever_expired
from tests.e2e.logins import imap_says, replies
from tests.e2e.settled import Settled, observed
from tests.servers.authorization import AuthorizationServer
from tests.servers.authorization_controls import Fault
from tests.servers.needed import absent

pytestmark = pytest.mark.servers

LATER = {"imap": "[UNAVAILABLE]", "pop3": "[SYS/TEMP]", "smtp": "454 4.7.0"}
YES = {"imap": "OK", "pop3": "+OK", "smtp": "235 "}
RECOVERY = RETRY_AFTER + 5
"""Seconds until mail flows again, on a busy machine."""


@dataclass
class Outage:
    """Counts, from its creation on, the CRM's logins and the requests to the provider."""

    server: AuthorizationServer
    login: Login
    logins: int = 0
    asked_before: int = field(init=False)

    def __post_init__(self) -> None:
        self.asked_before = self._asked()

    def goes_on(self, seconds: float) -> None:
        """Log in by all three protocols, again and again: each time the answer is `later`."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for protocol, text in replies(self.login).items():
                assert LATER[protocol] in text, text
                assert "must sign in" not in text
                self.logins += 1

    def is_over(self, within: float = RECOVERY) -> float:
        """Log in until all three protocols are open again. Returns: seconds."""
        began = time.monotonic()
        while (told := replies(self.login)) and any(LATER[protocol] in text for protocol, text in told.items()):
            assert time.monotonic() - began < within, told
            threading.Event().wait(0.1)
        assert all(text.startswith(YES[protocol]) for protocol, text in told.items()), told
        return time.monotonic() - began

    @property
    def requests(self) -> int:
        return self._asked() - self.asked_before

    @property
    def times(self) -> list[float]:
        """When the requests came, in seconds since the epoch."""
        asked = [float(one["time"]) for one in list(self.server.requests) if one["kind"] == "token"]
        return asked[self.asked_before :]

    def _asked(self) -> int:
        return sum(request["kind"] == "token" for request in list(self.server.requests))


@pytest.fixture
def stale(world: World, tmp_path: Path) -> Iterator[Bridge]:
    """A bridge where Bob has signed in and his token has expired; checks at the end that nothing is left behind."""
    bridge = world.bridge(tmp_path)
    with ever_expired(world), observed(bridge), running(bridge):
        bridge.sign_in(world.provider, BOB)
        settled = Settled.of(bridge, bridge.login(BOB))
        yield bridge
        settled.check(are_grants_kept=False)


@pytest.mark.parametrize(
    ("fault", "seconds"),
    [(Fault.STATUS_500, 10), (Fault.HTML, 10), (Fault.RESET, 10), (Fault.TEMPORARY_400, 2)],
)
def test_an_outage_is_told_costs_nothing_and_is_over_when_it_is_over(
    stale: Bridge, world: World, fault: Fault, seconds: float
) -> None:
    outage = Outage(world.provider, stale.login(BOB))
    with world.provider.failing("token", fault):
        began = time.monotonic()
        outage.goes_on(seconds)
        lasted, requests = time.monotonic() - began, outage.requests
    assert 1 <= requests <= 1 + lasted / RETRY_AFTER
    world.provider.lifetime = 3600
    recovered = outage.is_over()
    assert "sign_in.needed" not in stale.log
    print(f"{fault}: {outage.logins} logins in {lasted:.1f} s, {requests} requests, mail after {recovered:.1f} s")


def test_an_answer_that_comes_long_after_the_mail_program_was_told_to_come_again_is_not_lost(
    stale: Bridge, world: World
) -> None:
    """The provider rotates strictly: if the bridge hung up, the new refresh token would be lost, and the person would
    have to sign in again."""
    outage = Outage(world.provider, stale.login(BOB))
    with world.provider.failing("token", Fault.SLOW):
        began = time.monotonic()
        assert LATER["imap"] in imap_says(outage.login)
        lasted = time.monotonic() - began
        world.provider.lifetime = 3600
    recovered = outage.is_over()
    assert outage.requests == 1
    assert "sign_in.needed" not in stale.log
    print(f"slow: told after {lasted:.1f} s, 1 request, mail {recovered:.1f} s after the answer")


def test_a_provider_that_asks_for_quiet_is_left_in_quiet(stale: Bridge, world: World) -> None:
    outage = Outage(world.provider, stale.login(BOB))
    world.provider.retry_after = 8
    try:
        with world.provider.failing("token", Fault.STATUS_429):
            outage.goes_on(10)
            requests = outage.requests
    finally:
        world.provider.retry_after = None
    world.provider.lifetime = 3600
    recovered = outage.is_over(within=8 + RECOVERY)
    times = outage.times
    # The bridge waits even if the outage is over, because it was asked to. The server's times are those at which it
    # received the requests, not those at which its answers arrived.
    assert all(later - earlier >= 8 for earlier, later in pairwise(times))
    assert len(times) <= 3
    assert "sign_in.needed" not in stale.log
    print(f"429: {outage.logins} logins, {requests} requests, mail after {recovered:.1f} s")


def test_dns_that_is_gone_costs_nothing(world: World, tmp_path: Path) -> None:
    """Runs in a mount namespace with its own /etc/hosts, from which the provider's name disappears and comes back."""
    hosts = tmp_path / "hosts"
    everybody = "127.0.0.1 localhost\n::1 localhost\n"
    hosts.write_text(f"{everybody}127.0.0.1 login.bridge.test\n")
    own_hosts = ["unshare", "--mount", "sh", "-c", f"mount --bind '{hosts}' /etc/hosts && exec \"$@\"", "sh"]
    if shutil.which("unshare") is None or subprocess.run([*own_hosts, "true"], check=False).returncode != 0:
        absent("the right to a mount namespace")
    bridge = world.bridge(tmp_path)
    provider = bridge.config["providers"]["gmail"]
    provider |= world.provider.generic_config() | {"redirect_uri": provider["redirect_uri"]}
    provider["token_url"] = provider["token_url"].replace("localhost", "login.bridge.test")
    bridge.launcher = own_hosts
    with ever_expired(world), running(bridge):
        bridge.sign_in(world.provider, ALICE)
        outage = Outage(world.provider, bridge.login(ALICE))
        hosts.write_text(everybody)
        outage.goes_on(10)
        assert outage.requests == 0
        hosts.write_text(f"{everybody}127.0.0.1 login.bridge.test\n")
        world.provider.lifetime = 3600
        recovered = outage.is_over()
        assert "login.bridge.test cannot be found (DNS)" in bridge.log
        assert "sign_in.needed" not in bridge.log
    print(f"DNS: {outage.logins} logins, mail after {recovered:.1f} s")
