"""Run a server program as a child: find free ports, wait until it serves, and stop it without leaving a process."""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

START_LIMIT: Final = 60.0  # seconds; a start takes under one, but a loaded machine runs many tests at once
STOP_LIMIT: Final = 30.0
ATTEMPTS: Final = 5
POLL: Final = 0.02
PORTS: Final = range(10_100, 32_000)
"""Below the ephemeral ports (Linux: from 32,768), which the tests' connections use all the time; above the ports that
browsers refuse (the last is 10,080)."""
RESERVATIONS: Final = 256  # ports; a test takes under twenty, and a process may have 1,024 descriptors
# The tests' own environment (proxies, MAIL_CONFIG, a language) must not change what a server does.
ENVIRONMENT: Final = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}

T = TypeVar("T")

_reservations: Final[deque[socket.socket]] = deque()
"""The oldest first: these are given up when there are too many, since their tests have ended long ago."""


@atexit.register
def _give_back() -> None:
    while _reservations:
        _reservations.popleft().close()


class StartFailed(Exception):
    """The server did not start; the text is what it wrote into its log."""


def free_ports(count: int) -> list[int]:
    """Ports on which nobody listens now, neither at 127.0.0.1 nor at ::1, and which no other test of any run gets.

    A program outside the tests may still take a port before the server does: see `attempts`.
    """
    found: list[int] = []
    while len(found) < count:
        port = random.choice(PORTS)
        reservation = _reserved(port)
        if reservation is None:
            continue
        if all(_is_free(family, port) for family in (socket.AF_INET, socket.AF_INET6)):
            _reservations.append(reservation)
            found.append(port)
        else:
            reservation.close()
    while len(_reservations) > RESERVATIONS:
        _reservations.popleft().close()
    return found


def _reserved(port: int) -> socket.socket | None:
    """Between the choice of a port and the server's start, another process may choose the same port. Binding the UDP
    port of the same number reserves it for the whole machine, and the kernel releases it however this process ends. No
    server of the tests listens on UDP."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.bind(("127.0.0.1", port))
    except OSError:
        sock.close()
        return None
    return sock


def _is_free(family: socket.AddressFamily, port: int) -> bool:
    """True if the port can be bound, and also if the machine has no addresses of this family."""
    try:
        with socket.socket(family) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1" if family is socket.AF_INET else "::1", port))
    except OSError as problem:
        return problem.errno in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
    return True


def attempts(start: Callable[[], T]) -> T:
    """Call `start` again, with new ports, as long as another program took one of the ports first."""
    for _ in range(ATTEMPTS - 1):
        try:
            return start()
        except StartFailed as failure:
            if "address already in use" not in str(failure).lower():
                raise
    return start()


@contextmanager
def short_directory(prefix: str) -> Iterator[Path]:
    """A new directory with a short name, which other users may enter but not list.

    The path of a Unix socket has at most 107 bytes, and pytest's temporary directories are long and closed to the
    unprivileged users that the servers switch to.
    """
    directory = Path(tempfile.mkdtemp(prefix=prefix, dir="/tmp"))
    try:
        directory.chmod(0o711)
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


class Daemon:
    """One running server: the first process and its children, which all stay in one process group."""

    def __init__(
        self, argv: Sequence[str | Path], directory: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self._name = Path(argv[0]).name
        self._output = directory / f"{self._name}.output"
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=directory,
                env={**ENVIRONMENT, **(environment or {})},
                start_new_session=True,
            )
        self.pid = self._process.pid

    def wait_until(self, ready: Callable[[], bool], log: Callable[[], str]) -> None:
        """Return as soon as `ready` is true. If the server ends or the time is up, stop it and raise with its log."""
        deadline = time.monotonic() + START_LIMIT
        try:
            while not ready():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    status = self._process.wait(timeout=POLL)
                    raise StartFailed(f"{self._name} ended with status {status}\n{self.output()}{log()}")
                if time.monotonic() > deadline:
                    raise StartFailed(f"{self._name} does not serve after {START_LIMIT:.0f} s\n{self.output()}{log()}")
        except BaseException:
            self.kill()
            raise

    def output(self) -> str:
        """What the server wrote to its standard output and error output."""
        return self._output.read_text(errors="replace")

    def stop(self) -> None:
        """Ask the server to end, and kill the processes that have not ended after STOP_LIMIT."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            if self._process.poll() is None:
                self._process.terminate()
            self._process.wait(timeout=STOP_LIMIT)
        self.kill()

    def kill(self) -> None:
        """End all processes of the server at once, as a crash does; returns when they are gone."""
        deadline = time.monotonic() + STOP_LIMIT
        while alive := members(self.pid):
            if time.monotonic() > deadline:
                raise RuntimeError(f"processes of {self._name} do not end: {sorted(alive)}")
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=POLL)
        self._process.wait(timeout=STOP_LIMIT)


def greeting(port: int) -> bytes:
    """The first line that the server on this port of 127.0.0.1 sends; empty as long as no server answers."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
            return connection.makefile("rb").readline(1000)
    except OSError:
        return b""


def members(group: int) -> set[int]:
    """Living processes of a process group. Dead ones that nobody has waited for do not count."""
    found = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):  # it ended meanwhile
            # "pid (any name) state parent group ...": the name may contain spaces and parentheses.
            state, _, its_group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state not in ("Z", "X"):
                found.add(int(entry.name))
    return found
