"""A log file: its size is limited, it is opened again by its name, and several processes share it."""

from __future__ import annotations

import gc
import importlib
import io
import json
import os
import re
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import pytest

from bridge.observe import log_file as module
from bridge.observe import logs
from bridge.observe.aside import Call
from bridge.observe.log_file import KEPT, log_file
from bridge.threads import LooseThread
from tests.servers.packages import needs_root
from tests.silent import no_thread

NOBODY = 65534
"""A user without any rights, on Linux."""


@pytest.fixture(autouse=True)
def _looks_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.0)


@pytest.fixture
def standard_error_again() -> Iterator[None]:
    yield
    logs.configure()


def written(path: Path) -> list[str]:
    """All lines, from the oldest file to the latest."""
    files = [path.with_name(f"{path.name}.{number}") for number in range(KEPT + 3, 0, -1)] + [path]
    return [line for file in files if file.exists() for line in file.read_text("utf-8").splitlines()]


def test_lines_go_to_the_end_of_a_file_that_is_made_with_its_directory(tmp_path: Path) -> None:
    path = tmp_path / "made" / "as well" / "mail-bridge.log"
    lowest = _lowest_free()
    with log_file(path) as log:
        log.write("one é\n")
        assert path.read_text("utf-8") == "one é\n", "at once"
    with log_file(path) as log:
        log.write("two \udcff\n")
    assert written(path) == ["one é", "two \\udcff"]
    assert _lowest_free() == lowest


@pytest.mark.skipif(os.name != "posix", reason="POSIX modes")
def test_a_new_file_is_for_its_owner_alone_and_another_ones_mode_is_left(tmp_path: Path) -> None:
    path = tmp_path / "made" / "mail-bridge.log"
    log_file(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    log_file(path.with_name("beside")).close()
    assert stat.S_IMODE(path.with_name("beside").stat().st_mode) == 0o600
    path.chmod(0o640)
    log_file(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640, "the administrator's group may read it"


@pytest.mark.skipif(os.name != "posix", reason="needs links, and their owners")
def test_a_link_leads_to_the_log_unless_it_is_another_users(tmp_path: Path) -> None:
    """In /tmp anybody may make one that leads to a file of ours; a login chooses what a line of the log says."""
    needs_root()
    link, profile = tmp_path / "mail-bridge.log", tmp_path / "profile"
    profile.write_text("")
    link.symlink_to(profile)
    with log_file(link) as log:
        log.write("an administrator's own link\n")
    assert profile.read_text() == "an administrator's own link\n"
    os.chown(link, NOBODY, NOBODY, follow_symlinks=False)
    with pytest.raises(PermissionError, match=re.escape(str(link))):
        log_file(link)
    link.unlink()
    with log_file(link) as log:
        log.write("login.refused username=$(id)\n")
        link.unlink()
        link.symlink_to(profile)
        os.chown(link, NOBODY, NOBODY, follow_symlinks=False)
        with pytest.raises(PermissionError, match=re.escape(str(link))):
            log.write("login.refused username=$(id)\n")
        link.unlink()
    assert profile.read_text() == "an administrator's own link\n"


def test_a_large_file_is_renamed_and_no_line_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGEST", 100)
    path = tmp_path / "log"
    lines = [f"line {number:04}" for number in range(40)]
    with log_file(path) as log:
        log.writelines(f"{line}\n" for line in lines)
    assert written(path) == lines
    assert max(file.stat().st_size for file in tmp_path.iterdir()) <= 100 + len("line 0000\r\n")


def test_only_so_many_older_files_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGEST", 1)
    path = tmp_path / "log"
    with log_file(path) as log:
        log.writelines(f"{number}\n" for number in range(50))
    assert written(path) == ["45", "46", "47", "48", "49"]
    assert len(list(tmp_path.iterdir())) == KEPT + 1
    with log_file(path) as log:
        lowest = _lowest_free()
        log.writelines("more\n" for _ in range(5))
        assert _lowest_free() == lowest, "each one is closed"


def test_who_is_not_to_rename_the_file_lets_it_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a worker: if several processes renamed the file at once, each would move away the one that another had
    just begun."""
    monkeypatch.setattr(module, "LARGEST", 1)
    path = tmp_path / "log"
    with log_file(path, renames=False) as log:
        log.writelines(f"{number}\n" for number in range(3))
    assert path.read_text().splitlines() == ["0", "1", "2"]


def _lowest_free() -> int:
    descriptor = os.dup(1)
    os.close(descriptor)
    return descriptor


def test_a_file_that_cannot_be_renamed_grows_on_and_the_older_ones_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows, while another program reads it."""
    monkeypatch.setattr(module, "LARGEST", 10)
    path = tmp_path / "log"
    (tmp_path / "log.1").write_text("older\n")
    (tmp_path / "log.0" / "in the way").mkdir(parents=True)
    with log_file(path) as log:
        log.writelines(f"line {number}\n" for number in range(10))
        assert path.read_text().splitlines() == [f"line {number}" for number in range(10)]
        assert (tmp_path / "log.1").read_text() == "older\n"
        (tmp_path / "log.0" / "in the way").rmdir()
        (tmp_path / "log.0").rmdir()
        log.write("at last\n")
    assert path.read_text() == "at last\n"
    assert written(path)[0] == "older"


@pytest.mark.parametrize("number", range(1, KEPT + 1))
def test_while_somebody_reads_an_older_file_none_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """As on Windows, which neither renames nor replaces an open file."""
    monkeypatch.setattr(module, "LARGEST", 1)
    path, held = tmp_path / "log", tmp_path / f"log.{number}"
    replace = os.replace

    def refused(source: Path, target: Path) -> None:
        if held in (source, target):
            raise PermissionError(13, "in use by another process")
        replace(source, target)

    with log_file(path) as log:
        log.writelines(f"{line}\n" for line in range(KEPT + 1))
        monkeypatch.setattr(os, "replace", refused)
        log.writelines(f"{line}\n" for line in range(KEPT + 1, 20))
        kept = [int(line) for file in tmp_path.iterdir() for line in file.read_text().splitlines()]
        assert sorted(kept) in (list(range(20)), list(range(1, 20))), "but for the oldest, whose turn it was"
        monkeypatch.setattr(os, "replace", replace)
        log.write("20\n")
        log.write("21\n")
    assert written(path)[-3:] == ["19", "20", "21"], "as ever"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["log", *(f"log.{n}" for n in range(1, KEPT + 1))]


@pytest.mark.skipif(os.name != "posix", reason="Windows renames and removes no file that is open")
def test_who_renames_or_removes_the_file_finds_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with log_file(path) as log:
        log.write("one\n")
        path.rename(tmp_path / "by logrotate")
        path.touch()
        log.write("two\n")
        assert path.read_text() == "two\n"
        path.unlink()
        log.write("three\n")
    assert (tmp_path / "by logrotate").read_text() == "one\n"
    assert path.read_text() == "three\n"


@pytest.mark.skipif(sys.platform != "win32", reason="elsewhere nobody can keep others from opening a file")
def test_a_program_that_reads_the_file_while_it_is_opened_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many let nobody write meanwhile, unless somebody has the file open for that already."""
    path = tmp_path / "log"
    path.write_text("one\n")
    api: Any = importlib.import_module("_winapi")
    readers_only = 1
    held = [api.CreateFile(str(path), api.GENERIC_READ, readers_only, 0, api.OPEN_EXISTING, 0, 0)]
    monkeypatch.setattr("time.sleep", lambda seconds: api.CloseHandle(held.pop()))
    with log_file(path) as log:
        log.write("two\n")
    assert path.read_text() == "one\ntwo\n"


def test_the_same_file_has_one_stream_while_somebody_has_it(tmp_path: Path) -> None:
    log = log_file(tmp_path / "log")
    assert log_file(tmp_path / "log") is log
    assert log_file(tmp_path / "another") is not log
    del log
    gc.collect()
    assert not module._streams, "and is closed with the last one"


@pytest.mark.usefixtures("standard_error_again")
def test_a_full_disk_costs_the_lines_and_nothing_else(tmp_path: Path) -> None:
    if sys.platform == "win32" or not Path("/dev/full").exists():
        pytest.skip("needs something that is full")
    path = tmp_path / "log"
    path.symlink_to("/dev/full")
    logs.configure("info", "text", log_file(path))
    for _ in range(3000):
        logs.event("session.open", conn="imap-1")
    path.unlink()
    logs.event("there.is_room")
    assert "there.is_room" in path.read_text()


@pytest.mark.usefixtures("standard_error_again")
def test_a_file_on_a_full_disk_is_left_with_the_last_who_has_it(tmp_path: Path) -> None:
    """Not only with the next collection of garbage, which is rare in a process that runs for weeks."""
    if sys.platform == "win32" or not Path("/dev/full").exists():
        pytest.skip("needs something that is full")
    logs.configure()
    lowest = _lowest_free()
    gc.disable()
    try:
        logs.configure("info", "text", log_file(Path("/dev/full")))
        logs.event("session.open", conn="imap-1")
        logs.configure()
        assert _lowest_free() == lowest
    finally:
        gc.enable()


FULL_AT_THE_END = """
from pathlib import Path
from bridge.observe import logs
from bridge.observe.log_file import log_file
logs.configure("info", "text", log_file(Path("/dev/full")))
logs.event("session.open", conn="imap-1")
logs.configure()
"""


def test_a_file_on_a_full_disk_ends_without_a_traceback() -> None:
    """In development mode each Python does what those since 3.13 always do: show what a finaliser raises."""
    if sys.platform == "win32" or not Path("/dev/full").exists():
        pytest.skip("needs something that is full")
    command = [sys.executable, "-X", "dev", "-c", FULL_AT_THE_END]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert "Traceback" not in ended.stderr
    assert "Exception ignored" not in ended.stderr


@pytest.mark.skipif(os.name != "posix", reason="Windows renames and removes no file that is open")
def test_the_thread_of_a_file_that_could_not_be_opened_again_ends_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.0)
    directory, before = tmp_path / "logs", set(threading.enumerate())
    stream = log_file(directory / "log")
    stream.write("one\n")
    (thread,) = set(threading.enumerate()) - before
    (directory / "log").unlink()
    directory.rmdir()
    directory.write_text("in the way")
    with pytest.raises(NotADirectoryError):
        stream.write("two\n")
    with pytest.raises(NotADirectoryError):
        stream.close()
    thread.join(30)
    assert not thread.is_alive()


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from bridge.observe import log_file, logs
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
log_file.LOOK_SECONDS = 0.0
stream = log_file.log_file(Path(sys.argv[1])) if sys.argv[2] == "our own" else None
for _ in range(2):
    logs.configure("info", "json", stream)
    size = Path(sys.argv[1]).stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 1000, resource.RLIM_INFINITY))
    logs.event("long", text="a letter " * 3000)
    for number in range(300):
        logs.event("short", number=number)
        if number == 200:
            logs.configure("info", "json", stream)  # as a reload does
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    logs.event("there.is_room")
    logs.event("as.ever")
"""


@pytest.mark.skipif(
    sys.platform == "win32", reason="Windows has no RLIMIT_FSIZE, whose errors are those of a full disk"
)
@pytest.mark.parametrize("whose", ["our own", "standard error"])
def test_what_a_full_disk_has_cost_is_told_once_there_is_room(tmp_path: Path, whose: str) -> None:
    path = tmp_path / "log"
    with path.open("wb") as standard_error:
        command = [sys.executable, "-c", FULL_DISK, str(path), whose]
        subprocess.run(command, stderr=standard_error, check=True, timeout=60)
    lines = path.read_text().splitlines()
    cut = [line for line in lines if line.startswith('{"text": "a letter')]
    found = [json.loads(line) for line in lines if line and line not in cut]
    assert len(cut) == 2, "begun before the disk was full"
    assert not any(_is_whole(line) for line in cut)
    half = [one["event"] for one in found].index("as.ever") + 1
    for part in (found[:half], found[half:]):
        kept = [one["number"] for one in part if one["event"] == "short"]
        assert kept == list(range(len(kept))), "what came first says what the trouble is"
        assert [one["event"] for one in part[len(kept) :]] == ["log.lines_lost", "there.is_room", "as.ever"]
        assert part[len(kept)]["lines"] == 1 + 300 - len(kept)


def _is_whole(line: str) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


@pytest.mark.usefixtures("standard_error_again")
def test_a_directory_that_goes_away_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "log"
    logs.configure("info", "text", log_file(path))
    if os.name == "posix":
        (tmp_path / "logs").rename(tmp_path / "elsewhere")
        (tmp_path / "logs").write_text("in the way")
        logs.event("lost.maybe")
        (tmp_path / "logs").unlink()
    logs.event("there.again")
    assert "there.again" in path.read_text()


def test_what_cannot_be_opened_says_so_at_once(tmp_path: Path) -> None:
    with pytest.raises(OSError):  # noqa: PT011  its errno differs between systems
        log_file(tmp_path)


WRITER = """
import sys
from pathlib import Path
from bridge.observe import log_file
log_file.LARGEST, log_file.LOOK_SECONDS, log_file.KEPT = 2000, 0.0, 100
log = log_file.log_file(Path(sys.argv[1]), renames=sys.argv[2] == "0")
for number in range(400):
    log.write(f"process {sys.argv[2]} line {number}\\n")
"""


@pytest.mark.skipif(os.name != "posix", reason="Windows has no workers")
def test_of_several_processes_none_loses_a_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(number)]) for number in range(3)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    lines = [line for file in tmp_path.iterdir() for line in file.read_text().splitlines()]
    assert sorted(lines) == sorted(f"process {writer} line {number}" for writer in range(3) for number in range(400))
    assert len(list(tmp_path.iterdir())) > 2


def test_it_is_a_text_stream_like_any_other(tmp_path: Path) -> None:
    """So it can take the place of standard error."""
    with log_file(tmp_path / "log") as log:
        assert isinstance(log, io.TextIOWrapper)
        assert not log.isatty()
        print("a line", file=log)
    assert written(tmp_path / "log") == ["a line"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes have no names in Windows' directories")
def test_a_pipe_that_nobody_reads_is_an_error_and_one_that_is_read_gets_all(tmp_path: Path) -> None:
    """Waiting for a reader would hold up everybody's mail."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="No such device"):
        log_file(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with log_file(pipe) as stream:
            stream.write("one\n")
        assert os.read(reading, 100) == b"one\n"
    finally:
        os.close(reading)


@pytest.mark.usefixtures("standard_error_again")
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes have no names in Windows' directories")
def test_a_file_that_hangs_costs_lines_that_are_counted_and_holds_up_nobody(tmp_path: Path) -> None:
    """Like one on a network drive whose server is away: here, a pipe whose reader has stopped."""
    pipe, received = tmp_path / "pipe", list[bytes]()
    os.mkfifo(pipe)
    with open(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK), "rb", closefd=True) as reading:
        os.set_blocking(reading.fileno(), True)
        reader = threading.Thread(target=lambda: received.extend(reading), daemon=True)
        stream = log_file(pipe)
        logs.configure("info", "json", stream)
        for number in range(600):  # several times as much as a pipe holds
            logs.event("line", number=number, text="a letter " * 50)
        again, appended = 0, _appended(stream)
        reader.start()
        while appended._late is not None:
            appended._late[1].is_over(60)
            logs.event("there.again")
            again += 1
        stream.close()
        reader.join(60)
    lines = [json.loads(line) for line in received]
    kept = [line["number"] for line in lines if line["event"] == "line"]
    assert kept == list(range(len(kept))), "once and in order; what came first says what the trouble is"
    lost = [line["lines"] for line in lines if line["event"] == "log.lines_lost"]
    assert len(lines) - len(lost) + sum(lost) == 600 + again
    assert lines[-1]["event"] == "there.again"


def test_other_octets_than_those_that_came_late_are_written_behind_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mostly they are the same ones, with more behind them."""
    path, goes_on = tmp_path / "log", threading.Event()
    with log_file(path) as stream:
        stream.write("one\n")
        raw = _appended(stream)
        raw._thread.begin(lambda: goes_on.wait(30))
        with monkeypatch.context() as patch, pytest.raises(TimeoutError):
            patch.setattr(raw, "_patience", 0.0)
            raw.write(b"two\n")
        goes_on.set()
        assert raw._late is not None
        assert raw._late[1].is_over(30)
        assert raw.write(b"three\n") == 6
        assert written(path) == ["one", "two", "three"]


@pytest.mark.parametrize("how", ["never begins", "is refused"])
def test_without_a_thread_the_lines_get_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """For want of memory: a thread that gets none for its first steps ends without a word (gh-140746)."""
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(module, "LITTLE_PATIENCE", 0.0)
    path, begun = tmp_path / "log", list[threading.Thread]()
    with monkeypatch.context() as patch, log_file(path) as stream:
        patch.setattr(
            LooseThread, "start", (lambda thread: begun.append(thread)) if how == "never begins" else no_thread
        )
        stream.write("one\n")
        stream.write("two\n")
        assert written(path) == ["one", "two"]
    for thread in begun:  # it comes late
        thread.run()
    assert written(path) == ["one", "two"]


def test_a_thread_that_has_died_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, before = tmp_path / "log", set(threading.enumerate())
    with log_file(path) as stream:
        stream.write("one\n")
        (thread,) = set(threading.enumerate()) - before
        monkeypatch.setattr(threading, "excepthook", lambda _: None)
        _appended(stream)._thread.begin(_bug)
        thread.join(30)
        stream.write("two\n")
        stream.write("three\n")
        assert written(path) == ["one", "two", "three"]
        assert set(threading.enumerate()) - before


def test_what_a_thread_is_slow_to_begin_is_left_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine it may come late. The caller is the event loop, in which the file might hang."""
    path, is_its_turn = tmp_path / "log", threading.Event()
    with log_file(path) as stream:
        stream.write("one\n")
        monkeypatch.setattr(_appended(stream), "_patience", 0.0)
        _appended(stream)._thread.begin(lambda: is_its_turn.wait(30))
        with pytest.raises(TimeoutError):
            stream.write("two\n")
        assert written(path) == ["one"]
        is_its_turn.set()
        assert _appended(stream)._thread.begin(lambda: 0).is_over(30)
        stream.flush()
    assert written(path) == ["one", "two"]


def _bug() -> int:
    raise LookupError("of ours")


def test_a_line_is_written_once_though_ctrl_c_ends_the_wait_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(call: Call, seconds: float) -> bool:
        assert really_waits(call, 30)
        raise KeyboardInterrupt

    path, really_waits = tmp_path / "log", Call.is_over
    with log_file(path) as stream:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Call, "is_over", interrupted)
            stream.write("one\n")
        stream.write("two\n")
    assert written(path) == ["one", "two"]


@pytest.mark.usefixtures("standard_error_again")
def test_lines_of_finalisers_in_the_middle_of_another_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """asyncio tells from finalisers of exceptions that nobody has fetched; the collector runs whenever it likes."""

    class Forgotten:
        def __del__(self) -> None:
            logs.event("forgotten")

    found = [Forgotten(), Forgotten()]

    def waits(call: Call, seconds: float) -> bool:
        found.clear()
        return really_waits(call, seconds)

    path, really_waits = tmp_path / "log", Call.is_over
    stream = log_file(path)
    monkeypatch.setattr(Call, "is_over", waits)
    logs.configure("info", "json", stream)
    logs.event("one")
    logs.event("two")
    logs.configure()
    stream.close()
    lines = [json.loads(line) for line in written(path)]
    assert [line["event"] for line in lines] == ["one", "log.lines_lost", "two"]
    assert lines[1]["lines"] == 2


def _appended(stream: TextIO) -> module._Appended:
    assert isinstance(stream.buffer, io.BufferedWriter)
    assert isinstance(stream.buffer.raw, module._Appended)
    return stream.buffer.raw
