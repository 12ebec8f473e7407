"""The canary test: through a whole life of the program, no secret may appear where it does not belong.

Every secret of these tests contains the word CANARY or is known: passwords, tokens, codes, the store's key.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.e2e.bridge import Bridge, running
from tests.e2e.conftest import ALICE, BOB, CAROL, World, ever_expired
from tests.e2e.first_run import first_run
from tests.e2e.logins import replies
from tests.servers.authorization_controls import Fault
from tests.servers.os_user import os_user
from tests.servers.packages import needs

pytestmark = pytest.mark.servers

DUMP = """#!/bin/sh
{ tr '\\0' '\\n' < /proc/$$/environ; tr '\\0' '\\n' < /proc/$$/cmdline; } > "$DUMPS/$(basename "$0").$$"
"""
"""A program that writes down its environment and arguments."""


def life(bridge: Bridge, world: World) -> list[str]:
    """Everything that can happen to tokens and passwords. Returns: the secrets that only this bridge knows."""
    passwords = []
    for address in (ALICE, BOB):
        bridge.authorize(world.provider, address)
        bridge.authorize(world.provider, address, person=BOB if address == ALICE else ALICE, code=1)
        passwords.append(bridge.run("accounts", "password", address).strip())
        passwords.append(bridge.run("accounts", "password", address, "--rotate").strip())
        replies(bridge.login(address))
        replies(bridge.login(address, "wrong-CANARY-password"))
    with world.provider.failing("token", Fault.HTML):
        replies(bridge.login(ALICE))
    world.provider.revoke_person(BOB)
    replies(bridge.login(BOB))
    replies(bridge.login(CAROL))
    bridge.run("accounts", "adopt", ALICE, stdin="CANARY-adopted\n", code=1)
    bridge.get("/?code=CANARY-code&state=CANARY-state")
    bridge.run("check", "--online", "--report", str(bridge.directory / "report.txt"), code=None)
    bridge.run("accounts", "forget", ALICE, "--yes")
    return [*passwords, *world.provider.secrets, *own_secrets(bridge)]


def own_secrets(bridge: Bridge) -> list[str]:
    """The store's key and the administrator's token of a running bridge."""
    (published,) = bridge.directory.rglob("control.json")
    return [(bridge.directory / "key").read_text().strip(), json.loads(published.read_text())["token"]]


@pytest.fixture
def short_lived(world: World) -> Iterator[None]:
    """Access tokens that are stale at once: each login refreshes."""
    with ever_expired(world):
        yield


def assert_clean(text: str, secrets: list[str], where: object) -> None:
    """No secret, plain or in base64 at any offset, and no canary."""
    for secret in [*secrets, "CANARY"]:
        assert secret not in text, f"{secret} in {where}"
        for offset in range(3):
            # The octets around the secret are unknown, so look only for the characters that depend on the secret alone.
            encoded = base64.b64encode(b"\0" * offset + secret.encode()).decode().rstrip("=")[4 * bool(offset) : -1]
            assert encoded not in text, f"{secret} in base64 in {where}"


@pytest.mark.parametrize(
    ("level", "style"), [("debug", "text"), ("info", "json"), ("warning", "text"), ("error", "json")]
)
def test_trap_46_no_secret_is_in_any_log_or_report_at_any_level(
    world: World, tmp_path: Path, short_lived: None, level: str, style: str
) -> None:
    bridge = world.bridge(tmp_path)
    bridge.config["log"] = {"level": "info", "format": style}
    bridge.start("--log-level", level) if level in {"debug", "info"} else bridge.start()
    if level not in {"debug", "info"}:  # these would hide the line "bridge.up", so set the level by a reload
        bridge.config["log"]["level"] = level
        bridge.write_config()
        bridge.process.send_signal(signal.SIGHUP) if bridge.process else None
    try:
        secrets = life(bridge, world)
    finally:
        bridge.stop()
    assert ("token.refreshed" in bridge.log) is (level in {"debug", "info"})
    assert ("login.refused" in bridge.log) is (level != "error")
    assert_clean(bridge.log, secrets, "the log")
    assert_clean((tmp_path / "report.txt").read_text(), secrets, "the report")


def test_nothing_that_is_written_to_any_file_holds_a_secret_in_clear(world: World, tmp_path: Path) -> None:
    """strace shows each write(2) of the serving program to anything but a socket, temporary files included."""
    needs("strace")
    bridge = world.bridge(tmp_path)
    trace = tmp_path.parent / f"{tmp_path.name}.trace"
    calls = "write,pwrite64,writev,pwritev,pwritev2"
    bridge.launcher = ["strace", "-D", "-f", "-y", "-xx", "-s", "1000000", "-e", f"trace={calls}", "-o", str(trace)]
    with running(bridge):
        secrets = life(bridge, world)
    trace_text = trace.read_text()
    trace.unlink()
    written = []
    for line in trace_text.splitlines():
        # 123 write(5</tmp/file>, "\x61\x62"..., 2) = 2; `<unfinished ...>` if another thread came in between; for a
        # file without a name `5</tmp/#12>(deleted)`. Writes that failed count too.
        if (match := re.search(r"write\w*\(\d+<([^>]*)>(?:\(deleted\))?, (.*)", line)) is None:
            assert "write" not in line or "resumed>" in line, line[:200]
            continue
        name = _unescaped(match[1])
        if not name.startswith(("socket:", "TCP", "UDP", "UNIX", "anon_inode")):
            written.append((name, _unescaped(match[2])))
    assert any("store.sqlite" in name for name, _ in written), trace_text[:2000]
    for name, text in written:
        # The store's key, and the token with which commands reach the bridge, go to files that only the owner may read.
        is_for_owner = name.endswith(".new") or Path(name).name.startswith(("key", ".control.json"))
        assert_clean(text, [] if is_for_owner else secrets, name)


def test_peer_16_files_are_for_the_owner_alone_and_hold_no_secret_in_clear(world: World, tmp_path: Path) -> None:
    bridge = world.bridge(tmp_path)
    with running(bridge):
        bridge.authorize(world.provider, ALICE)
        password = bridge.password(ALICE)
        files = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "config.yaml"]
        assert {"key", "store.sqlite", "control.json"} <= {path.name for path in files}
        for path in files:
            assert path.stat().st_mode & 0o077 == 0, path
            content = path.read_bytes()
            assert password.encode() not in content
            for secret in world.provider.secrets:
                assert secret.encode() not in content, path


def test_programs_that_are_started_get_no_secret_by_argument_or_environment(world: World, tmp_path: Path) -> None:
    """The administrator's hook, the browser, and anything else that the bridge starts in a whole life."""
    dumps = tmp_path / "dumps"
    dumps.mkdir()
    bridge = world.bridge(tmp_path)
    for name in ("hook", "browser", "xdg-open"):
        program = tmp_path / name
        program.write_text(DUMP.replace("$DUMPS", str(dumps)))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    bridge.environment |= {
        "OFFICE_SECRET": bridge.config["providers"]["office365"]["client_secret"],
        "BROWSER": f"{tmp_path / 'browser'} %s",
    }
    assert "CANARY" in bridge.environment["OFFICE_SECRET"]
    bridge.config["providers"]["office365"]["client_secret"] = "${OFFICE_SECRET}"
    bridge.config["notify"] = {"command": [str(tmp_path / "hook")]}
    with arguments_below(tmp_path) as seen, running(bridge):
        bridge.authorize(world.provider, BOB)
        sign_in_by_a_real_browser(bridge, world, BOB)
        replies(bridge.login(CAROL))
        bridge.wait_for_log("hook.")
        secrets = [*world.provider.secrets, bridge.password(BOB), *own_secrets(bridge)]
    assert {path.name.split(".")[0] for path in dumps.iterdir()} >= {"hook", "browser"}
    for path in dumps.iterdir():
        assert_clean(path.read_text(), secrets, path)
    assert any("-m bridge" in line for line in seen)
    for line in seen:
        assert_clean(line, secrets, "an argument list")


def test_the_browser_of_the_first_set_up_is_started_with_a_link_that_works_once(tmp_path: Path) -> None:
    """All users can see a program's arguments in the list of processes, but not the link that is printed."""
    pipe, browser = tmp_path / "pipe", tmp_path / "browser"
    os.mkfifo(pipe)
    browser.write_text(f'#!/bin/sh\nprintf %s "$*" > {pipe}\n')
    browser.chmod(0o700)
    with first_run(tmp_path, browser=browser) as run:
        given = pipe.read_text()  # waits for the browser
        assert run.link.rpartition("/")[2] not in given
        statuses = []
        for _ in range(2):
            with closing(http.client.HTTPConnection("localhost", run.port, timeout=30)) as connection:
                connection.request("GET", given.removeprefix(run.base))
                with connection.getresponse() as answer:
                    statuses.append(answer.status)
        assert statuses == [303, 403]


def sign_in_by_a_real_browser(bridge: Bridge, world: World, address: str) -> None:
    """`authorize` without --no-browser."""

    def act(line: str, command: subprocess.Popen[str]) -> None:
        if (match := re.match(r"\s+(https://\S+)", line)) is not None:
            bridge.redirect(world.provider.consent(match[1], address))

    bridge.dialogue("authorize", address, act=act)


@contextmanager
def arguments_below(directory: Path) -> Iterator[set[str]]:
    """Collect each command line that names this directory, polling /proc: our program's and those of what it starts."""
    seen: set[str] = set()
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    words = path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                except OSError:
                    continue
                if str(directory) in words:
                    seen.add(words)
            over.wait(0.02)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def test_a_crash_leaves_no_core_of_the_running_program(world: World, tmp_path: Path) -> None:
    bridge = world.bridge(tmp_path)
    bridge.launcher = ["sh", "-c", 'ulimit -c unlimited; exec "$@"', "sh"]
    bridge.start()
    bridge.authorize(world.provider, ALICE)
    limits = Path(f"/proc/{bridge.pid}/limits").read_text()
    assert re.search(r"Max core file size +0 +0 ", limits), limits
    assert bridge.stop(signal.SIGABRT) == -signal.SIGABRT
    assert not list(tmp_path.glob("core*"))


def test_nobody_but_root_looks_into_the_running_program(world: World) -> None:
    """Not even another program of the same user; with `workers` this holds for all processes."""
    with os_user(f"mb-service-{os.getpid()}") as service, tempfile.TemporaryDirectory(prefix="mb-") as name:
        bridge = world.bridge(Path(name))
        bridge.config["workers"] = 2
        ca_file = bridge.directory / "ca.pem"
        shutil.copy(world.authority.ca_file, ca_file)
        for section in bridge.config["providers"].values():
            section["ca_file"] = str(ca_file)
        for path in (bridge.directory, ca_file, bridge.write_config()):
            os.chown(path, service.uid, service.gid)
        bridge.launcher = list(service.launcher())
        with running(bridge):
            bridge.wait_until(lambda: bridge.log.count("worker.up") == 2, "two workers")
            for pid in (bridge.pid, *bridge.workers):
                assert f"Uid:\t{service.uid}\t" in Path(f"/proc/{pid}/status").read_text()
                assert "Permission denied" in service.run("cat", f"/proc/{pid}/environ").stderr


def _unescaped(text: str) -> str:
    return re.sub(r"\\x([0-9a-f]{2})", lambda found: chr(int(found[1], 16)), text)
