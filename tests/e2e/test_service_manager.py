"""The program under a service manager: `Type=notify`, its watchdog, and what is left of one that stands still."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.bridge import CANARY, Bridge, running
from tests.e2e.conftest import ALICE, World
from tests.e2e.test_faults import replies

pytestmark = [pytest.mark.servers, pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="systemd's protocol")]

SECONDS = 20


class Systemd:
    """Its end of the notification socket, in the order of what comes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(SECONDS)

    def hears(self, word: str) -> list[str]:
        """What comes before a message that begins so, this one last."""
        before = []
        while True:
            before.append(self.socket.recv(4096).decode())
            if before[-1].startswith(word):
                return before


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    found = Systemd(tmp_path / "notify")
    with found.socket:
        yield found


def under(systemd: Systemd, bridge: Bridge, watchdog: float = 0.2) -> Bridge:
    bridge.environment |= {"NOTIFY_SOCKET": str(systemd.path), "WATCHDOG_USEC": str(int(watchdog * 1e6))}
    return bridge


def test_a_whole_life_is_told(world: World, tmp_path: Path, systemd: Systemd) -> None:
    bridge = under(systemd, world.bridge(tmp_path))
    bridge.config["workers"] = 2
    with running(bridge):
        assert systemd.hears("READY=1")[-1] == "READY=1"
        bridge.sign_in(world.provider, ALICE)
        assert replies(bridge.login(ALICE))["imap"] == "OK", "ready means that mail clients are served"
        for process in bridge.workers:
            assert b"NOTIFY_SOCKET" not in Path(f"/proc/{process}/environ").read_bytes()
        systemd.hears("WATCHDOG=1")
        assert bridge.process is not None
        bridge.process.send_signal(signal.SIGHUP)
        assert systemd.hears("RELOADING=1")[-1].startswith("RELOADING=1\nMONOTONIC_USEC=")
        assert all(message == "WATCHDOG=1" for message in systemd.hears("READY=1")[:-1])
        bridge.config["accounts"][0]["provider"] = "nobody"
        bridge.write_config()
        systemd.hears("RELOADING=1")
        systemd.hears("READY=1")  # what cannot be used changes nothing
        bridge.process.send_signal(signal.SIGTERM)
        systemd.hears("STOPPING=1")


def test_one_that_stands_still_is_missed(world: World, tmp_path: Path, systemd: Systemd) -> None:
    bridge = under(systemd, world.bridge(tmp_path))
    with running(bridge):
        systemd.hears("WATCHDOG=1")
        os.kill(bridge.pid, signal.SIGSTOP)
        with contextlib.suppress(BlockingIOError):
            systemd.socket.setblocking(False)
            while True:
                systemd.socket.recv(4096)  # what was on its way
        time.sleep(0.5)  # more than twice the watchdog's time: nothing is what is waited for
        with pytest.raises(BlockingIOError):
            systemd.socket.recv(4096)
        systemd.socket.settimeout(SECONDS)
        os.kill(bridge.pid, signal.SIGCONT)
        systemd.hears("WATCHDOG=1")


@pytest.mark.parametrize("which", ["bridge", "worker"])
def test_the_watchdogs_signal_says_where_it_stood_and_nothing_else(world: World, tmp_path: Path, which: str) -> None:
    bridge = world.bridge(tmp_path)
    bridge.config["workers"] = 2
    with running(bridge):
        bridge.sign_in(world.provider, ALICE)
        assert replies(bridge.login(ALICE))["imap"] == "OK"
        os.kill(bridge.pid if which == "bridge" else bridge.workers[0], signal.SIGABRT)
        bridge.wait_for_log("Fatal Python error: Aborted")
        bridge.wait_until(lambda: 'asyncio/runners.py", line' in bridge.log, "where it stood")
        if which == "bridge":
            assert bridge.process is not None
            assert bridge.process.wait(SECONDS) == -signal.SIGABRT
        else:
            bridge.wait_for_log("worker.died")
            assert replies(bridge.login(ALICE))["imap"] == "OK"
    assert CANARY not in bridge.log
