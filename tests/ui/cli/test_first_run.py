"""How the first set-up starts the bridge. Its pages are tested in tests/e2e/test_first_run.py."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from pathlib import Path

import keyring
import pytest
from keyring.core import load_keyring

from bridge.clock import SystemClock
from bridge.config.load import LoadedConfig
from bridge.control.unconfigured import Unconfigured
from bridge.errors import BridgeError, ConfigError, StoreUnavailable
from bridge.relay.limits import console_cap
from bridge.secret import Secret
from bridge.stores.named_secrets import read_named_secret
from bridge.ui.cli import first_run
from bridge.ui.cli.configured import Settings
from bridge.ui.cli.first_run import Start
from bridge.ui.cli.local_installer import FirstRunOptions, LocalInstaller
from bridge.ui.cli.reaching import Served
from bridge.ui.web.console_sockets import ConsoleSockets
from bridge.ui.web.first_run import FirstRun
from bridge.ui.web.guards import Administrators
from tests.consoles import nobody_knows

TOKEN = Secret("CANARY-token")


def started(installer: LocalInstaller) -> Start:
    served, administrators = Served(installer._port, TOKEN), Administrators(TOKEN, SystemClock())
    page = FirstRun(
        installer,
        Unconfigured(""),
        admin_token=TOKEN,
        places=console_cap(),
        hosts=served.hosts,
        user_of=nobody_knows,
        administrators=administrators,
    )
    return Start(Settings(None, None), installer, [], ConsoleSockets([]), page, served, administrators)


async def told(installer: LocalInstaller) -> str:
    try:
        await installer.start()
    except BridgeError as problem:
        return str(problem)
    return "started"


@pytest.mark.skipif(os.name != "posix", reason="Windows has no pipe in a directory")
async def test_who_waits_for_the_start_is_told_when_the_program_stops(tmp_path: Path) -> None:
    """Otherwise the answer would be cut off, and the program would wait for it. The configuration is a pipe here, so
    that the start waits for us."""
    config = tmp_path / "config.yaml"
    os.mkfifo(config)
    installer = LocalInstaller(FirstRunOptions(config), 3017, False, SystemClock())
    stop = asyncio.Event()
    async with asyncio.timeout(20), AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        orders = [group.create_task(told(installer)) for _ in range(2)]  # one is being tried, the other waits
        waiting = group.create_task(started(installer).wait(stack, stop))
        with await asyncio.to_thread(config.open, "w"):
            stop.set()
            assert await waiting is None
            assert [await order for order in orders] == ["mail-bridge is stopping"] * 2
            config.unlink()  # the start opens it more than once, and would wait for another writer
        assert await told(installer) == "mail-bridge is stopping"


async def test_no_file_is_followed_before_it_could_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until then SIGHUP ends the program, because there is no file to read again; also while a start is tried, as with
    `run`."""
    config = tmp_path / "config.yaml"
    config.touch()
    installer = LocalInstaller(FirstRunOptions(config), 3017, False, SystemClock())
    stop, start = asyncio.Event(), started(installer)
    followed: list[object] = []

    def load(settings: Settings) -> LoadedConfig:
        followed.append(start.followed)
        raise ConfigError(["nonsense"])

    monkeypatch.setattr(first_run, "_load", load)
    async with asyncio.timeout(20), AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        waiting = group.create_task(start.wait(stack, stop))
        assert "nonsense" in await told(installer)
        followed.append(start.followed)
        stop.set()
        assert await waiting is None
    assert followed == [None, None]


@pytest.mark.parametrize("is_for_service", [False, True])
def test_the_secrets_of_the_machines_configuration_go_into_no_persons_keyring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_for_service: bool
) -> None:
    before = keyring.get_keyring()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("bridge.host.paths.machine_config_dir", lambda: tmp_path)
    keyring.set_keyring(load_keyring("tests.servers.good_keyring.GoodKeyring"))
    output = tmp_path / ("config.yaml" if is_for_service else "mine.yaml")
    try:
        assert first_run._has_keyring(output) is not is_for_service
    finally:
        keyring.set_keyring(before)


async def test_a_place_that_cannot_be_looked_at_is_the_disks_trouble_and_not_ours(tmp_path: Path) -> None:
    """Such as a home on a network drive that does not answer; here the name is one that the system does not allow."""
    installer = LocalInstaller(FirstRunOptions(tmp_path / "config.yaml"), 3017, False, SystemClock())
    with pytest.raises(BridgeError, match="cannot be written: "):
        await installer.place("file", "<x>" if os.name == "nt" else "x" * 5000)
    assert await installer.place("file", "gmail") == "${file:secrets/gmail.txt}"


def test_an_entry_that_the_keyring_has_kept_without_a_word_is_ours_when_somebody_tries_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This happens if the keyring is unlocked after we have given up waiting. If the entry counted as somebody else's,
    the set-up could never go on from that page."""
    before = keyring.get_keyring()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    good = load_keyring("tests.servers.good_keyring.GoodKeyring")
    really_set = good.set_password

    def set_and_die(service: str, username: str, password: str) -> None:
        monkeypatch.setattr(good, "set_password", really_set)
        really_set(service, username, password)
        raise ConnectionResetError

    monkeypatch.setattr(good, "set_password", set_and_die)
    keyring.set_keyring(good)
    output, entries = tmp_path / "mine.yaml", {"gmail": Secret("CANARY")}
    installer = LocalInstaller(FirstRunOptions(output), 3017, True, SystemClock())
    try:
        with pytest.raises(StoreUnavailable):
            installer._write("text", {}, entries)
        assert not output.exists()
        installer._write("text", {}, entries)
        assert read_named_secret("gmail") == "CANARY"
    finally:
        keyring.set_keyring(before)
    assert output.read_text() == "text"


async def test_nor_is_one_of_the_configuration_itself(tmp_path: Path) -> None:
    """If it cannot be written, it may also be impossible to see whether somebody else has written it first."""
    installer = LocalInstaller(FirstRunOptions(tmp_path / ("x" * 5000)), 3017, False, SystemClock())
    with pytest.raises(BridgeError, match="cannot be written: "):
        installer._write("", {}, {})
