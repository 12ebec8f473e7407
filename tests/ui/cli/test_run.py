"""`run`: changes of the configuration during its start. In this process, with real files and ports and the demo's
servers."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bridge.config.load import LoadedConfig, parse_config
from bridge.control import rendezvous
from bridge.control.contract import Outcome
from bridge.control.remote import RemoteControl
from bridge.demo.world import demo_world
from bridge.errors import ConfigError
from bridge.host import collector
from bridge.host.service import service_manager
from bridge.host.signals import Order
from bridge.host.sockets import bind
from bridge.observe import supervisor
from bridge.secret import Secret
from bridge.stores.memory import MemoryStore
from bridge.stores.sealed import KEY_BYTES, SealedStore
from bridge.ui.cli import configured, demo, following, run
from bridge.ui.cli.configured import Settings
from bridge.ui.cli.reaching import Served, opened
from bridge.ui.cli.session import DONE
from tests.servers.daemons import free_ports

CAROL = "carol@example.com"
LOOK_SECONDS = 0.02


@dataclass
class Editor:
    """Changes the file just when the bridge begins to accept orders: after it was loaded, and before it is followed."""

    file: Path
    way: str = "at once"
    outlives_terminal: bool = False

    @contextmanager
    def orders(self, stop: Order, reload: Order) -> Iterator[None]:
        self.text = self.changed(self.file.read_text())
        match self.way:
            case "deletes first":  # as some editors do: for a moment there is no file
                self.file.unlink()
            case "slowly":  # as over a network: what is there so far is a valid configuration, with other ports
                self.file.write_text(self.text[: self.text.index("listeners:")])
            case _:
                self.file.write_text(self.text)
        yield

    def changed(self, text: str) -> str:
        return text.replace("accounts:\n", f"accounts:\n  - {{address: {CAROL}, provider: demo}}\n")

    async def run(self, served: Callable[[], Served]) -> None:
        """Wait until the change is in force."""
        if self.way == "deletes first":
            for _ in range(100):
                await asyncio.sleep(0)
            self.file.write_text(self.text)
        if self.way == "slowly":
            await self._write_the_rest()
        async with RemoteControl.opened(served().control_url, served().token) as control, asyncio.timeout(20):
            while CAROL not in {account.address for account in (await control.status()).accounts}:
                await asyncio.sleep(0.02)

    async def _write_the_rest(self) -> None:
        """Write slowly, so that every look finds the file changed."""
        with self.file.open("a") as file:
            for character in self.text[self.text.index("listeners:") :]:
                await asyncio.sleep(LOOK_SECONDS / 4)
                file.write(character)
                file.flush()


async def serve_until_changed(
    directory: Path, monkeypatch: pytest.MonkeyPatch, editor: Callable[[Path], Editor] = Editor
) -> None:
    """Run the whole command in this process until its editor has seen the change in force."""
    for seconds in ("LOOK_SECONDS", "REST_SECONDS"):
        monkeypatch.setattr(following, seconds, LOOK_SECONDS)
    for module in (run, collector):  # this process has other tests to run, with the usual garbage collection
        monkeypatch.setattr(module, "spare_the_collector", lambda: None)
    for name in ("STATE_DIRECTORY", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(directory))
    console, imap, pop3, smtp = free_ports(4)
    async with demo_world(console, (imap, pop3, smtp)) as world:
        file = directory / "config.yaml"
        file.write_text(f"{world.yaml}store: {{key_file: '{directory / 'key'}'}}\n")
        assert await run._serve(Settings(file, None), editor(file)) == DONE


@pytest.mark.skipif(sys.platform == "win32", reason="there the environment does not say where the store is")
@pytest.mark.parametrize("way", ["at once", "deletes first", "slowly"])
async def test_a_change_of_the_configuration_while_the_bridge_starts_is_applied_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: io.StringIO, way: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await serve_until_changed(tmp_path, monkeypatch, partial(Editor, way=way))
    (applied,) = re.findall("configuration.applied.*", capsys.readouterr().err)
    assert f"account {CAROL} added" in applied
    assert "closed" not in applied


@pytest.mark.skipif(sys.platform == "win32", reason="there the environment does not say where the store is")
async def test_orders_are_heard_before_anybody_finds_the_bridge_and_until_nobody_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop right after `status` would otherwise kill the bridge, and its file would stay."""
    happened: list[str] = []
    publish, withdraw = rendezvous.publish, rendezvous.withdraw

    def published(*arguments: Any) -> None:
        happened.append("found")
        publish(*arguments)

    def withdrawn(*arguments: Any) -> None:
        withdraw(*arguments)
        happened.append("withdrawn")

    class Listening(Editor):
        @contextmanager
        def orders(self, stop: Order, reload: Order) -> Iterator[None]:
            happened.append("listens")
            yield
            happened.append("is deaf")

        async def run(self, served: Callable[[], Served]) -> None:
            """End at once, and the bridge with it."""

    monkeypatch.setattr(rendezvous, "publish", published)
    monkeypatch.setattr(rendezvous, "withdraw", withdrawn)
    await serve_until_changed(tmp_path, monkeypatch, Listening)
    assert list(dict.fromkeys(happened)) == ["listens", "found", "withdrawn", "is deaf"]


class Binder(Editor):
    """Restricts the new account to one user's programs."""

    def changed(self, text: str) -> str:
        return super().changed(text).replace(f"{CAROL}, ", f"{CAROL}, os_user: root, ")


@dataclass
class BoundFromTheStart(Editor):
    """Restricts all accounts to one user's programs before the bridge is started."""

    def __post_init__(self) -> None:
        text = self.file.read_text()
        self.file.write_text(text.replace("- {address: ", "- {os_user: root, address: "))


@pytest.mark.skipif(sys.platform == "win32", reason="there the environment does not say where the store is")
@pytest.mark.parametrize(
    ("editor", "expected"),
    [(Editor, []), (Binder, ["by the change"]), (BoundFromTheStart, ["at the start", "by the change"])],
)
async def test_the_directory_of_users_is_loaded_where_some_account_needs_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    log: io.StringIO,
    editor: type[Editor],
    expected: list[str],
) -> None:
    """A bridge that does not need it saves half a MiB of memory."""
    loads: list[str] = []
    monkeypatch.setattr(run, "load_directory", lambda: loads.append("at the start"))
    monkeypatch.setattr(following, "load_directory", lambda: loads.append("by the change"))
    await serve_until_changed(tmp_path, monkeypatch, editor)
    assert loads == expected


@pytest.mark.skipif(sys.platform == "win32", reason="there the environment does not say where the store is")
async def test_a_file_that_is_still_held_by_who_has_saved_it_is_read_a_moment_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    """This happens on Windows; and when the editor lets go of the file, its timestamp does not change."""
    monkeypatch.setattr(following, "RETRY_FIRST", 0.02)
    really_open, refusals = Path.open, iter(range(2))

    def held(path: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        is_saved = path == tmp_path / "config.yaml" and mode == "rb" and CAROL in path.read_text()
        if is_saved and next(refusals, None) is not None:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return really_open(path, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", held)
    await serve_until_changed(tmp_path, monkeypatch)
    assert capsys.readouterr().err.count("this file cannot be read: Permission denied") == 2


@pytest.mark.skipif(sys.platform == "win32", reason="there the environment does not say where the store is")
async def test_a_reload_that_fails_in_a_way_that_nobody_thought_of_ends_no_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(supervisor, "PAUSE", 0.02)
    troubles = iter(["can't start new thread"])

    def load(settings: Settings) -> LoadedConfig:
        if CAROL in (tmp_path / "config.yaml").read_text() and (trouble := next(troubles, "")):
            raise RuntimeError(trouble)
        return configured.load(settings)

    monkeypatch.setattr(following, "load", load)
    await serve_until_changed(tmp_path, monkeypatch)
    said = capsys.readouterr().err
    assert said.count("helper.bug") == 1
    assert said.count("bridge.up") == 1


async def test_a_service_manager_is_told_that_a_locked_keyring_takes_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise it would end the start after ninety seconds, and each new start might show another prompt."""
    locked = ConfigError(["secrets.client_secret: the keyring is locked"], may_pass=True)
    answers: list[ConfigError | str] = [locked, locked, "loaded"]
    asked: list[float] = []

    def load(settings: Settings) -> str:
        answer = answers.pop(0)
        if isinstance(answer, ConfigError):
            raise answer
        return answer

    monkeypatch.setattr(following, "load", load)
    monkeypatch.setattr(following, "RETRY_FIRST", 0.01)
    monkeypatch.setattr(service_manager, "waits", asked.append)
    loaded: object = await following.loaded_once_open(Settings(None, None))
    assert loaded == "loaded"
    assert asked == [0.01, 0.02]


def test_a_port_of_the_demo_is_its_own_from_the_moment_in_which_it_is_chosen() -> None:
    """The demo's servers take a second to start, and other programs look for free ports meanwhile."""
    with contextlib.closing(demo.DemoPorts()) as taken, socket.socket() as other:
        port = taken.choose(0)
        with pytest.raises(OSError) as refused:  # noqa: PT011  its errno is checked below
            other.bind(("127.0.0.1", port))
        assert refused.value.errno in {errno.EADDRINUSE, errno.EACCES}
        another = taken.choose(port)
        listening = taken.bind("127.0.0.1", another, "imap listener")
        with contextlib.ExitStack() as stack:
            bound = [stack.enter_context(sock).getsockname() for sock in listening]
            assert bound[0] == ("127.0.0.1", another) != ("127.0.0.1", port)
    socket.create_server(("127.0.0.1", port)).close()  # the unused port is free again


def test_the_demo_is_wherever_a_bridge_is_at_localhost_where_it_sends_people() -> None:
    """Some programs try only ::1; and if another program had the port there, the browser would come back to that."""

    def addresses(sockets: list[socket.socket]) -> list[str]:
        with contextlib.ExitStack() as stack:
            return [stack.enter_context(sock).getsockname()[0] for sock in sockets]

    with contextlib.closing(demo.DemoPorts()) as taken:
        port = taken.choose(0)
        assert addresses(taken.bind("localhost", port, "console")) == addresses(bind("localhost", 0, what="console"))


async def test_the_demos_check_takes_its_ports_for_its_own_and_needs_no_keyring() -> None:
    with contextlib.closing(demo.DemoPorts()) as taken:
        console, imap, pop3, smtp = (taken.choose(0) for _ in range(4))
        async with demo_world(console, (imap, pop3, smtp)) as world:
            loaded = parse_config(world.yaml, name="(demo)", directory=Path.cwd())
            store = SealedStore(MemoryStore(), Secret(bytes(KEY_BYTES)))
            async with opened(loaded, store, is_demo=True, bind=taken.bind) as app:
                app.bind()
                async with asyncio.TaskGroup() as group:
                    serving = group.create_task(app.serve())
                    found = await app.control.diagnose()
                    app.stop()
                    await serving
                for sock in app.console_sockets:
                    sock.close()
    assert [one.outcome for one in found if one.check == "port"] == [Outcome.OK] * 4
    assert [one.outcome for one in found if one.check == "keyring"] == [Outcome.SKIPPED]


@pytest.mark.skipif(sys.platform == "win32", reason="wine's cmd pipes no group of commands")
def test_the_demos_message_comes_whole_out_of_this_systems_shell(tmp_path: Path) -> None:
    script, arrived = tmp_path / "send.py", tmp_path / "arrived"
    script.write_text("import sys; open(sys.argv[1], 'wb').write(sys.stdin.buffer.read())")
    line = demo.hello_bob(f"{sys.executable} {script}", str(arrived), is_windows=sys.platform == "win32")
    subprocess.run(line, shell=True, check=True, timeout=60)
    assert arrived.read_bytes() == b"Subject: Hello\r\n\r\nHello Bob\r\n"


def test_the_demos_message_needs_nothing_that_windows_has_not() -> None:
    line = demo.hello_bob("curl.exe --user alice:word", "smtp://localhost:1587 --upload-file -", is_windows=True)
    assert line.startswith('cmd /c "(echo ')
    assert not {"'", "\\", "\n", "$"} & set(line)
    assert line.endswith('| curl.exe --user alice:word smtp://localhost:1587 --upload-file -"')


@pytest.mark.skipif(sys.platform == "win32", reason="there the environment does not say where the store is")
async def test_a_change_that_wants_a_taken_port_is_in_force_once_that_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: io.StringIO
) -> None:
    monkeypatch.setattr(following, "RETRY_FIRST", LOOK_SECONDS)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        class Mover(Editor):
            def changed(self, text: str) -> str:
                return re.sub("imap: localhost:[0-9]+", f"imap: 127.0.0.1:{port}", text)

            async def run(self, served: Callable[[], Served]) -> None:
                async with RemoteControl.opened(served().control_url, served().token) as control, asyncio.timeout(20):
                    while not (status := await control.status()).warnings:
                        await asyncio.sleep(LOOK_SECONDS)
                    (warning,) = status.warnings
                    assert "the change has not taken effect: " in warning.told()
                    assert str(port) in warning.told()
                    other.close()
                    while (status := await control.status()).warnings:
                        await asyncio.sleep(LOOK_SECONDS)
                    assert f"127.0.0.1:{port}" in {one.address for one in status.listeners}

        await serve_until_changed(tmp_path, monkeypatch, Mover)
