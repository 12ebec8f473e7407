"""What scripts/bench/workers.py measures with: a cheap mail server, mail clients, and bridges in front of it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import multiprocessing
import os
import resource
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.servers.authorization import authorization_server
from tests.servers.ca import Authority
from tests.servers.daemons import free_ports

ROOT = Path(__file__).resolve().parents[2]

PERSON = "alice@example.com"
BOUND = "bob@example.com"
"""Whose mailbox is for the programs of one user, who runs this: each login hangs on whose program it is."""
MEBIBYTE = 1 << 20
MESSAGE = hashlib.shake_256(b"mail").digest(MEBIBYTE)
"""Not compressible, and the same for whoever compares."""
GREETING = {
    "imap": b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=XOAUTH2] ready\r\n",
    "pop3": b"+OK ready\r\n",
    "smtp": b"220 upstream.example ESMTP\r\n",
}


# --- upstream: a process of its own, a thread for each connection -----------------------------------------------------


def upstream(ports: dict[str, socket.socket], certificate: str, key: str) -> None:
    """IMAP, POP3 and SMTP with implicit TLS, for whoever shows any token."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    threading.stack_size(256 * 1024)
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    for protocol, sock in ports.items():
        threading.Thread(target=accept, args=(protocol, sock, context)).start()


def accept(protocol: str, listening: socket.socket, context: ssl.SSLContext) -> None:
    while True:
        client, _ = listening.accept()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=answer, args=(protocol, client, context), daemon=True).start()


def answer(protocol: str, client: socket.socket, context: ssl.SSLContext) -> None:
    with contextlib.suppress(OSError, ssl.SSLError), context.wrap_socket(client, server_side=True) as tls:
        tls.sendall(GREETING[protocol])
        lines = tls.makefile("rb")
        while line := lines.readline():
            words = line.split()
            tls.sendall(REPLIES[protocol](words))
            if words[-1].upper() in {b"LOGOUT", b"QUIT"}:
                return


def imap_reply(words: list[bytes]) -> bytes:
    tag, command = words[0], words[1].upper()
    if command == b"CAPABILITY":
        return b"* CAPABILITY IMAP4rev1 SASL-IR AUTH=XOAUTH2\r\n" + tag + b" OK done\r\n"
    if command == b"FETCH":  # FETCH <mebibytes>
        count = int(words[2])
        body = b"".join(b"* 1 FETCH (BODY[] {%d}\r\n" % MEBIBYTE + MESSAGE + b")\r\n" for _ in range(count))
        return body + tag + b" OK done\r\n"
    return (b"* BYE bye\r\n" if command == b"LOGOUT" else b"") + tag + b" OK done\r\n"


def pop3_reply(words: list[bytes]) -> bytes:
    if words[0].upper() == b"CAPA":
        return b"+OK\r\nSASL XOAUTH2\r\nUSER\r\n.\r\n"
    if words == [b"AUTH", b"XOAUTH2"]:
        return b"+ \r\n"
    return b"+OK done\r\n"


def smtp_reply(words: list[bytes]) -> bytes:
    command = words[0].upper()
    if command == b"EHLO":
        return b"250-upstream.example\r\n250-SIZE 35882577\r\n250-8BITMIME\r\n250 AUTH XOAUTH2\r\n"
    if command == b"AUTH":
        return b"235 2.7.0 Accepted\r\n" if len(words) > 2 else b"334 \r\n"
    return b"235 2.7.0 Accepted\r\n" if len(words[0]) > 20 else b"250 2.0.0 done\r\n"


REPLIES: dict[str, Callable[[list[bytes]], bytes]] = {"imap": imap_reply, "pop3": pop3_reply, "smtp": smtp_reply}


# --- mail clients -------------------------------------------------------------------------------------------------


class Client:
    """One mail program's connection."""

    def __init__(self, protocol: str, port: int) -> None:
        self.protocol = protocol
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
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
        """As the protocol has it."""
        if self.protocol == "imap":
            self.say("", b"* OK")
            self.say(f"a LOGIN {address} {password}", b"a OK")
        elif self.protocol == "pop3":
            self.say("", b"+OK")
            self.say(f"USER {address}", b"+OK")
            self.say(f"PASS {password}", b"+OK")
        else:
            self.say("", b"220")
            self.say("EHLO bench", b"250 ")
            self.say("AUTH PLAIN " + base64.b64encode(f"\0{address}\0{password}".encode()).decode(), b"235")

    def close(self) -> None:
        """As a mail program ends: after the server."""
        self.socket.sendall(b"QUIT\r\n" if self.protocol != "imap" else b"z LOGOUT\r\n")
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
    descriptors: int = 0
    """The most that each of its processes may have open; 0 for the system's own limit."""
    process: subprocess.Popen[bytes] | None = None
    passwords: dict[str, str] = field(default_factory=dict)
    """By address."""

    @property
    def ports(self) -> dict[str, int]:
        """Where mail clients connect."""
        return {name: int(where.rsplit(":", 1)[1]) for name, where in self.config["listeners"].items()}

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
        listening = {protocol: socket.create_server(("127.0.0.1", 0), backlog=512) for protocol in GREETING}
        ports = {protocol: sock.getsockname()[1] for protocol, sock in listening.items()}
        process = multiprocessing.get_context("fork").Process(
            target=upstream, args=(listening, str(certificate), str(key)), daemon=True
        )
        process.start()
        stack.callback(process.terminate)
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
                "listeners": {p: f"127.0.0.1:{port}" for p, port in zip(GREETING, mine, strict=False)},
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
            bridge = Bridge(home, config, number, environment, descriptors)
            stack.callback(bridge.stop)
            bridge.start(provider.issue_refresh_token(PERSON))
            found.append(bridge)
        yield found
