"""PgBouncer, from Debian's package, in front of a PostgreSQL of ours: many clients, few server sessions."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bridge.secret import Secret
from tests.servers.needed import absent
from tests.servers.packages import program
from tests.servers.postgresql import PASSWORD, START_LIMIT, Postgresql, unprivileged

PORT = 6432
"""Only a part of the socket's name: PgBouncer does not listen on TCP here."""


@contextmanager
def before(server: Postgresql, directory: Path) -> Iterator[Path]:
    """A running PgBouncer with a single server session, which it assigns for one transaction at a time. Yields: the
    directory of its socket."""
    found = program("pgbouncer")
    if found is None:
        absent("PgBouncer")
    users = directory / "users.txt"
    users.write_text(f'"postgres" "{PASSWORD}"\n')
    settings = directory / "pgbouncer.ini"
    settings.write_text(
        f"[databases]\n* = host={server.sockets}\n"
        f"[pgbouncer]\nlisten_port = {PORT}\nunix_socket_dir = {directory}\nauth_type = plain\nauth_file = {users}\n"
        "pool_mode = transaction\ndefault_pool_size = 1\n"
    )
    if os.geteuid() == 0:
        for path in (directory, users, settings):
            shutil.chown(path, "postgres", "postgres")
    process = subprocess.Popen([*unprivileged(), str(found), "-q", str(settings)], stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + START_LIMIT
        while not (directory / f".s.PGSQL.{PORT}").exists():
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError("PgBouncer does not start")
            time.sleep(0.05)
        yield directory
    finally:
        process.send_signal(signal.SIGINT)  # from 1.23 on, SIGTERM waits until all clients have disconnected
        process.wait(START_LIMIT)


def through(pooler: Path, url: Secret[str]) -> Secret[str]:
    """The URL of the same database, reached through the pooler."""
    return Secret(f"{url.reveal().partition('?')[0]}?host={pooler}&port={PORT}")
