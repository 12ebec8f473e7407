"""A network that loses, delays and reorders packets, and fails for a while or for good: simulated at the IP layer.

The bridge and its mail programs are on one side, in a network namespace, and Alice's mail servers on the other. Bob's
mail servers are on the near side: his logins show that others are served meanwhile.
"""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from bridge.relay.connected import UNACKNOWLEDGED_SECONDS
from bridge.relay.resolver import REMEMBERED_SECONDS
from tests.e2e import errands
from tests.e2e.bridge import running
from tests.e2e.chaos import PREFIX, Chaos
from tests.e2e.conftest import ALICE, World
from tests.e2e.errands import End, Errand, letter
from tests.e2e.logins import LATER, YES, answer
from tests.e2e.settled import Settled, observed
from tests.servers.faulty import Fault, Kind, faulty_relay
from tests.servers.needed import absent
from tests.servers.rough_network import FAR, FAR_6, RoughNetwork, rough_network

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]

NAME = "login.bridge.test"
"""The name of Alice's mail servers, which is in their certificate."""
GONE_SECONDS = float(os.environ.get("MAIL_BRIDGE_GONE_SECONDS", "5"))
"""TCP retransmits after 0.2 s, then doubles the wait each time: after an outage of 30 s it goes on at 51 s."""
LETTER = 150_000
NEARLY = "127.0.0.1 localhost\n::1 localhost\n"
PIDFD_GETFD = 438


@dataclass
class Rough:
    """A bridge between a good and a rough network."""

    network: RoughNetwork
    scene: Chaos
    hosts: Path

    @property
    def settled(self) -> Settled:
        assert self.scene.settled is not None
        return self.scene.settled

    def errands(self, tag: str) -> list[Errand]:
        """One errand of each kind, for Alice."""
        login, shelf, post = self.scene.logins[0], self.scene.shelves[ALICE], self.scene.post
        chance = random.Random(tag)
        one, two = f"{PREFIX}{tag}-append", f"{PREFIX}{tag}-data"
        return [
            errands.fetching(login, shelf),
            errands.retrieving(login, shelf),
            errands.appending(login, post, letter(one, LETTER, chance), one),
            errands.submitting(login, post, letter(two, LETTER, chance), two),
            errands.idling(login),
        ]

    @contextmanager
    def under_way(self, tag: str) -> Iterator[list[Future[End]]]:
        """Run all errands at once."""
        chosen = self.errands(tag)
        with ThreadPoolExecutor(len(chosen)) as pool:
            yield [pool.submit(errand.run) for errand in chosen]


@pytest.fixture(scope="module")
def rough(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rough]:
    directory = tmp_path_factory.mktemp("rough")
    hosts, resolver = directory / "hosts", directory / "resolv.conf"
    hosts.write_text(f"{NEARLY}{FAR} {NAME}\n")
    resolver.write_text(f"nameserver {FAR}\n")
    mounts = f"mount --bind '{hosts}' /etc/hosts && mount --bind '{resolver}' /etc/resolv.conf && exec \"$@\""
    launcher = ["unshare", "--mount", "sh", "-c", mounts, "sh"]
    if shutil.which("unshare") is None or subprocess.run([*launcher, "true"], check=False).returncode != 0:
        absent("the right to a mount namespace")
    bridge = world.bridge(directory)
    with rough_network(5) as network, ExitStack() as stack:
        scene = Chaos(world, bridge, {})
        with running(bridge):
            scene.sign_in()
        for name, provider in bridge.config["providers"].items():
            is_far = name == "gmail"
            side, address = (network.far, FAR) if is_far else (network.near, "127.0.0.1")
            for protocol in ("imap", "pop3", "smtp"):
                with side():
                    listener = socket.create_server((address, 0))
                relay = stack.enter_context(faulty_relay(provider[protocol]["port"], listener))
                provider[protocol] |= {"host": NAME if is_far else address, "port": relay.port}
                scene.relays[name, protocol] = relay
        bridge.launcher = launcher
        stack.enter_context(observed(bridge))
        with network.near():
            stack.enter_context(running(bridge))
            scene.settled = Settled.of(bridge, *scene.logins)
        yield Rough(network, scene, hosts)


@pytest.fixture(autouse=True)
def settled_afterwards(rough: Rough) -> Iterator[None]:
    """After each test: repair the network, and check that nothing is left behind."""
    yield
    network = rough.network
    network.loss = network.delay = network.jitter = 0.0
    network.is_plugged = network.has_ipv6 = True
    rough.hosts.write_text(f"{NEARLY}{FAR} {NAME}\n")
    with network.near():
        rough.settled.check()
    print(rough.scene.post.verify(PREFIX))


def test_loss_delay_and_reordering_cost_time_and_no_octet(rough: Rough) -> None:
    network = rough.network
    network.loss, network.delay, network.jitter = 0.02, 0.01, 0.01
    before = network.counts.copy()
    with network.near(), rough.under_way("lossy") as ends:
        assert [end.result() for end in ends] == [End.DONE] * len(ends)
    happened = network.counts - before
    assert happened["lost"] > 0
    assert happened["late"] > 0
    print(dict(happened))


def test_sessions_outlive_a_network_that_is_gone_for_a_while(rough: Rough) -> None:
    network = rough.network
    network.delay = 0.02
    with network.near(), rough.under_way("gone") as ends:
        before = network.counts["passed"]
        while network.counts["passed"] < before + 200:  # until the errands are in the middle
            threading.Event().wait(0.01)
        network.is_plugged = False
        threading.Event().wait(GONE_SECONDS)
        network.is_plugged = True
        began = time.monotonic()
        found = [end.result() for end in ends]
    # A login that was just connecting upstream was told `later`; sessions went on.
    assert set(found) <= {End.DONE, End.LATER}
    assert End.DONE in found
    print(f"gone for {GONE_SECONDS:g} s: {[end.value for end in found]}, {time.monotonic() - began:.1f} s later")


def assert_a_later_that_costs_others_nothing(rough: Rough) -> None:
    """Alice, whose servers cannot be reached, is told `later`; Bob logs in meanwhile."""
    with rough.network.near(), ThreadPoolExecutor(3) as pool:
        alice, bob = rough.scene.logins
        waiting = {protocol: pool.submit(answer, alice, protocol) for protocol in YES}
        for protocol, yes in YES.items():
            assert answer(bob, protocol).startswith(yes)
        for protocol, said in waiting.items():
            assert said.result().startswith(LATER[protocol])


def test_a_server_that_vanishes_is_a_later_for_who_dials_and_costs_others_nothing(rough: Rough) -> None:
    rough.network.is_plugged = False
    assert_a_later_that_costs_others_nothing(rough)


@pytest.mark.parametrize("is_sending", [False, True])
def test_a_server_that_vanishes_in_a_session_is_noticed_by_keepalive_or_by_what_it_does_not_acknowledge(
    rough: Rough, is_sending: bool
) -> None:
    """This would take minutes. The test reads the timeouts from the running program's own socket, then sets them to
    seconds there."""
    network, bridge = rough.network, rough.scene.bridge
    with network.near(), errands_line(rough) as line:
        upstream = _socket_to(bridge.pid, FAR)
        with upstream:
            assert _options(upstream) == (1, 120, 30, 4, UNACKNOWLEDGED_SECONDS * 1000)
            for option, value in (
                (socket.TCP_KEEPIDLE, 1),
                (socket.TCP_KEEPINTVL, 1),
                (socket.TCP_USER_TIMEOUT, 2000),
            ):
                upstream.setsockopt(socket.IPPROTO_TCP, option, value)
            client = _socket_to(bridge.pid, "127.0.0.1", line.sock.getsockname()[1])
            with client:
                assert _options(client) == (1, 120, 30, 4, 0)
        network.is_plugged = False
        if is_sending:
            line.send(b"9 NOOP\r\n")
        with pytest.raises(errands.Cut):
            line.read_line()


@contextmanager
def errands_line(rough: Rough) -> Iterator[errands.Line]:
    """An IMAP session of Alice's."""
    login = rough.scene.logins[0]
    line = errands.Line(login, "imap")
    try:
        errands.imap_login(line, login)
        yield line
    finally:
        line.close()


def _options(sock: socket.socket) -> tuple[int, ...]:
    names = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
    alive = sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    return alive, *(sock.getsockopt(socket.IPPROTO_TCP, name) for name in names)


def _socket_to(pid: int, address: str, port: int | None = None) -> socket.socket:
    """A duplicate of the process's connected socket."""
    process = os.pidfd_open(pid)
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            if not os.readlink(entry).startswith("socket:"):
                continue
            number = ctypes.CDLL(None, use_errno=True).syscall(PIDFD_GETFD, process, int(entry.name), 0)
            assert number >= 0, os.strerror(ctypes.get_errno())
            sock = socket.socket(fileno=number)
            try:
                peer = sock.getpeername()
            except OSError:
                peer = ()
            if peer and peer[0] == address and port in (None, peer[1]):
                return sock
            sock.close()
    finally:
        os.close(process)
    raise AssertionError(f"no connection to {address}")


def test_a_dead_ipv6_address_first_costs_a_moment_once(rough: Rough) -> None:
    login = rough.scene.logins[0]
    with rough.network.near():
        for protocol, later in LATER.items():  # then it prefers none of the server's addresses
            rough.scene.relays["gmail", protocol].plan(Fault(Kind.RESET))
            assert later in answer(login, protocol)
        rough.hosts.write_text(f"{NEARLY}{FAR_6} {NAME}\n{FAR} {NAME}\n")
        threading.Event().wait(REMEMBERED_SECONDS)  # until the bridge forgets the name's former addresses
        rough.network.has_ipv6 = False
        before = rough.network.counts["lost6"]
        for protocol, yes in YES.items():
            tried = rough.network.counts["lost6"]
            assert answer(login, protocol).startswith(yes)
            assert rough.network.counts["lost6"] > tried  # IPv6 was tried
        after = rough.network.counts["lost6"]
        for protocol, yes in YES.items():
            assert answer(login, protocol).startswith(yes)
    assert rough.network.counts["lost6"] == after > before


@pytest.mark.parametrize("is_hanging", [True, False])
def test_a_name_server_that_hangs_or_refuses_is_a_later_and_costs_others_nothing(
    rough: Rough, is_hanging: bool
) -> None:
    rough.hosts.write_text(NEARLY)
    threading.Event().wait(REMEMBERED_SECONDS)  # until the bridge forgets the name's former addresses
    rough.network.is_plugged = not is_hanging  # if plugged, the far side has no name server and refuses
    assert_a_later_that_costs_others_nothing(rough)
    rough.scene.bridge.wait_for_log(f"{NAME}:" if is_hanging else f"the name {NAME} cannot be looked up")
