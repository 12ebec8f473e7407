"""The program under a service manager: `Type=notify`, the watchdog, and the traces of a program that hangs."""

from __future__ import annotations

import base64
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.bridge import CANARY, Bridge, running
from tests.e2e.conftest import ALICE, World
from tests.e2e.logins import replies
from tests.servers.systemd import Systemd, listening

pytestmark = [pytest.mark.servers, pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="systemd's protocol")]

SECONDS = 60
WATCHDOG = 0.5
"""Seconds; an idle bridge sends two messages in this time."""


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    with listening(str(tmp_path / "notify")) as found:
        yield found


def under(systemd: Systemd, bridge: Bridge) -> Bridge:
    bridge.environment |= {"NOTIFY_SOCKET": systemd.name, "WATCHDOG_USEC": str(int(WATCHDOG * 1e6))}
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
        systemd.hears("READY=1")  # a configuration that cannot be used changes nothing
        bridge.process.send_signal(signal.SIGTERM)
        systemd.hears("STOPPING=1")


def test_its_directories_and_credentials_are_named_by_their_variables(world: World, tmp_path: Path) -> None:
    """systemd.exec(5), StateDirectory= and LoadCredential=: the program itself uses the same variables. A credential's
    mode lets its group read it."""
    state, credentials = tmp_path / "state", tmp_path / "credentials"
    state.mkdir()
    credentials.mkdir()
    key = credentials / "key"
    key.write_bytes(base64.b64encode(os.urandom(32)))
    key.chmod(0o440)
    bridge = world.bridge(tmp_path)
    bridge.config["store"] = {"path": "${STATE_DIRECTORY}/store.sqlite", "key_file": "${CREDENTIALS_DIRECTORY}/key"}
    bridge.environment |= {"STATE_DIRECTORY": str(state), "CREDENTIALS_DIRECTORY": str(credentials)}
    with running(bridge):
        assert bridge.run("status").startswith("mail-bridge ")
        assert [path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("control.json")] == ["state"]
    assert (state / "store.sqlite").exists()


STANDS_STILL = """
import signal

signal.signal(signal.SIGUSR1, lambda *_: open("gate").close())
"""
"""On that signal the event loop blocks until somebody opens the other end of a FIFO."""


def test_one_whose_loop_stands_still_is_missed(world: World, tmp_path: Path, systemd: Systemd) -> None:
    """The watchdog must notice it, although the process and its other threads live."""
    bridge = under(systemd, world.bridge(tmp_path))
    (tmp_path / "sitecustomize.py").write_text(STANDS_STILL)
    bridge.environment["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{bridge.environ['PYTHONPATH']}"
    gate = bridge.directory / "gate"
    os.mkfifo(gate)
    with running(bridge):
        systemd.hears("WATCHDOG=1")
        assert bridge.process is not None
        bridge.process.send_signal(signal.SIGUSR1)
        deadline = time.monotonic() + SECONDS
        while _is_there(systemd):
            assert time.monotonic() < deadline, "the loop goes on"
        assert bridge.process.poll() is None
        gate.write_bytes(b"")
        systemd.hears("WATCHDOG=1")


def _is_there(systemd: Systemd) -> bool:
    """True if the watchdog is fed; False if nothing comes for twice the watchdog's time."""
    while systemd.has_come():
        pass
    try:
        systemd.hears("WATCHDOG=1", seconds=2 * WATCHDOG)
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize("which", ["bridge", "worker"])
def test_the_watchdogs_signal_says_where_it_stood_and_nothing_else(world: World, tmp_path: Path, which: str) -> None:
    bridge = world.bridge(tmp_path)
    bridge.config["workers"] = 2
    with running(bridge):
        bridge.sign_in(world.provider, ALICE)
        assert replies(bridge.login(ALICE))["imap"] == "OK"
        # Otherwise a worker's line may come in the middle of the traceback, which is written in pieces.
        bridge.wait_until(lambda: bridge.log.count("session.done") == 3, "the end of each session")
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
