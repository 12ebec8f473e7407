"""When and how often the configuration file is read again: with a real file, really loaded."""

from __future__ import annotations

import asyncio
import errno
import io
import itertools
import json
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from bridge.app import App
from bridge.config.load import LoadedConfig
from bridge.errors import BridgeError, ConfigError, UpstreamUnavailable
from bridge.host.service import ServiceManager
from bridge.observe import logs, supervisor
from bridge.ui.cli import following
from bridge.ui.cli.configured import Settings, load
from bridge.ui.cli.following import Followed
from tests.servers.systemd import listening
from tests.silent import no_thread

LOOK_SECONDS = 0.005
TEXT = """\
providers: {it: {kind: google, client_id: c, client_secret: CANARY}}
accounts: [{address: alice@example.com, provider: it}]
"""
LOCKED = ConfigError(["secrets.client_secret: the keyring is locked"], may_pass=True)


class Bridge:
    """Records what the bridge is told. It accepts a configuration, or fails with the next of the `troubles`."""

    def __init__(self, *, has_os_users: bool = False) -> None:
        self.has_os_users = has_os_users
        self.told: list[str] = []
        self.troubles: list[Exception] = []

    async def apply(self, loaded: LoadedConfig) -> str:
        if self.troubles:
            raise self.troubles.pop(0)
        self.told.append(f"apply {len(loaded.config.accounts)}")
        return "something"

    def refused(self, problem: BridgeError) -> None:
        self.told.append("refused")

    def tell_workers(self) -> None:
        self.told.append("tell workers")


@asynccontextmanager
async def followed(file: Path, bridge: Bridge) -> AsyncIterator[asyncio.Event]:
    """Yields: the event that orders a reload."""
    order = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(Followed.from_now_on(Settings(file, None)).follow(cast(App, bridge), order))
        try:
            yield order
        finally:
            task.cancel()


class Looks:
    """Counts how often the file was looked at."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        really = following._stamp

        def stamp(path: Path) -> following.Stamp | None:
            self.count += 1
            return really(path)

        monkeypatch.setattr(following, "_stamp", stamp)

    async def some(self) -> None:
        """Wait for several looks: more than anything takes that follows from one."""
        await until(lambda seen=self.count: self.count >= seen + 6)  # type: ignore[misc]


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not is_so():
            await asyncio.sleep(LOOK_SECONDS / 5)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for seconds in ("LOOK_SECONDS", "REST_SECONDS", "RETRY_FIRST"):
        monkeypatch.setattr(following, seconds, LOOK_SECONDS)
    made = tmp_path / "mail-bridge" / "config.yaml"
    made.parent.mkdir()
    made.write_text(TEXT)
    return made


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    return Looks(monkeypatch)


async def test_a_file_system_that_hangs_holds_up_nobody(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a network drive whose server is gone: a look at the file then takes minutes."""
    asked, goes_on, ended = threading.Event(), threading.Event(), threading.Event()

    def stamp(path: Path) -> following.Stamp | None:
        asked.set()
        goes_on.wait(5)
        ended.set()
        return None

    async with followed(file, Bridge()):
        monkeypatch.setattr(following, "_stamp", stamp)
        await until(asked.is_set)
        assert not ended.is_set(), "the loop has waited"
        goes_on.set()


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """An entry for each time that the retry pauses begin again with the shortest."""
    found: list[str] = []
    really = following.retry_pauses

    def pauses() -> Iterator[float]:
        found.append("begun")
        return really()

    monkeypatch.setattr(following, "retry_pauses", pauses)
    return found


async def test_a_file_that_nobody_touches_is_not_read(file: Path, looks: Looks, log: io.StringIO) -> None:
    bridge = Bridge()
    async with followed(file, bridge):
        await looks.some()
    assert bridge.told == []


def _away(file: Path) -> None:
    """Some editors delete the file before they write it again."""
    file.unlink()


def _out_of_reach(file: Path) -> None:
    """A network share is not mounted, and a file is in its place."""
    aside = file.parent.rename(file.parent.with_name("aside"))
    aside.with_name("mail-bridge").touch()


def _back_in_reach(file: Path) -> None:
    if file.parent.is_file():
        file.parent.unlink()
        file.parent.with_name("aside").rename(file.parent)


@pytest.mark.parametrize("lose", [_away, _out_of_reach])
async def test_a_file_that_is_gone_for_a_while_is_no_trouble(
    file: Path, looks: Looks, log: io.StringIO, lose: Callable[[Path], None]
) -> None:
    bridge = Bridge()
    async with followed(file, bridge):
        lose(file)
        await looks.some()
        assert (bridge.told, log.getvalue()) == ([], "")
        _back_in_reach(file)
        file.write_text(f"{TEXT}# saved\n")
        await until(lambda: bridge.told != [])
    assert bridge.told[0] == "apply 1"


@pytest.mark.parametrize("lose", [_away, _out_of_reach])
async def test_a_file_that_stays_away_is_told_of_until_it_is_back_just_as_it_was(
    file: Path,
    looks: Looks,
    log: io.StringIO,
    monkeypatch: pytest.MonkeyPatch,
    lose: Callable[[Path], None],
) -> None:
    """Otherwise nobody would hear of it before the next start, perhaps a month later."""
    monkeypatch.setattr(following, "GONE_SECONDS", 2 * LOOK_SECONDS)
    kept = file.with_name("kept.yaml")
    os.link(file, kept)
    bridge = Bridge()
    async with followed(file, bridge):
        for _ in range(2):
            lose(file)
            await until(lambda: "refused" in bridge.told)
            await looks.some()
            assert bridge.told == ["refused"]
            # Only the first refusal is in this log: once the file was read again, the log goes where the file says.
            said, name = log.getvalue(), json.dumps(str(file))[1:-1]
            assert said.count('"configuration.refused"') == said.count(name) == 1
            _back_in_reach(file)
            if not file.exists():
                os.link(kept, file)
            await until(lambda: "tell workers" in bridge.told)
            await looks.some()
            assert bridge.told == ["refused", "apply 1", "tell workers"], "it is in force, and nothing is amiss"
            bridge.told.clear()


async def test_an_order_reads_the_file_once_though_nothing_has_changed(
    file: Path, looks: Looks, log: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    bridge = Bridge()
    async with followed(file, bridge) as order:
        order.set()
        await until(lambda: bridge.told != [])
        await looks.some()
    assert bridge.told == ["apply 1", "tell workers"]
    assert capsys.readouterr().err.count("changes=something") == 1


async def test_an_order_is_not_kept_waiting_by_a_file_that_does_not_come_to_rest(
    file: Path, monkeypatch: pytest.MonkeyPatch, looks: Looks, log: io.StringIO
) -> None:
    """Without an order, a file that has just changed is left alone until it has been unchanged for a while."""
    monkeypatch.setattr(following, "REST_SECONDS", 3600.0)
    bridge = Bridge()
    async with followed(file, bridge) as order:
        file.write_text(TEXT + "# half of what is to come\n")
        await until(lambda: looks.count >= 2)  # one before it is loaded, and the one that finds it changed
        await asyncio.sleep(20 * LOOK_SECONDS)
        assert bridge.told == []
        order.set()
        await until(lambda: bridge.told != [])


def _in_place(file: Path) -> None:
    """Its length stays the same."""
    file.write_text(TEXT.replace("CANARY", "canary"))
    _touch(file, 1)


def _within_one_tick(file: Path) -> None:
    """On a file system whose timestamps are whole seconds, the timestamp stays the same."""
    since = file.stat()
    file.write_text(TEXT + "# longer\n")
    os.utime(file, ns=(since.st_atime_ns, since.st_mtime_ns))


def _by_another_as_old_and_as_long(file: Path) -> None:
    """After `cp --preserve` and a rename, timestamp and length stay the same."""
    since, other = file.stat(), file.with_suffix(".new")
    other.write_text(TEXT.replace("CANARY", "canary"))
    os.utime(other, ns=(since.st_atime_ns, since.st_mtime_ns))
    other.replace(file)


def _touch(file: Path, seconds: int) -> None:
    since = file.stat()
    os.utime(file, ns=(since.st_atime_ns, since.st_mtime_ns + seconds * 10**9))


@pytest.mark.parametrize("change", [_in_place, _within_one_tick, _by_another_as_old_and_as_long])
async def test_a_change_is_seen_however_it_is_made(
    file: Path, log: io.StringIO, change: Callable[[Path], None]
) -> None:
    bridge = Bridge()
    async with followed(file, bridge):
        change(file)
        await until(lambda: bridge.told != [])
    assert bridge.told == ["apply 1", "tell workers"]


async def test_how_much_is_logged_is_changed_with_the_file(file: Path, log: io.StringIO) -> None:
    bridge = Bridge()
    async with followed(file, bridge):
        file.write_text(TEXT + "log: {level: warning, format: json}\n")
        await until(lambda: "tell workers" in bridge.told)
    assert logs.current() == ("warning", "json")


async def test_what_works_and_is_hardly_meant_so_is_told_where_the_log_goes_by_now(
    file: Path, log: io.StringIO
) -> None:
    """As at a start: a person who edits a running bridge's file looks only at its log."""
    bridge, found = Bridge(), file.with_name("bridge.log")
    async with followed(file, bridge):
        file.write_text(TEXT.replace("CANARY", "$CANARY") + f"log: {{format: json, file: '{found}'}}\n")
        await until(lambda: "tell workers" in bridge.told)
    lines = [json.loads(line) for line in found.read_text().splitlines()]
    told = [line["reason"] for line in lines if line["event"] == "configuration.doubtful"]
    assert told == [str(warning) for warning in load(Settings(file, None)).warnings]
    assert any("providers.it.client_secret: this text itself is taken for the secret" in one for one in told)
    assert "CANARY" not in found.read_text()


async def test_where_the_log_goes_is_changed_with_the_file(file: Path, log: io.StringIO) -> None:
    bridge, found = Bridge(), file.with_name("bridge.log")
    async with followed(file, bridge):
        file.write_text(f"{TEXT}log: {{format: json, file: '{found}'}}\n")
        await until(lambda: "tell workers" in bridge.told)
    assert '"changes": "something"' in found.read_text()
    assert '"log.goes_on"' in log.getvalue()


@pytest.mark.parametrize("is_ordered", [True, False])
async def test_what_changes_while_it_is_read_is_taken_by_order_alone(
    file: Path, monkeypatch: pytest.MonkeyPatch, log: io.StringIO, *, is_ordered: bool
) -> None:
    """Without an order the file is read again first, because half of a file may be a valid configuration, too."""
    halves = iter(["the first"])

    def slow(settings: Settings) -> LoadedConfig:
        loaded = load(settings)
        if next(halves, None):
            file.write_text(TEXT.replace("provider: it}", "provider: it}, {address: bob@example.com, provider: it}"))
        return loaded

    monkeypatch.setattr(following, "load", slow)
    bridge = Bridge()
    async with followed(file, bridge) as order:
        if is_ordered:
            order.set()
        else:
            file.write_text(f"{TEXT}# saved\n")
        await until(lambda: "apply 2" in bridge.told)
    assert ("apply 1" in bridge.told) is is_ordered


@pytest.mark.skipif(os.name != "posix", reason="no FIFO in a directory")
async def test_a_pipe_in_the_files_place_is_refused_and_not_waited_for(file: Path, looks: Looks) -> None:
    """Perhaps nobody ever writes to it."""
    bridge = Bridge()
    async with followed(file, bridge) as order:
        await looks.some()
        file.unlink()
        os.mkfifo(file)
        order.set()
        await until(lambda: bridge.told == ["refused"])
        file.unlink()
        file.write_text(TEXT)
        await until(lambda: bridge.told == ["refused", "apply 1", "tell workers"])


async def test_what_somebody_must_correct_is_told_once(file: Path, looks: Looks, log: io.StringIO) -> None:
    bridge = Bridge()
    async with followed(file, bridge):
        file.write_text(TEXT.replace("google", "gogle") + "log: {level: loud}\n")
        await until(lambda: bridge.told != [])
        await looks.some()
    assert bridge.told == ["refused"]
    first, second = log.getvalue().splitlines()
    assert "gogle" in first
    assert "loud" in second


async def test_a_log_file_that_cannot_be_written_leaves_all_as_it_was(file: Path, log: io.StringIO) -> None:
    bridge = Bridge()
    async with followed(file, bridge):
        file.write_text(f"{TEXT}log: {{level: warning, file: '{file.parent}'}}\n")
        await until(lambda: bridge.told != [])
    assert bridge.told == ["refused"]
    assert logs.current() == ("debug", "json")


async def test_a_log_file_that_does_not_open_holds_up_only_the_reload(
    file: Path, monkeypatch: pytest.MonkeyPatch, log: io.StringIO
) -> None:
    """On a network drive whose server is away."""
    bridge, asked, goes_on = Bridge(), threading.Event(), threading.Event()

    def hangs(loaded: LoadedConfig) -> None:
        asked.set()
        assert goes_on.wait(20), "the loop stands still"

    monkeypatch.setattr(following, "log_stream", hangs)
    async with followed(file, bridge) as order:
        order.set()
        await until(asked.is_set)
        goes_on.set()
        await until(lambda: "tell workers" in bridge.told)
    assert "stands still" not in log.getvalue()


async def test_a_file_that_its_editor_still_holds_is_read_a_moment_later(
    file: Path, monkeypatch: pytest.MonkeyPatch, log: io.StringIO
) -> None:
    """This happens on Windows; and when the editor lets go of the file, its timestamp does not change."""
    holds = iter([PermissionError(errno.EACCES, os.strerror(errno.EACCES))] * 2)
    really_open = Path.open

    def held(path: Path, *arguments: Any, **options: Any) -> Any:
        if hold := next(holds, None):
            raise hold
        return really_open(path, *arguments, **options)

    bridge = Bridge()
    async with followed(file, bridge):
        _touch(file, 1)
        monkeypatch.setattr(Path, "open", held)
        await until(lambda: "tell workers" in bridge.told)
    assert bridge.told == ["refused", "refused", "apply 1", "tell workers"]


async def test_a_bug_in_a_reload_does_not_end_the_following(
    file: Path, monkeypatch: pytest.MonkeyPatch, log: io.StringIO
) -> None:
    monkeypatch.setattr(supervisor, "PAUSE", LOOK_SECONDS)
    bridge = Bridge()
    bridge.troubles = [RuntimeError("can't start new thread")]
    async with followed(file, bridge):
        _touch(file, 1)
        await until(lambda: "tell workers" in bridge.told)
    assert log.getvalue().count('"helper.bug"') == 1


@pytest.mark.parametrize("lacking", ["configuration", "asyncio"])
async def test_an_order_that_finds_no_thread_is_refused_in_words_and_carried_out_later(
    file: Path, monkeypatch: pytest.MonkeyPatch, log: io.StringIO, lacking: str
) -> None:
    """No thread for a look at the file, or for reading it: at a service's limit (TasksMax), or at the machine's."""
    bridge, really_start = Bridge(), threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if thread.name.startswith(lacking):
            no_thread()
        really_start(thread)

    async with followed(file, bridge) as order:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", start)
            order.set()
            await until(lambda: "refused" in bridge.told)
        await until(lambda: "tell workers" in bridge.told)
    assert bridge.told[-2:] == ["apply 1", "tell workers"]
    assert "start new thread" in log.getvalue()
    assert "bug" not in log.getvalue()


@pytest.mark.parametrize("has_os_users", [True, False])
async def test_the_directory_of_users_is_loaded_for_who_needs_it(
    file: Path, monkeypatch: pytest.MonkeyPatch, log: io.StringIO, *, has_os_users: bool
) -> None:
    bridge = Bridge(has_os_users=has_os_users)
    monkeypatch.setattr(following, "load_directory", lambda: bridge.told.append("load the directory"))
    async with followed(file, bridge) as order:
        order.set()
        await until(lambda: "tell workers" in bridge.told)
    assert ("load the directory" in bridge.told) is has_os_users


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="systemd's protocol")
@pytest.mark.parametrize("troubles", [[], [LOCKED], [UpstreamUnavailable("the port is taken")]])
async def test_a_service_manager_hears_when_a_reload_begins_and_that_it_is_over(
    file: Path, monkeypatch: pytest.MonkeyPatch, log: io.StringIO, troubles: list[Exception]
) -> None:
    """`systemctl reload` waits for the second message."""
    monkeypatch.setattr(following, "RETRY_FIRST", 3600.0)
    bridge = Bridge()
    bridge.troubles = troubles[:]
    with listening(str(file.parent / "notify")) as systemd:
        monkeypatch.setattr(following, "service_manager", ServiceManager({"NOTIFY_SOCKET": systemd.name}))
        async with followed(file, bridge) as order:
            order.set()
            reloading, ready = await asyncio.to_thread(systemd.hears, "READY=1", 20)
        assert reloading.startswith("RELOADING=1\n")
        assert ready == "READY=1"
        assert bridge.told != [], "before it is over"


@pytest.mark.parametrize("trouble", [LOCKED, UpstreamUnavailable("the port is taken")])
async def test_what_may_pass_is_tried_again_at_growing_pauses_and_is_told_until_it_has(
    file: Path, looks: Looks, log: io.StringIO, begun: list[str], trouble: BridgeError
) -> None:
    bridge = Bridge()
    bridge.troubles = [trouble] * 3
    async with followed(file, bridge) as order:
        order.set()
        await until(lambda: "tell workers" in bridge.told)
        await looks.some()
    assert bridge.told == ["refused"] * 3 + ["apply 1", "tell workers"]
    assert len(begun) == 1
    assert log.getvalue().count('"configuration.refused"') == 3


@pytest.mark.parametrize("is_ordered", [True, False])
async def test_the_pauses_begin_anew_with_the_next_change(
    file: Path, monkeypatch: pytest.MonkeyPatch, log: io.StringIO, begun: list[str], *, is_ordered: bool
) -> None:
    monkeypatch.setattr(following, "RETRY_FIRST", 3600.0)
    bridge = Bridge()
    bridge.troubles = [LOCKED, LOCKED]
    async with followed(file, bridge) as order:
        for times in (1, 2):
            if is_ordered:
                order.set()
            else:
                _touch(file, 1)
            await until(lambda seen=times: len(begun) == seen)  # type: ignore[misc]
    assert bridge.told == ["refused"] * 2


async def test_a_keyring_that_asks_its_owner_holds_nobody_up(
    file: Path, monkeypatch: pytest.MonkeyPatch, log: io.StringIO
) -> None:
    """Neither the mail sessions during a reload, nor the handling of signals during a start."""
    threads: list[int] = []

    def asking(settings: Settings) -> LoadedConfig:
        threads.append(threading.get_ident())
        return load(settings)

    monkeypatch.setattr(following, "load", asking)
    await following.loaded_once_open(Settings(file, None))
    bridge = Bridge()
    async with followed(file, bridge) as order:
        order.set()
        await until(lambda: bridge.told != [])
    assert len(threads) == 2
    assert threading.get_ident() not in threads


async def test_a_start_waits_for_nothing_that_somebody_must_correct(file: Path, log: io.StringIO) -> None:
    file.write_text(TEXT.replace("google", "gogle"))
    async with asyncio.timeout(20):
        with pytest.raises(ConfigError, match="gogle"):
            await following.loaded_once_open(Settings(file, None))


async def test_a_start_waits_for_a_locked_keyring_and_says_so(
    file: Path, monkeypatch: pytest.MonkeyPatch, log: io.StringIO
) -> None:
    locks = iter([LOCKED] * 3)

    def locked(settings: Settings) -> LoadedConfig:
        if lock := next(locks, None):
            raise lock
        return load(settings)

    monkeypatch.setattr(following, "load", locked)
    async with asyncio.timeout(20):
        loaded = await following.loaded_once_open(Settings(file, None))
    assert len(loaded.config.accounts) == 1
    assert log.getvalue().count("the keyring is locked") == 3


async def test_a_start_does_not_ask_again_before_the_pause_is_over(
    file: Path, monkeypatch: pytest.MonkeyPatch, log: io.StringIO
) -> None:
    """Each attempt may show another prompt."""

    def locked(settings: Settings) -> LoadedConfig:
        raise LOCKED

    monkeypatch.setattr(following, "load", locked)
    monkeypatch.setattr(following, "RETRY_FIRST", 3600.0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(20 * LOOK_SECONDS):
            await following.loaded_once_open(Settings(file, None))
    assert log.getvalue().count("the keyring is locked") <= 1


def test_a_keyring_is_asked_for_ever_more_rarely() -> None:
    """But at least every quarter of an hour."""
    assert [*itertools.islice(following.retry_pauses(), 9)] == [10, 20, 40, 80, 160, 320, 640, 900, 900]
