"""What scripts/bench/workers.py measures: bridges in front of the mail server of load.c; and sessions that stay."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bench.load import PROTOCOLS, Load, Target
from tests.servers.authorization import authorization_server
from tests.servers.ca import Authority
from tests.servers.daemons import free_ports

ROOT = Path(__file__).resolve().parents[2]

PERSON = "alice@example.com"
BOUND = "bob@example.com"
"""Its mailbox is only for the programs of the user who runs this: each login depends on the user of the program."""
# --- a session that stays -----------------------------------------------------------------------------------------


class Client:
    """One mail program's connection, by IMAP."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.lines = self.socket.makefile("rb")

    def say(self, line: str, until: bytes) -> bytes:
        """Send a line, unless it is empty, and wait for the answer that begins with `until`."""
        if line:
            self.socket.sendall(line.encode() + b"\r\n")
        while answer := self.lines.readline():
            if answer.startswith(until):
                return answer
        raise SystemExit(f"no {until!r} to {line.split()[:1]}")

    def login(self, address: str, password: str) -> None:
        """Log in to the mailbox."""
        self.say("", b"* OK")
        self.say(f"a LOGIN {address} {password}", b"a OK")

    def close(self) -> None:
        """As a mail program ends: after the server."""
        self.socket.sendall(b"z LOGOUT\r\n")
        while self.lines.readline():
            pass
        self.lines.close()
        self.socket.close()


# --- the bridges --------------------------------------------------------------------------------------------------


@dataclass
class Bridge:
    """A running one."""

    directory: Path
    config: dict[str, Any]
    workers: int
    environment: dict[str, str]
    load: Load
    """What it is loaded with."""
    descriptors: int = 0
    """The most that each of its processes may have open; 0 for the system's own limit."""
    process: subprocess.Popen[bytes] | None = None
    passwords: dict[str, str] = field(default_factory=dict)
    """By address."""

    @property
    def ports(self) -> dict[str, int]:
        """Where mail clients connect."""
        return {name: int(where.rsplit(":", 1)[1]) for name, where in self.config["listeners"].items()}

    def target(self, protocol: str, address: str) -> Target:
        """For mail programs of this account."""
        return Target(self.ports[protocol], self.passwords[address])

    def command(self, *words: str, stdin: str = "") -> str:
        """Run one command of the program. Returns: what it printed."""
        command = [sys.executable, "-m", "bridge", "--config", str(self.directory / "config.yaml"), *words]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, env=self.environment)
        if done.returncode:
            raise SystemExit(f"{words}: {done.stdout}{done.stderr}")
        return done.stdout.strip()

    def start(self, refresh_token: str) -> None:
        """Run it, signed in."""
        path = self.directory / "config.yaml"
        path.write_text(yaml.safe_dump(self.config))
        path.chmod(0o600)
        log = (self.directory / "log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bridge", "--config", str(path), "run"],
            stderr=log,
            env=self.environment,
            preexec_fn=self._limit,
        )
        while b"bridge.up" not in (self.directory / "log").read_bytes():
            if self.process.poll() is not None:
                raise SystemExit((self.directory / "log").read_text())
            time.sleep(0.05)
        for address in (PERSON, BOUND):
            self.command("accounts", "adopt", address, stdin=refresh_token)
            self.passwords[address] = self.command("accounts", "password", address)

    def _limit(self) -> None:
        if self.descriptors:
            resource.setrlimit(resource.RLIMIT_NOFILE, (self.descriptors, self.descriptors))

    def family(self) -> list[int]:
        """Its process and all below it."""
        assert self.process is not None
        parents = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        found = [self.process.pid]
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid]
        return found

    def cpu(self) -> list[float]:
        """Seconds of each process, user and system: ours first, then the workers'."""
        return [sum(map(_seconds, Path(f"/proc/{pid}/task").iterdir())) for pid in self.family()]

    def memory(self) -> list[int]:
        """KiB (PSS) of each process."""
        found = []
        for pid in self.family():
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            found += [int(line.split()[1]) for line in lines if line.startswith("Pss:")]
        return found

    def sessions(self) -> list[int]:
        """Mail clients that each process serves: its accepted connections at the mail ports."""
        ours = set(self.ports.values())
        inodes = set()
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            words = line.split()
            if int(words[1].rpartition(":")[2], 16) in ours and words[3] == "01":
                inodes.add(f"socket:[{words[9]}]")
        counts: Counter[int] = Counter()
        for pid in self.family():
            for entry in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    counts[pid] += os.readlink(entry) in inodes
        family = self.family()
        return [
            counts[pid] for pid in (family[1:] or family)
        ]  # our own process may hold some until they have logged in

    def stop(self) -> None:
        """And wait."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait()


def _seconds(thread: Path) -> float:
    """By the scheduler, in nanoseconds: the ticks of `stat` are as long as five logins."""
    with contextlib.suppress(OSError):  # it has just ended
        return int((thread / "schedstat").read_text().split()[0]) / 1e9
    return 0.0


@contextlib.contextmanager
def bridges(*workers: int, descriptors: int = 0) -> Iterator[list[Bridge]]:
    """One with each number of workers, all signed in."""
    with tempfile.TemporaryDirectory(prefix="workers-") as name, contextlib.ExitStack() as stack:
        directory = Path(name)
        authority = Authority(directory)
        certificate, key = authority.write_pair(directory)
        listening = {protocol: socket.create_server(("127.0.0.1", 0), backlog=512) for protocol in PROTOCOLS}
        ports = {protocol: sock.getsockname()[1] for protocol, sock in listening.items()}
        load = Load(directory)
        process = stack.enter_context(load.serve(certificate, key, listening))
        stack.callback(process.kill)
        provider = stack.enter_context(authorization_server(authority))
        found = []
        for place, number in enumerate(workers):
            home = directory / str(place)
            home.mkdir()
            mine = free_ports(4)
            section = provider.google_config() | {
                protocol: {"host": "localhost", "port": port, "tls": "implicit"} for protocol, port in ports.items()
            }
            section |= {"redirect_uri": f"http://localhost:{mine[3]}/", "ca_file": str(authority.ca_file)}
            config = {
                "providers": {"it": section},
                "accounts": [
                    {"address": PERSON, "provider": "it"},
                    {"address": BOUND, "provider": "it", "sign_in_as": PERSON, "os_user": str(os.getuid())},
                ],
                "listeners": {p: f"127.0.0.1:{port}" for p, port in zip(PROTOCOLS, mine, strict=False)},
                "console": f"127.0.0.1:{mine[3]}",
                "store": {"path": str(home / "store.sqlite"), "key_file": str(home / "key")},
                **({"workers": number} if number > 1 else {}),
            }
            environment = {
                **{name: os.environ[name] for name in ("PATH", "LC_ALL") if name in os.environ},
                "HOME": str(home),
                "XDG_DATA_HOME": str(home),
                "PYTHONPATH": str(ROOT),
            }
            bridge = Bridge(home, config, number, environment, load, descriptors)
            stack.callback(bridge.stop)
            bridge.start(provider.issue_refresh_token(PERSON))
            found.append(bridge)
        yield found
