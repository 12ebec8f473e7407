"""What the program tells a service manager, through a real socket like systemd's."""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.host.service import MARGIN, ServiceManager
from tests.clocks import ManualClock
from tests.servers.systemd import Systemd, listening

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="systemd's protocol")


@pytest.fixture(params=["a path", "an abstract name"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    with listening(
        str(tmp_path / "notify") if request.param == "a path" else f"@mail-bridge-{secrets.token_hex(8)}"
    ) as found:
        yield found


def test_it_hears_what_its_protocol_has_words_for(systemd: Systemd) -> None:
    manager = ServiceManager({"NOTIFY_SOCKET": systemd.name})
    manager.ready()
    assert systemd.hears() == ["READY=1"]
    manager.waits(900.0)
    assert systemd.hears() == [f"EXTEND_TIMEOUT_USEC={int(900 + MARGIN)}000000"]
    manager.reloading()
    reloading, when = systemd.hears()[0].split("\n")
    assert reloading == "RELOADING=1"
    assert when.startswith("MONOTONIC_USEC="), "systemd.service(5), Type=notify-reload"
    assert abs(int(when.removeprefix("MONOTONIC_USEC=")) / 1e6 - time.monotonic()) < 60
    manager.stopping()
    assert systemd.hears() == ["STOPPING=1"]


def test_programs_that_we_start_have_nothing_to_tell(systemd: Systemd) -> None:
    environment = {"NOTIFY_SOCKET": systemd.name, "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "PATH": "/bin"}
    ServiceManager(environment)
    assert environment == {"PATH": "/bin"}


@pytest.mark.parametrize("process", ["", str(os.getpid())], ids=["for any", "for us"])
async def test_the_watchdog_hears_from_us_twice_in_its_time(systemd: Systemd, process: str) -> None:
    clock = ManualClock()
    manager = ServiceManager(
        {"NOTIFY_SOCKET": systemd.name, "WATCHDOG_USEC": "60000000", **({"WATCHDOG_PID": process} if process else {})}
    )
    async with asyncio.TaskGroup() as group:
        watched = group.create_task(manager.watched(clock))
        for _ in range(3):
            await clock.until_asleep()
            assert systemd.hears() == ["WATCHDOG=1"]
            clock.advance(29.9)
            await asyncio.sleep(0)
            assert not systemd.has_come()
            clock.advance(0.1)
            while clock.sleepers == 0:
                await asyncio.sleep(0)
        watched.cancel()


@pytest.mark.parametrize(
    "environment",
    [
        {"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "0"},
        {},
    ],
    ids=["another process's", "nonsense", "none", "not there"],
)
async def test_without_a_watchdog_for_us_there_is_none(systemd: Systemd, environment: dict[str, str]) -> None:
    manager = ServiceManager({"NOTIFY_SOCKET": systemd.name, **environment})
    await manager.watched(ManualClock())
    assert not systemd.has_come()


@pytest.mark.parametrize("name", ["", "/nowhere/notify", "vsock:2:1234", "/" + "x" * 200, "@" + "x" * 200])
async def test_where_nobody_listens_nothing_happens(name: str) -> None:
    manager = ServiceManager({"NOTIFY_SOCKET": name})
    manager.ready()
    manager.stopping()
    await ServiceManager({"WATCHDOG_USEC": "1"}).watched(ManualClock())


def test_one_that_hears_nothing_any_more_holds_up_nobody(systemd: Systemd) -> None:
    manager = ServiceManager({"NOTIFY_SOCKET": systemd.name})
    for _ in range(2000):  # the kernel queues only some dozens of messages
        manager.ready()


def test_it_hears_from_us_when_no_descriptor_is_left(systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions may use up all descriptors; if the watchdog heard nothing then, it would end them all."""

    def none_left(*_: object) -> socket.socket:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    manager = ServiceManager({"NOTIFY_SOCKET": systemd.name})
    manager.ready()
    assert systemd.hears() == ["READY=1"]
    monkeypatch.setattr("bridge.host.service.socket.socket", none_left)
    manager.reloading()
    assert systemd.hears()[0].startswith("RELOADING=1")
