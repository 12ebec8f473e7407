"""One check for every fault: it must leave nothing behind."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import socket
import sqlite3
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.bridge import Bridge
from tests.e2e.clients import PROTOCOLS, Login
from tests.e2e.logins import YES, answered

OBSERVER = Path(__file__).parent / "observer"
SETTLE_SECONDS = 20.0
"""Time for what ends by itself: the bridge listens a second to a client that leaves, two to a half-closed session."""
GROWTH = 24 * 1024 * 1024
"""Octets by which memory may have grown since the bridge was at rest; one lost 64 KiB buffer per fault would show."""


@contextmanager
def observed(bridge: Bridge) -> Iterator[Bridge]:
    """Once the bridge runs, its tasks and objects can be counted, and those of its workers."""
    with tempfile.TemporaryDirectory(prefix="mb-") as name:  # short: it holds the names of Unix sockets
        bridge.environment["PYTHON_MAIL_BRIDGE_OBSERVER"] = name
        bridge.environment["PYTHONPATH"] = os.pathsep.join((str(OBSERVER), bridge.environ["PYTHONPATH"]))
        yield bridge


@dataclass(frozen=True, slots=True)
class Look:
    """A bridge at one moment."""

    tasks: Counter[str]
    objects: Counter[str]
    """Channels, sessions, TLS sockets, aiosmtpd's servers."""
    descriptors: Counter[str]
    threads: int
    memory: int
    blocks: int
    """Memory blocks of the bridge's own process that Python objects take, without garbage; workers are not counted."""
    heap: int
    """Octets that the same process uses outside these blocks: objects of more than 512 octets, and C libraries."""

    @classmethod
    def at(cls, bridge: Bridge) -> Look:
        """All processes of the bridge together, once all of them run: a worker may have died a moment ago."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            with contextlib.suppress(OSError):  # a process may end meanwhile
                looks = [cls._into(bridge, pid) for pid in (bridge.pid, *bridge.workers)]
                seen = [look for look in looks if look]
                if len(seen) == processes(bridge):
                    return functools.reduce(cls._and, seen)
            assert time.monotonic() < deadline, f"{processes(bridge)} processes do not run\n{_of_workers(bridge.log)}"
            threading.Event().wait(0.1)

    @classmethod
    def _into(cls, bridge: Bridge, pid: int) -> Look | None:
        """A look at one process; None if it is still starting."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(60)
            sock.connect(f"{bridge.environment['PYTHON_MAIL_BRIDGE_OBSERVER']}/{pid}")
            found = json.loads(b"".join(iter(lambda: sock.recv(65536), b"")))
        if found is None:
            return None
        descriptors, threads, memory = figures(pid)
        tasks, objects = Counter(found["tasks"]), Counter(found["objects"])
        return cls(tasks, objects, descriptors, threads, memory, found["blocks"], found["heap"])

    def _and(self, other: Look) -> Look:
        return Look(
            self.tasks + other.tasks,
            self.objects + other.objects,
            self.descriptors + other.descriptors,
            self.threads + other.threads,
            self.memory + other.memory,
            self.blocks,
            self.heap,
        )

    def more_than(self, rest: Look) -> dict[str, object]:
        """What exists now but did not at `rest`."""
        found: dict[str, object] = {}
        for name in ("tasks", "objects", "descriptors"):
            if surplus := getattr(self, name) - getattr(rest, name):
                found[name] = dict(surplus)
        if self.threads > rest.threads:
            found["threads"] = self.threads - rest.threads
        return found


def _of_workers(log: str) -> str:
    """The last starts and deaths of workers, and the end of the log."""
    lives = [line for line in log.splitlines() if "] worker." in line]
    return "\n".join([*lives[-20:], "", log[-5000:]])


def processes(bridge: Bridge) -> int:
    """How many processes the bridge should have."""
    count = int(bridge.config.get("workers", 1))
    return count + 1 if count > 1 else 1


def figures(pid: int) -> tuple[Counter[str], int, int]:
    """Open descriptors by kind, threads, resident octets."""
    kinds: Counter[str] = Counter()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            kinds[os.readlink(entry).split(":")[0].split(" ")[0]] += 1
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return kinds, int(status["Threads"]), int(status["VmRSS"].split()[0]) * 1024


@dataclass(frozen=True, slots=True)
class Settled:
    """The check. Create it when the bridge is at rest and has done everything once."""

    bridge: Bridge
    logins: tuple[Login, ...]
    rest: Look
    grants: dict[str, bytes]

    @classmethod
    def of(cls, bridge: Bridge, *logins: Login) -> Settled:
        """Log in by every login and protocol, then look until nothing changes any more."""
        for _ in range(3):
            for login in logins:
                opens(login, at_once=processes(bridge))
        look = Look.at(bridge)
        deadline = time.monotonic() + SETTLE_SECONDS
        while (again := _next_look(bridge)).more_than(look) or look.more_than(again):
            look = again
            assert time.monotonic() < deadline, "the bridge is never at rest"
        return cls(bridge, logins, look, {login.username: grant(bridge, login.username) for login in logins})

    def check(self, *, are_grants_kept: bool = True) -> Look:
        """Check that nothing is left behind, that the next logins work and no grant was lost. Returns: the new look."""
        for login in self.logins:
            opens(login, at_once=processes(self.bridge))
        deadline = time.monotonic() + SETTLE_SECONDS
        while surplus := (look := Look.at(self.bridge)).more_than(self.rest):
            assert time.monotonic() < deadline, f"left behind: {surplus}\n{self.bridge.log[-5000:]}"
            threading.Event().wait(0.1)
        assert look.memory < self.rest.memory + GROWTH, f"{look.memory} octets, {self.rest.memory} at rest"
        if are_grants_kept:
            for address, sealed in self.grants.items():
                assert grant(self.bridge, address) == sealed, f"the grant of {address} has changed"
        assert "Traceback" not in self.bridge.log, self.bridge.log
        assert "session.bug" not in self.bridge.log, self.bridge.log
        assert "sign_in.needed" not in self.bridge.log
        return look


def _next_look(bridge: Bridge) -> Look:
    threading.Event().wait(1.2)
    return Look.at(bridge)


def grant(bridge: Bridge, address: str) -> bytes:
    """The sealed grant of this address, from the store."""
    with contextlib.closing(sqlite3.connect(f"file:{bridge.config['store']['path']}?mode=ro", uri=True)) as database:
        (table,) = (name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE sql LIKE '%value%'"))
        row = database.execute(f"SELECT value FROM {table} WHERE key = ?", (f"grant/{address}",)).fetchone()
    assert row is not None, f"the grant of {address} is gone"
    return bytes(row[0])


def opens(login: Login, *, at_once: int = 1) -> None:
    """Log in by each protocol as a mail program does, and retry until it works or SETTLE_SECONDS have passed. Args:
    at_once, how many sessions to hold at the same time, so that each worker has one."""
    for protocol in PROTOCOLS:
        with contextlib.ExitStack() as sessions:
            for _ in range(at_once):
                deadline = time.monotonic() + SETTLE_SECONDS
                while not (said := _told(login, protocol, sessions)).startswith(YES[protocol]):
                    assert time.monotonic() < deadline, f"{protocol}: {said}"
                    threading.Event().wait(0.1)


def _told(login: Login, protocol: str, sessions: contextlib.ExitStack) -> str:
    """The answer to a login; the session stays open if the login was accepted."""
    with contextlib.ExitStack() as session:
        said = session.enter_context(answered(login, protocol))
        if said.startswith(YES[protocol]):
            sessions.push(session.pop_all())
        return said
