"""10,000 hostile dialogues with the running program, while a mail client must not notice anything.

`MAIL_BRIDGE_DIALOGUES=100000 MAIL_BRIDGE_SEED=7 pytest -s tests/e2e/test_hostile.py` for more dialogues, and others.
"""

from __future__ import annotations

import imaplib
import os
import poplib
import re
import smtplib
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bridge.relay.limits import CONSOLE_CONNECTIONS
from tests.e2e.bridge import Bridge
from tests.e2e.clients import Login
from tests.e2e.conftest import ALICE, World
from tests.fuzz.dialogues import COMMANDS

pytestmark = [pytest.mark.servers, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
DIALOGUES = int(os.environ.get("MAIL_BRIDGE_DIALOGUES", "10000"))
SEED = int(os.environ.get("MAIL_BRIDGE_SEED", "0"))
HALF_OPEN = 190
"""Connections with an unfinished line, all the time. With those above they take fewer than half of the places; beyond
half, each user only gets a share."""
PATIENCE = 30.0
"""Seconds that a mail client waits; anything slower is a failure."""
GROWTH = 16 * 1024 * 1024
"""Octets by which memory may grow. Measured: 7 MiB for 10,000 dialogues, and as much for 10,000 with the console only,
some of it garbage that waits to be collected."""
LONGEST = 96 * 1024 * 1024
"""Octets of memory for everything that one user may send at once, on all connections that the user gets."""
VALUE = r"""('[^']*'|"[^"]*"|\S+)"""
"""A value in a line of the log: quoted if it has a blank, and in double quotes if it also has a single quote."""
BUGS = ("Traceback", "session.bug", "request_failed", "Task exception", "never retrieved", "invalid state")


@dataclass
class Witness:
    """A mail client that logs in by all three protocols, again and again."""

    login: Login
    seconds: dict[str, list[float]] = field(default_factory=lambda: {"imap": [], "pop3": [], "smtp": []})
    problem: BaseException | None = None

    def once(self) -> None:
        for protocol, act in (("imap", self._imap), ("pop3", self._pop3), ("smtp", self._smtp)):
            started = time.monotonic()
            act()
            self.seconds[protocol].append(time.monotonic() - started)

    def _imap(self) -> None:
        with imaplib.IMAP4("127.0.0.1", self.login.imap, timeout=PATIENCE) as client:
            client.login(self.login.username, self.login.password)
            assert client.noop()[0] == "OK"

    def _pop3(self) -> None:
        client = poplib.POP3("127.0.0.1", self.login.pop3, timeout=PATIENCE)
        client.user(self.login.username)
        client.pass_(self.login.password)
        client.quit()

    def _smtp(self) -> None:
        with smtplib.SMTP("127.0.0.1", self.login.smtp, timeout=PATIENCE) as client:
            client.login(self.login.username, self.login.password)
            assert client.noop()[0] == 250

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Log in again and again in a thread while the context is open; raises the first failure at its end."""
        over = threading.Event()

        def watch() -> None:
            try:
                while not over.is_set():
                    self.once()
            except BaseException as problem:  # noqa: BLE001  raised below
                self.problem = problem

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
        if self.problem is not None:
            raise self.problem

    def medians(self) -> str:
        return ", ".join(f"{name} {statistics.median(times) * 1000:.0f} ms" for name, times in self.seconds.items())


@contextmanager
def half_open(ports: dict[str, int], count: int) -> Iterator[None]:
    """Connections that have begun a line and say nothing more."""
    sockets = []
    try:
        for number in range(count):
            name, begun = (("imap", b"a1 LOGIN ali"), ("pop3", b"USER ali"), ("smtp", b"EHLO crm"))[number % 3]
            sock = socket.create_connection(("127.0.0.1", ports[name]), timeout=PATIENCE)
            sock.sendall(begun)
            sockets.append(sock)
        yield
    finally:
        for sock in sockets:
            sock.close()


def attack(ports: dict[str, int], count: int) -> None:
    words = [*(str(ports.get(name, 0)) for name in COMMANDS), str(SEED * 1_000_000), str(count)]
    subprocess.run([sys.executable, "-m", "tests.fuzz.attack", *words], cwd=ROOT, check=True)


@pytest.fixture
def ports(fresh: Bridge) -> dict[str, int]:
    listeners = {name: int(str(where).rsplit(":", 1)[1]) for name, where in fresh.config["listeners"].items()}
    return {**listeners, "console": fresh.console_port}


def test_ten_thousand_hostile_dialogues_disturb_nobody(
    fresh: Bridge, world: World, ports: dict[str, int], capsys: pytest.CaptureFixture[str]
) -> None:
    fresh.sign_in(world.provider, ALICE)
    login = fresh.login(ALICE)
    before, during, after = Witness(login), Witness(login), Witness(login)
    for _ in range(20):
        before.once()
    fresh.get(f"/sign-in/{ALICE}")  # the first page loads what pages need
    base = fresh.reset_peak()
    started = time.monotonic()
    with half_open(ports, HALF_OPEN), during.watching():
        attack(ports, DIALOGUES)
    seconds = time.monotonic() - started
    growth = fresh.peak() - base
    for _ in range(20):
        after.once()
    count = len(during.seconds["smtp"])
    with capsys.disabled():
        print(
            f"\n{DIALOGUES} dialogues in {seconds:.0f} s, {HALF_OPEN} half-open lines, "
            f"memory +{growth / 2**20:.1f} MiB; logins before: {before.medians()}; "
            f"during ({count} of each): {during.medians()}; after: {after.medians()}"
        )
    assert count > 2
    assert growth < GROWTH
    for word in BUGS:
        assert word not in fresh.log
    # A shuffled dialogue may send the password where the name belongs (`LOGIN {17}`), and names are logged.
    assert "CANARY" not in re.sub(rf"username={VALUE}", "", fresh.log)
    assert fresh.json("status")["accounts"][0]["state"] == "ready"


def test_visitors_of_the_console_by_the_thousand_leave_nothing_behind(fresh: Bridge, ports: dict[str, int]) -> None:
    """They connect and hang up as fast as they can, since nothing delays them as a wrong password would."""
    fresh.get("/")  # the first visitor loads the console
    base = fresh.reset_peak()
    attack({"console": ports["console"]}, 4 * DIALOGUES)  # a quarter of these are for the console
    assert fresh.peak() - base < GROWTH
    assert fresh.get("/")[0] == 200
    assert not any(word in fresh.log for word in BUGS)


def test_the_longest_requests_on_all_places_that_one_user_gets_have_a_bound(
    fresh: Bridge, ports: dict[str, int], capsys: pytest.CaptureFixture[str]
) -> None:
    fresh.get("/")
    begin = f"GET / HTTP/1.1\r\nHost: localhost:{ports['console']}\r\n".encode()
    form = b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 65000\r\n\r\n" + b"a" * 64_000
    header = b"X: " + b"a" * 30_000
    base = fresh.reset_peak()
    many = (begin + b"a:\r\n" * 120 + b"\r\n") * 40
    for said in (begin + header, begin + (header + b"\r\n") * 30, begin.replace(b"GET", b"POST") + form, many):
        with ExitStack() as visitors:
            for _ in range(CONSOLE_CONNECTIONS):
                sock = visitors.enter_context(socket.create_connection(("127.0.0.1", ports["console"]), PATIENCE))
                sock.setblocking(False)
                with suppress(ConnectionError, BlockingIOError):
                    sock.send(said)
            sock.settimeout(PATIENCE)
            with suppress(ConnectionError):
                assert sock.recv(1) == b"", "the last one is sent away, and those before it have been heard"
    growth = fresh.peak() - base
    with capsys.disabled():
        print(f"\nthe longest requests on all places that one user gets: memory +{growth / 2**20:.1f} MiB")
    assert growth < LONGEST
    assert not any(word in fresh.log for word in BUGS)


ENDLESS = {
    "imap": (b"a1 LOGIN ", b"a1 LOGIN {4294967295+}\r\n", b"a1 LOGIN {4096+}\r\n"),
    "pop3": (b"USER ", b"AUTH PLAIN "),
    "smtp": (b"EHLO ", b"AUTH PLAIN "),
    "console": (
        b"GET /",
        b"POST / HTTP/1.1\r\nHost: elsewhere\r\nContent-Length: 4294967295\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: CONSOLE\r\nContent-Type: FORM\r\nContent-Length: 4294967295\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: CONSOLE\r\nContent-Type: FORM\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n",
    ),
}
"""How an endless line, literal or body begins. The console reads a body only for its own host name and a form."""
MOST = {"imap": 16 * 2**20, "pop3": 16 * 2**20, "smtp": 16 * 2**20, "console": 4 * 2**30}
"""The most octets that a client can send: both sides' socket buffers, and of a body as much as comes in one second."""


def test_a_line_a_literal_or_a_body_without_end_is_cut_off(fresh: Bridge, ports: dict[str, int]) -> None:
    fresh.get("/")  # the first visitor loads the console
    own = f"localhost:{ports['console']}".encode()
    for port, beginnings in ENDLESS.items():
        for begun in beginnings:
            begin = begun.replace(b"CONSOLE", own).replace(b"FORM", b"application/x-www-form-urlencoded")
            base = fresh.reset_peak()
            sent = 0
            with socket.create_connection(("127.0.0.1", ports[port]), timeout=PATIENCE) as sock:
                sock.sendall(begin)
                with suppress(ConnectionError):
                    while sent < MOST[port]:
                        sock.sendall(b"x" * 65536)
                        sent += 65536
            assert sent < MOST[port], begin
            assert fresh.peak() - base < 4 * 1024 * 1024, begin
    assert not any(word in fresh.log for word in BUGS)


@pytest.mark.parametrize("line", [b"X: y\r\n", b"X: " + b"y" * 30_000 + b"\r\n", b"\r\n"])
def test_headers_without_end_are_cut_off(fresh: Bridge, ports: dict[str, int], line: bytes) -> None:
    fresh.get("/")
    begin = b"" if line == b"\r\n" else f"GET / HTTP/1.1\r\nHost: localhost:{ports['console']}\r\n".encode()
    base, sent, lines = fresh.reset_peak(), 0, line * (65536 // len(line))
    with socket.create_connection(("127.0.0.1", ports["console"]), timeout=PATIENCE) as sock:
        sock.sendall(begin)
        with suppress(ConnectionError):
            while sent < MOST["imap"]:
                sock.sendall(lines)
                sent += len(lines)
    assert sent < MOST["imap"]
    assert fresh.peak() - base < 4 * 1024 * 1024


def test_commands_without_a_login_end(fresh: Bridge, ports: dict[str, int]) -> None:
    for port, command in (("imap", b"a NOOP\r\n"), ("pop3", b"CAPA\r\n"), ("smtp", b"NOOP\r\n")):
        with socket.create_connection(("127.0.0.1", ports[port]), timeout=PATIENCE) as sock:
            answers = sock.makefile("rb")
            with suppress(ConnectionError):
                for _ in range(200):
                    sock.sendall(command)
            assert len(answers.read().splitlines()) < 2000, port
    assert not any(word in fresh.log for word in BUGS)
