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
"""Exit codes of useradd and userdel while another process changes the list of users."""
TRIES = 50


@dataclass(frozen=True, slots=True)
class OsUser:
    """A user with their own uid and no privileges."""

    name: str
    uid: int
    gid: int

    def run(self, *command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a program as this user."""
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
        """A prefix of a command that runs it as this user.

        If the user may not even read this Python (pyenv installs it in root's home), the program gets the capability to
        read every file; the owner of its sockets stays this user.
        """
        ids = ("setpriv", f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups")
        try:
            can_read = self.run(sys.executable, "-c", "import aiohttp").returncode == 0
        except OSError:
            can_read = False
        return ids if can_read else (*ids, "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")

    def curl(self, url: str, username: str, password: str, *more: str) -> subprocess.CompletedProcess[str]:
        """Run curl as this user; it exits with 67 if the login is refused."""
        return self.run("curl", "-sS", "--config", "-", url, *more, stdin=f'user = "{username}:{password}"\n')

    def connect(self, port: int, host: str = "127.0.0.1", source: str = "") -> socket.socket:
        """A connection of this user, from this address of the machine. To the kernel, a socket belongs to the user of
        the process that created it."""
        sock = self.open_socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        if source:
            sock.bind((source, 0))
        sock.connect((host, port))
        return sock

    def open_socket(self, family: socket.AddressFamily) -> socket.socket:
        """A socket of this user that is not connected yet."""
        before = os.geteuid()
        os.seteuid(self.uid)
        try:
            sock = socket.socket(family)
        finally:
            os.seteuid(before)
        sock.settimeout(60)
        return sock


def network_address(family: socket.AddressFamily = socket.AF_INET) -> str:
    """An address of this machine in a network; skips the calling test if there is none. Nothing is sent."""
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("2001:db8::1" if family == socket.AF_INET6 else "198.51.100.1", 9))
        except OSError:
            pytest.skip("this machine has no network")
        return str(sock.getsockname()[0])


@contextmanager
def os_user(name: str) -> Iterator[OsUser]:
    """A user created for this context; needs root, and skips the calling test otherwise."""
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
