"""One service for a whole machine: only the user whose program has asked sees the prompt to sign in."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import pytest

from bridge.control.own import OwnView
from bridge.errors import ConfigError
from bridge.ui.cli.configured import Settings
from bridge.ui.cli.tray import _other_bridge
from bridge.ui.tray.tray import Administered
from tests.e2e.bridge import Bridge, configuration, running
from tests.e2e.logins import log_in
from tests.servers.authorization import AuthorizationServer
from tests.servers.daemons import free_ports, short_directory
from tests.servers.desktop import SECONDS, Session, ended, panel, session
from tests.servers.os_user import OsUser, os_user

pytestmark = [pytest.mark.servers, pytest.mark.desktop]

ALICE, BOB = "alice@example.com", "bob_b@example.com"
NOTHING = "mail-bridge: none of your programs is waiting for a sign-in"


@pytest.fixture
def service(authorization_server: AuthorizationServer, tmp_path: Path) -> Iterator[Bridge]:
    """A bridge that runs as root, with files that only root can read; its accounts are for whoever has a password."""
    provider = authorization_server.google_config() | {
        # Nothing listens there, because these tests are about who is asked to sign in, not about mail.
        protocol: {"host": "localhost", "port": 9, "tls": "implicit"}
        for protocol in ("imap", "pop3", "smtp")
    }
    accounts = [{"address": address, "provider": "gmail"} for address in (ALICE, BOB)]
    bridge = Bridge(tmp_path, configuration(tmp_path, {"gmail": provider}, accounts))
    authorization_server.allow_redirect(f"http://localhost:{bridge.console_port}/")
    authorization_server.people |= {ALICE, BOB}
    with running(bridge):
        yield bridge


@contextmanager
def desktop_of(user: OsUser) -> Iterator[Session]:
    with short_directory("mb-desk-") as directory:
        os.chown(directory, user.uid, user.gid)
        with session(directory, user.launcher()) as found:
            yield found


@contextmanager
def tray_of(desktop: Session, *options: str) -> Iterator[subprocess.Popen[str]]:
    process = desktop.start(*options)
    try:
        yield process
    except BaseException:
        process.send_signal(signal.SIGABRT)
        print(process.communicate(timeout=SECONDS)[1])
        raise
    finally:
        process.kill()
        process.communicate()


async def test_the_prompt_appears_with_the_user_whose_program_asked(
    service: Bridge, authorization_server: AuthorizationServer
) -> None:
    console = f"http://localhost:{service.console_port}"
    with (
        os_user(f"mb-alice-{os.getpid()}") as alice,
        os_user(f"mb-bob-{os.getpid()}") as bob,
        desktop_of(alice) as hers,
        desktop_of(bob) as his,
    ):
        async with panel(hers) as on_hers, panel(his) as on_his:
            with tray_of(hers, "tray", "--console", console) as tray, tray_of(his, "tray", "--console", f"{console}/"):
                await on_hers.until_icon()
                await on_hers.until_line(NOTHING)
                await on_hers.until_labels([NOTHING, "Start at login", "Quit"])
                await on_his.until_icon()
                await on_his.until_line(NOTHING)

                password = await asyncio.to_thread(service.password, ALICE)
                wrong = await asyncio.to_thread(log_in, bob, service, "imap", ALICE, "CANARY-wrong")
                assert wrong.startswith("a1 NO [AUTHENTICATIONFAILED]")
                refused = await asyncio.to_thread(log_in, alice, service, "imap", ALICE, password)
                assert refused.startswith("a1 NO [UNAVAILABLE]")
                notice = await on_hers.until_notice(f"Mail: {ALICE} must sign in")
                assert f"{console}/sign-in/{ALICE}" in notice.text
                line = "mail-bridge: 1 account needs a sign-in"
                await on_hers.until_line(line)
                await on_hers.until_labels([line, f"Sign in as {ALICE}", "Start at login", "Quit"])
                await on_hers.click(f"Sign in as {ALICE}")
                await on_hers.until_visit(f"{console}/sign-in/{ALICE}")

                # Then Bob's own program asks: until now his tray had every chance to show Alice's prompt.
                password = await asyncio.to_thread(service.password, BOB)
                await asyncio.to_thread(log_in, bob, service, "pop3", BOB, password)
                await on_his.until_entry(f"Sign in as {BOB}")
                await on_his.until_notice(f"Mail: {BOB} must sign in")
                await on_his.until_labels([line, f"Sign in as {BOB}", "Start at login", "Quit"])
                assert len(on_his.notices) == len(on_hers.notices) == 1
                assert (await on_hers.menu()).labels() == [line, f"Sign in as {ALICE}", "Start at login", "Quit"]

                await asyncio.to_thread(service.sign_in, authorization_server, ALICE)
                await on_hers.until_line(NOTHING)
                await on_hers.until_labels([NOTHING, "Start at login", "Quit"])
                await on_hers.click("Quit")
                assert await ended(tray) == (0, "")
    assert f"Sign in as {ALICE}" not in str(on_his.notices)


async def test_a_restart_of_the_service_is_survived_and_the_next_login_asks_again(service: Bridge) -> None:
    console = f"http://localhost:{service.console_port}"
    with os_user(f"mb-carol-{os.getpid()}") as carol, desktop_of(carol) as hers:
        async with panel(hers) as shown:
            password = await asyncio.to_thread(service.password, ALICE)
            await asyncio.to_thread(log_in, carol, service, "imap", ALICE, password)
            with tray_of(hers, "tray", "--console", console):
                await shown.until_icon()
                await shown.until_entry(f"Sign in as {ALICE}")
                await asyncio.to_thread(service.stop)
                await shown.until_line("mail-bridge is not running, or cannot be reached")
                await asyncio.to_thread(service.start)
                await asyncio.to_thread(log_in, carol, service, "imap", ALICE, password)
                await shown.until_entry(f"Sign in as {ALICE}")


async def test_who_has_no_right_to_the_service_gets_their_own_view_until_they_have(
    service: Bridge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tray finds the machine's configuration; what it shows depends on whether it finds the bridge's token."""
    monkeypatch.setattr("bridge.host.paths.config_candidates", lambda: [service.directory / "config.yaml"])
    monkeypatch.setattr("bridge.host.paths.machine_config_dir", lambda: service.directory)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "of another user"))
    reach, arguments, _ = await asyncio.to_thread(_other_bridge, Settings(None, None), None, None)
    assert arguments == [], "it finds the same at the next login"
    async with reach() as found:
        assert isinstance(found, OwnView)
        assert (await found.status()).accounts == ()
        monkeypatch.setenv("XDG_DATA_HOME", service.environ["XDG_DATA_HOME"])
    reach, _, _ = await asyncio.to_thread(_other_bridge, Settings(None, None), None, None)
    async with reach() as found:
        assert isinstance(found, Administered)
        assert [account.address for account in (await found.status()).accounts] == [ALICE, BOB]


def test_a_configuration_in_a_closed_directory_is_none_of_ours() -> None:
    with os_user(f"mb-dave-{os.getpid()}") as dave, short_directory("mb-closed-") as directory:
        (directory / "config.yaml").touch(0o600)
        directory.chmod(0o700)
        command = [sys.executable, "-m", "bridge", "-c", str(directory / "config.yaml"), "status"]
        surroundings = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "PYTHONPATH": str(Path(__file__).parents[2])}
        done = subprocess.run(
            [*dave.launcher(), *command], env=surroundings, cwd="/", capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        assert "this file cannot be read: Permission denied" in done.stderr
        assert "Traceback" not in done.stderr


def test_where_nobody_may_look_is_not_told_as_nothing() -> None:
    """As with /etc/mail-bridge if only the service's user may enter it: the way out is sudo, not a configuration of
    one's own."""
    with os_user(f"mb-erin-{os.getpid()}") as erin, short_directory("mb-closed-") as directory:
        (directory / "config.yaml").touch(0o600)
        directory.chmod(0o700)
        command = [sys.executable, "-m", "bridge", "status"]
        surroundings = {
            "PATH": "/usr/bin:/bin",
            "HOME": "/nonexistent",
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "CONFIGURATION_DIRECTORY": str(directory),  # as systemd sets it for a service
        }
        done = subprocess.run(
            [*erin.launcher(), *command], env=surroundings, cwd="/", capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        assert f"this user may not look into {directory}, so" in done.stderr
        assert "look into /," not in done.stderr, "where anybody may look, and nothing is"
        assert "mail-bridge init" in done.stderr


def test_without_a_configuration_a_service_is_found_where_it_usually_is(
    service: Bridge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("XDG_CONFIG_HOME", "XDG_CONFIG_DIRS"):
        monkeypatch.setenv(name, str(tmp_path / "empty"))
    monkeypatch.setattr("bridge.host.paths.machine_config_dir", lambda: tmp_path / "empty")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    monkeypatch.setattr("bridge.ui.cli.tray.USUAL_CONSOLE", service.console_port)
    _, arguments, _ = _other_bridge(Settings(None, None), None, None)
    assert arguments == ["--console", f"http://127.0.0.1:{service.console_port}"], (
        "for the next login, when it may be late"
    )
    monkeypatch.setattr("bridge.ui.cli.tray.USUAL_CONSOLE", free_ports(1)[0])
    with pytest.raises(ConfigError, match="there is no configuration yet"):
        _other_bridge(Settings(None, None), None, None)


@pytest.mark.parametrize(
    "url", ["https://localhost:3017", "http://mail.example:3017", "http://localhost:3017/sign-in", "3017"]
)
def test_another_machine_or_page_is_no_console(url: str) -> None:
    with pytest.raises(click.BadParameter, match="a page of this computer, such as http://localhost:3017"):
        _other_bridge(Settings(None, None), None, url)


@pytest.mark.parametrize("url", ["http://localhost:4017", "http://localhost:4017/", "http://127.0.0.1:4017"])
def test_a_console_is_the_same_however_it_is_written(url: str) -> None:
    _, arguments, file = _other_bridge(Settings(None, None), None, url)
    assert arguments == ["--console", "http://127.0.0.1:4017"]
    assert file == _other_bridge(Settings(None, None), None, "http://localhost:4017")[2], "one icon is enough"


@pytest.mark.parametrize("url", ["http://localhost", "http://localhost/", "http://localhost:80", "http://127.0.0.1/"])
def test_a_console_at_port_80_is_named_as_browsers_show_it(url: str) -> None:
    _, arguments, files = _other_bridge(Settings(None, None), None, url)
    assert (arguments, files) == (["--console", "http://127.0.0.1:80"], (Path("/console/80"),))
