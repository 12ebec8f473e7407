"""The running bridge is found by its configuration's path, however that is written and wherever its links lead now."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import os
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from bridge.control import rendezvous
from bridge.secret import Secret
from bridge.ui.cli import findable as module
from bridge.ui.cli.calling import own_program, with_config
from bridge.ui.cli.configured import Settings, own_config
from bridge.ui.cli.findable import findable
from bridge.ui.cli.reaching import known_by, not_running
from bridge.ui.cli.starting import CannotStart, CannotStartNow
from bridge.ui.cli.tray import only_icon
from tests.e2e.bridge import Bridge, configuration, running
from tests.servers.packages import needs_root

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows lets not everybody make links")

ALICE = "alice@example.com"


@pytest.fixture
def bridge(tmp_path: Path) -> Bridge:
    """A bridge with a configuration behind links, as in a Kubernetes ConfigMap: config.yaml -> current -> first."""
    providers = {"gmail": {"kind": "google", "client_id": "1234.apps", "client_secret": "CANARY-secret"}}
    accounts = [{"address": ALICE, "provider": "gmail"}]
    made = Bridge(tmp_path, configuration(tmp_path, providers, accounts))
    (tmp_path / "config.yaml").symlink_to(Path("current", "config.yaml"))
    for release in ("second", "first"):
        (tmp_path / release).mkdir()
        move(made, release)
        made.write_config()
    return made


def found(bridge: Bridge) -> str:
    """What `status` prints: the whole path that the bridge was started with, wherever the command is run."""
    return f"is running\nconfiguration: {bridge.directory / 'config.yaml'}\n"


def move(bridge: Bridge, release: str) -> None:
    """Switch the link `current` in one step, as deployments with releases do."""
    (bridge.directory / "next").symlink_to(release)
    (bridge.directory / "next").replace(bridge.directory / "current")


def asked(bridge: Bridge, config: str, *arguments: str) -> str:
    """Run a command with this `--config` in the bridge's directory. Returns: everything that it printed."""
    command = [*bridge.command()[:3], "--config", config, *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, env=bridge.environ, cwd=bridge.directory, timeout=60, check=False
    )
    return done.stdout + done.stderr


def test_it_is_found_by_the_path_that_it_was_given_wherever_that_leads_by_now(bridge: Bridge) -> None:
    (bridge.directory / "another.yaml").symlink_to(Path("first", "config.yaml"))
    with running(bridge):
        for written in ("config.yaml", "second/../config.yaml", "current/config.yaml", "another.yaml"):
            assert found(bridge) in asked(bridge, written, "status"), written
        move(bridge, "second")
        bridge.wait_for_log("configuration.read")
        for written in ("config.yaml", "second/../config.yaml", str(bridge.directory / "config.yaml")):
            assert found(bridge) in asked(bridge, written, "status"), written
        assert asked(bridge, "config.yaml", "check").count("holds it") == 4
        assert "is in use by another program" in asked(bridge, "config.yaml", "run")
        assert found(bridge) in asked(bridge, "config.yaml", "status"), "who comes second does not take its place"
    assert list(bridge.directory.rglob("control.json")) == []


def test_a_name_with_steps_upwards_is_no_other_files(bridge: Bridge) -> None:
    """`current/..` is the parent of the directory that the link leads to, not the directory that the link is in."""
    (bridge.directory / "first" / "inner").mkdir()
    move(bridge, "first/inner")
    (bridge.directory / "config.yaml").unlink()
    bridge.write_config()
    with running(bridge):
        assert found(bridge) in asked(bridge, "config.yaml", "status")
        assert "is running\n" not in asked(bridge, "current/../config.yaml", "status")


def test_who_does_not_find_it_is_not_told_to_stop_it(bridge: Bridge) -> None:
    """An administrator on the machine of a service, whose store is at a path that both know."""
    needs_root()  # only root sees which process holds the port, because the bridge lets no other program inspect it
    with running(bridge):
        bridge.environment["XDG_DATA_HOME"] = str(bridge.directory / "of another user")
        checked = bridge.run("check", code=2)
        assert checked.count(f"(process {bridge.pid})") == 4
        assert checked.count("which has the console's port as well") == 3
        asked_to_authorize = bridge.run("authorize", ALICE, "--no-browser", code=1)
        for said in (checked, asked_to_authorize):
            assert said.count("If that is the mail-bridge of another user, such as a service's, let it run") == 1
            how = "docs/guides/en/terminal-server.md shows: on Linux with sudo"
            assert said.count(how) == 1
            assert said.lower().count("stop it") == said.lower().count("otherwise stop it") == 1


def test_one_icon_is_enough_and_what_is_started_at_login_names_the_link(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("XDG_RUNTIME_DIR", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(bridge.directory / "data"))
    monkeypatch.chdir(bridge.directory / "first")
    link = bridge.directory / "config.yaml"
    assert own_config(Settings(Path("../config.yaml"), None)) == ["--config", str(link)]
    with only_icon(known_by(link)) as is_only:
        assert is_only
        with only_icon(known_by(Path("config.yaml"))) as is_only:
            assert not is_only, "the same file"
        move(bridge, "second")
        with only_icon(known_by(Path("../config.yaml"))) as is_only:
            assert not is_only, "the same name"
        with only_icon(known_by(bridge.directory / "another.yaml")) as is_only:
            assert is_only


URL, TOKEN = "http://127.0.0.1:3017", Secret("CANARY-token")


class Disk:
    """Fails with these errors, one for each attempt to write, and then has room."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, troubles: Iterable[int]) -> None:
        self.attempts = 0
        self._troubles: Iterator[int] = iter(troubles)
        self._sync = os.fsync
        monkeypatch.setattr(os, "fsync", self.sync)

    def sync(self, handle: int) -> None:
        self.attempts += 1
        if trouble := next(self._troubles, 0):
            raise OSError(trouble, os.strerror(trouble))
        self._sync(handle)

    async def until_tried(self, times: int) -> None:
        async with asyncio.timeout(30):
            while self.attempts < times:
                await asyncio.sleep(0)

    async def several_turns(self) -> None:
        """Wait for several turns of the loop, in each of which another attempt would be made."""
        for _ in range(20):
            await asyncio.sleep(0)


async def test_on_a_full_disk_word_is_left_as_soon_as_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: io.StringIO
) -> None:
    monkeypatch.setattr(module, "TRY_SECONDS", 0)
    disk, places = Disk(monkeypatch, [0, *4 * [errno.ENOSPC]]), (tmp_path / "given", tmp_path / "file")
    async with findable(places, URL, TOKEN):
        assert [rendezvous.find(place) for place in places] == [(URL, TOKEN), None], "served meanwhile"
        await disk.until_tried(6)
        assert [rendezvous.find(place) for place in places] == 2 * [(URL, TOKEN)]
        await disk.several_turns()
        assert disk.attempts == 6, "and left alone from then on"
    assert [rendezvous.find(place) for place in places] == [None, None]
    assert log.getvalue().count("control.not_published") == 1


async def test_a_bridge_that_ends_while_its_disk_is_full_does_not_wait_for_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: io.StringIO
) -> None:
    monkeypatch.setattr(module, "TRY_SECONDS", 3600)
    disk = Disk(monkeypatch, [errno.ENOSPC])
    async with asyncio.timeout(30), findable([tmp_path], URL, TOKEN):
        pass
    assert disk.attempts == 1


async def test_word_that_somebody_must_make_room_for_is_told_of_once_and_not_tried_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: io.StringIO
) -> None:
    monkeypatch.setattr(module, "TRY_SECONDS", 0)
    disk = Disk(monkeypatch, [errno.ENOSPC, errno.EROFS])
    async with findable([tmp_path], URL, TOKEN):
        await disk.until_tried(2)
        await disk.several_turns()
        assert disk.attempts == 2
    assert "Read-only file system" in log.getvalue()


async def test_the_word_of_a_bridge_that_has_taken_over_stays_though_both_have_one_number(tmp_path: Path) -> None:
    """In containers that share a volume, each bridge is process 1, and the new one is up before the old one stops."""
    newer = Secret("CANARY-newer")
    async with contextlib.AsyncExitStack() as new:
        async with findable([tmp_path], URL, TOKEN):
            await new.enter_async_context(findable([tmp_path], URL, newer))
        assert rendezvous.find(tmp_path) == (URL, newer)
    assert rendezvous.find(tmp_path) is None


async def test_word_that_cannot_be_left_ends_the_start_and_takes_back_the_others(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CannotStart, match="do not find the running mail-bridge") as caught:
        async with findable([tmp_path / "given", tmp_path / "file"], URL, TOKEN):
            pass
    assert not isinstance(caught.value, CannotStartNow), "no service manager need try again"
    assert rendezvous.find(tmp_path / "given") is None


@pytest.mark.parametrize(
    ("command", "last"),
    [("status", "(start it with: {program} run)\n1"), ("accounts list", "To sign in: {program} authorize ADDRESS\n0")],
)
def test_where_no_bridge_runs_nothing_is_loaded_to_ask_it_nor_without_tls_to_read_certificates(
    bridge: Bridge, command: str, last: str
) -> None:
    program = (
        "import sys\n"
        "from bridge.ui.cli.main import run_command_line\n"
        f"code = run_command_line(['--config', 'config.yaml', *{command.split()}])\n"
        "print(code, {'aiohttp', 'cryptography.x509'} & {*sys.modules})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=bridge.environ,
        cwd=bridge.directory,
        timeout=60,
        check=False,
    )
    told = last.format(program=with_config(own_program(), Path("config.yaml")))
    assert done.stdout.endswith(f"{told} set()\n"), done.stdout + done.stderr


def test_a_service_that_listens_and_does_not_answer_is_not_called_stopped(tmp_path: Path) -> None:
    """It cannot load its console just now, for want of a descriptor or since an update: `systemctl start` does nothing
    for a service that runs."""
    config = tmp_path / "config.yaml"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        config.write_text(f"console: 127.0.0.1:{port}\n")
        service = Settings(config, None, caller="0")
        said = not_running(service)
        assert said.startswith(f"the service does not answer, but a program listens at localhost:{port}: the log says")
        assert said.endswith("sudo systemctl restart mail-bridge")
    assert not_running(service) == "the service is not running (start it with: sudo systemctl start mail-bridge)"


def test_a_bridge_of_ones_own_that_does_not_answer_is_not_called_another_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-Z in its terminal has stopped it, say: the kernel still accepts connections to its ports."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    config = tmp_path / "config.yaml"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        config.write_text(f"console: 127.0.0.1:{port}\n")
        own = Settings(config, None)
        assert not_running(own).startswith("no mail-bridge of this user is running, but a program listens at")
        rendezvous.publish(known_by(config)[0].parent, f"http://127.0.0.1:{port}", TOKEN, os.getpid())
        begin = "the mail-bridge that this user has started does not answer, but a program listens at localhost:"
        assert not_running(own).startswith(f"{begin}{port}. If it was stopped with Ctrl-Z, `fg`")
    assert not_running(own).startswith("mail-bridge is not running (start it with: ")
