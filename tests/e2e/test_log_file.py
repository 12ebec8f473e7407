"""`log: {file: …}`: the log of a program that has no terminal, and whose standard error nobody keeps."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.bridge import CANARY, Bridge, running
from tests.e2e.conftest import ALICE, World
from tests.e2e.logins import assert_replies, replies
from tests.servers.disks import hanging, open_disk

pytestmark = pytest.mark.servers

SECONDS = 30


@contextlib.contextmanager
def logging(bridge: Bridge, file: Path) -> Iterator[subprocess.Popen[str]]:
    """Run the program, which logs to `file`; its standard error is read at the end."""
    bridge.write_config()
    process = subprocess.Popen(
        bridge.command("run"), stderr=subprocess.PIPE, text=True, env=bridge.environ, cwd=bridge.directory
    )
    bridge.process = process
    try:
        until_in(bridge, file, "bridge.up")
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(SECONDS)
        bridge.process = None


def until_in(bridge: Bridge, file: Path, words: str) -> None:
    bridge.wait_until(lambda: file.exists() and words in file.read_text(), f"{words} in {file}", SECONDS)


@pytest.mark.parametrize("workers", [1, 2])
def test_all_that_is_logged_is_in_the_file_and_nothing_on_standard_error(
    world: World, tmp_path: Path, workers: int
) -> None:
    bridge = world.bridge(tmp_path)
    file = tmp_path / "logs" / "mail-bridge.log"
    bridge.config |= {"log": {"level": "debug", "file": "logs/mail-bridge.log"}, "workers": workers}
    with logging(bridge, file) as process:
        bridge.sign_in(world.provider, ALICE)
        assert_replies(replies(bridge.login(ALICE)), "OK", "+OK", "235")
        until_in(bridge, file, "session.done")
    assert process.stderr is not None
    with process.stderr:
        said = process.stderr.read()
    assert [line.split()[-2:] for line in said.splitlines()] == [["log.goes_on", f"file={file}"]]
    log = file.read_text()
    assert log.count("session.open") == log.count("session.ready") == 3
    assert "client.sent" in log, "the dialogue before a login, which a worker has"
    assert log.count("listener.down") == 3, "to its end"
    assert CANARY not in log
    report = tmp_path / "report"
    bridge.run("check", "--report", str(report), code=None)
    assert "the last lines of mail-bridge.log:" in report.read_text()
    assert "session.ready" in report.read_text()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_log_on_a_drive_that_hangs_stops_no_mail(world: World, tmp_path: Path, workers: int) -> None:
    bridge = world.bridge(tmp_path)
    with open_disk(tmp_path / "disk") as disk:
        file = disk / "mail-bridge.log"
        bridge.config |= {"log": {"file": str(file)}, "workers": workers}
        with logging(bridge, file) as process:
            bridge.sign_in(world.provider, ALICE)
            login = bridge.login(ALICE)
            assert_replies(replies(login), "OK", "+OK", "235")
            with hanging(disk):
                assert_replies(replies(login), "OK", "+OK", "235")
            assert_replies(replies(login), "OK", "+OK", "235")
            bridge.wait_until(lambda: file.read_text().count("session.done") >= 6, "the lines of both", SECONDS)
        assert process.stderr is not None
        process.stderr.close()


def test_a_reload_moves_it_and_what_cannot_be_written_changes_nothing(world: World, tmp_path: Path) -> None:
    bridge = world.bridge(tmp_path)
    bridge.config["workers"] = 2
    first, second = tmp_path / "first.log", tmp_path / "second.log"
    with running(bridge):
        bridge.sign_in(world.provider, ALICE)
        bridge.config["log"]["file"] = "first.log"
        bridge.write_config()
        bridge.wait_for_log("log.goes_on")
        until_in(bridge, first, "configuration.read")
        assert replies(bridge.login(ALICE))["imap"] == "OK"
        until_in(bridge, first, "session.done")
        assert "session.ready" not in bridge.log

        (tmp_path / "no directory").touch()
        bridge.config["log"]["file"] = "no directory/mail-bridge.log"
        bridge.config["accounts"].append({"address": "dave@example.com", "provider": "gmail"})
        bridge.write_config()
        until_in(bridge, first, "configuration.refused")
        assert f"log.file: {tmp_path}/no directory/mail-bridge.log cannot be written" in first.read_text()
        assert "dave@example.com" not in bridge.run("status")

        bridge.config["log"]["file"] = "second.log"
        bridge.write_config()
        until_in(bridge, second, "account dave@example.com added")
        until_in(bridge, first, "log.goes_on")
        del bridge.config["log"]["file"]
        before = bridge.log.count("configuration.read")
        bridge.write_config()
        bridge.wait_until(lambda: bridge.log.count("configuration.read") > before, "configuration.read")
        assert replies(bridge.login(ALICE))["imap"] == "OK"
        bridge.wait_for_log("session.done")


def test_a_file_that_cannot_be_written_ends_the_start_with_a_sentence(world: World, tmp_path: Path) -> None:
    bridge = world.bridge(tmp_path)
    (tmp_path / "no directory").touch()
    bridge.config["log"]["file"] = "no directory/mail-bridge.log"
    said = bridge.run("run", code=2)
    assert said == f"log.file: {tmp_path}/no directory/mail-bridge.log cannot be written: Not a directory\n"


@pytest.mark.skipif(sys.platform != "linux", reason="where the file is, by XDG; /proc")
@pytest.mark.parametrize("workers", [1, 2])
def test_without_standard_error_there_is_a_file_where_logs_go(world: World, tmp_path: Path, workers: int) -> None:
    """Like pythonw on Windows, which start at login uses. No socket must get the number of a standard descriptor."""
    bridge = world.bridge(tmp_path)
    bridge.config["workers"] = workers
    bridge.write_config()
    environ = bridge.environ | {"XDG_STATE_HOME": str(tmp_path / "state")}
    file = tmp_path / "state" / "mail-bridge" / "log" / "mail-bridge.log"
    without = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *bridge.command("run")]
    process = bridge.process = subprocess.Popen(without, text=True, env=environ, cwd=tmp_path)
    try:
        until_in(bridge, file, "bridge.up")
        bridge.wait_until(lambda: len(bridge.workers) == (0 if workers == 1 else workers), "a worker")
        for number in (bridge.pid, *bridge.workers):
            assert {os.readlink(f"/proc/{number}/fd/{descriptor}") for descriptor in range(3)} == {os.devnull}
        replies(bridge.login(ALICE))
        until_in(bridge, file, "client.sent")  # logged by a worker, which has the dialogue
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
        bridge.process = None
    assert os.stat(file).st_mode & 0o777 == 0o600
    bridge.config["workers"] = "several"
    bridge.write_config()
    assert subprocess.run(without, env=environ, cwd=tmp_path, timeout=SECONDS, check=False).returncode == 2
    assert "workers: " in file.read_text(), "and why it does not start"
