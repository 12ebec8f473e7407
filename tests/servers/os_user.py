"""A second user of this machine, and programs and sockets of theirs."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tests.servers.packages import needs, needs_root

BUSY = 1, 10
"""Exit codes of useradd and userdel while somebody else changes the list of users."""
TRIES = 50


@dataclass(frozen=True, slots=True)
class OsUser:
    """Somebody with a number of their own, and no rights."""

    name: str
    uid: int
    gid: int

    def run(self, *command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """A program of theirs."""
        return subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
            user=self.uid,
            group=self.gid,
            extra_groups=[],
            cwd="/",
            env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"},
        )

    def launcher(self) -> tuple[str, ...]:
        """Words before a command that make it a program of theirs.

        Where they may not even read this Python (in root's home, as pyenv has it), it may read whatever root may; whose
        its sockets are does not change by that.
        """
        ids = ("setpriv", f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups")
        try:
            can_read = self.run(sys.executable, "-c", "import aiohttp").returncode == 0
        except OSError:
            can_read = False
        return ids if can_read else (*ids, "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")

    def curl(self, url: str, username: str, password: str, *more: str) -> subprocess.CompletedProcess[str]:
        """curl, which ends with 67 where the login is refused."""
        return self.run("curl", "-sS", "--config", "-", url, *more, stdin=f'user = "{username}:{password}"\n')

    def connect(self, port: int, host: str = "127.0.0.1", source: str = "") -> socket.socket:
        """A connection of theirs, from this address of the machine: to the kernel a socket is whose program has made
        it."""
        sock = self.open_socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        if source:
            sock.bind((source, 0))
        sock.connect((host, port))
        return sock

    def open_socket(self, family: socket.AddressFamily) -> socket.socket:
        """One of theirs that is not connected yet."""
        before = os.geteuid()
        os.seteuid(self.uid)
        try:
            sock = socket.socket(family)
        finally:
            os.seteuid(before)
        sock.settimeout(60)
        return sock


def network_address(family: socket.AddressFamily = socket.AF_INET) -> str:
    """One that this machine has in a network; skips the calling test where it has none. Nothing is sent."""
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("2001:db8::1" if family == socket.AF_INET6 else "198.51.100.1", 9))
        except OSError:
            pytest.skip("this machine has no network")
        return str(sock.getsockname()[0])


@contextmanager
def os_user(name: str) -> Iterator[OsUser]:
    """Made for the occasion; as root, or the calling test cannot be."""
    needs_root()
    needs("passwd", "curl")
    _change("useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", name)
    try:
        import pwd  # not on Windows

        entry = pwd.getpwnam(name)
        yield OsUser(name, entry.pw_uid, entry.pw_gid)
    finally:
        _change("userdel", name)


def _change(*command: str) -> None:
    for _ in range(TRIES):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        if done.returncode not in BUSY:
            break
        with contextlib.suppress(InterruptedError):
            time.sleep(0.1)  # another process of the tests holds the lock of /etc/passwd
    raise AssertionError(f"{command}: {done.returncode} {done.stderr}")
