"""A PostgreSQL server from Debian's package: a cluster in a temporary directory, reached by a Unix socket."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from bridge.secret import Secret
from tests.servers.needed import absent

PASSWORD = "CANARY-postgresql"

START_LIMIT = 60.0
"""Seconds for initdb and for the server on a busy machine; usually each needs about one."""


class Postgresql:
    """One cluster; it can be stopped and started again."""

    def __init__(self, programs: Path, directory: Path, log: IO[bytes]) -> None:
        self._programs = programs
        self._data = directory / "data"
        self._sockets = directory
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def sockets(self) -> Path:
        """The directory of its Unix socket."""
        return self._sockets

    def create(self) -> None:
        """Run initdb, with a password that every connection needs."""
        password = self._sockets / "password"
        password.write_text(PASSWORD)
        if os.geteuid() == 0:
            shutil.chown(password, "postgres", "postgres")
        arguments = ["--auth=scram-sha-256", "--username=postgres", "--encoding=UTF8", "--locale=C", "--no-sync"]
        arguments += [f"--pwfile={password}", "-D", str(self._data)]
        subprocess.run(
            [*unprivileged(), str(self._programs / "initdb"), *arguments],
            check=True,
            stdout=self._log,
            stderr=self._log,
            timeout=START_LIMIT,
            cwd=self._sockets,
        )

    def start(self) -> None:
        """Start the server and wait until it answers."""
        options = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={self._sockets}", "-c", "fsync=off"]
        self._process = subprocess.Popen(
            [*unprivileged(), str(self._programs / "postgres"), "-D", str(self._data), *options],
            stdout=self._log,
            stderr=self._log,
            cwd=self._sockets,
        )
        until = time.monotonic() + START_LIMIT
        question = [str(self._programs / "pg_isready"), "-q", "-h", str(self._sockets)]
        while subprocess.run(question, check=False).returncode != 0:
            try:
                raise RuntimeError(f"PostgreSQL has ended with {self._process.wait(0.05)}")
            except subprocess.TimeoutExpired:
                if time.monotonic() > until:
                    raise RuntimeError("PostgreSQL does not start") from None

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End the server: SIGINT is its fast shutdown, SIGQUIT its immediate one, like a crash."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(START_LIMIT)
            self._process = None

    def new_database(self, *options: str) -> Secret[str]:
        """The URL of an empty database."""
        name = f"bridge_{secrets.token_hex(6)}"
        environment = {**os.environ, "PGPASSWORD": PASSWORD}
        command = [str(self._programs / "createdb"), "-h", str(self._sockets), "-U", "postgres", *options, name]
        subprocess.run(command, env=environment, check=True, timeout=START_LIMIT)
        return self.url(name)

    def execute(self, url: Secret[str], *statements: str) -> None:
        """Run the statements in turn in a new session; `{database}` in them stands for the database's name."""
        database = url.reveal().partition("@/")[2].partition("?")[0]
        command = [str(self._programs / "psql"), "-qX", "-v", "ON_ERROR_STOP=1", "-h", str(self._sockets)]
        command += ["-U", "postgres", "-d", database]
        for statement in statements:
            command += ["-c", statement.format(database=database)]
        environment = {**os.environ, "PGPASSWORD": PASSWORD}
        subprocess.run(command, env=environment, check=True, timeout=START_LIMIT)

    def url(self, database: str, password: str = PASSWORD) -> Secret[str]:
        """How SQLAlchemy names a database of this cluster."""
        return Secret(f"postgresql+psycopg://postgres:{password}@/{database}?host={self._sockets}")


@contextmanager
def running() -> Iterator[Postgresql]:
    """A started cluster, removed at the end. Skips the test if PostgreSQL is not installed (fails it in CI)."""
    if sys.platform == "win32":
        pytest.skip("starts Debian's PostgreSQL")
    try:
        import psycopg  # noqa: F401  the driver is an extra
    except ImportError:
        absent("psycopg (python3 scripts/test.py installs it)")
    programs = _programs()
    directory = Path(tempfile.mkdtemp(prefix="postgresql-"))  # short: a socket's path has at most 107 bytes
    try:
        if os.geteuid() == 0:
            shutil.chown(directory, "postgres", "postgres")
        with open(directory / "log", "wb") as log:
            server = Postgresql(programs, directory, log)
            try:
                server.create()
                server.start()
                yield server
            finally:
                server.stop()
    finally:
        shutil.rmtree(directory)


def _programs() -> Path:
    """The directory of PostgreSQL's programs. Debian has one per major version, outside PATH; the newest wins."""
    if on_path := shutil.which("initdb"):
        return Path(on_path).resolve().parent
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not found:
        absent("PostgreSQL (initdb)")
    return found[-1].parent


def unprivileged() -> list[str]:
    """A prefix for commands that drops root, because PostgreSQL refuses to run as root; it also ends the program with
    the test's process, even if that is killed. Empty if this process is not root."""
    if os.geteuid() != 0:
        return []
    if not shutil.which("setpriv"):
        absent("setpriv")
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--pdeathsig=INT"]
