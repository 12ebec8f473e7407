"""load.c, built and run: the mail server and the mail programs that scripts/bench/workers.py loads bridges with."""

from __future__ import annotations

import hashlib
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PACKAGES = {"gcc": "/usr/bin/cc", "libc6-dev": "/usr/include/stdlib.h", "libssl-dev": "/usr/include/openssl/ssl.h"}
"""Debian's packages to build it with, and the file that shows that one is there."""
PROTOCOLS = ("imap", "pop3", "smtp")
"""In load.c's order."""
MESSAGE = hashlib.shake_256(b"mail").digest(1 << 20)
"""1 MiB, as load.c has it. Not compressible, and the same for whoever compares."""

_SOURCE = Path(__file__).with_suffix(".c")


def missing_packages() -> list[str]:
    return [name for name, sign in PACKAGES.items() if not Path(sign).exists()]


@dataclass(frozen=True, slots=True)
class Target:
    """A bridge, for the mail programs of one account."""

    port: int
    password: str


class Load:
    """The built program."""

    def __init__(self, directory: Path) -> None:
        """Build it in `directory`. Raises: SystemExit, where that cannot be done."""
        self._program = directory / "load"
        self._message = directory / "message"
        self._message.write_bytes(MESSAGE)
        libraries = ("-lssl", "-lcrypto", "-lpthread", "-lm")
        done = subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-o", str(self._program), str(_SOURCE), *libraries])
        if done.returncode:
            raise SystemExit(f"{_SOURCE.name} was not built; it takes {', '.join(PACKAGES)}")

    def serve(self, certificate: Path, key: Path, listening: Mapping[str, socket.socket]) -> subprocess.Popen[bytes]:
        """The mail server, on these sockets, by protocol. Returns: its process, for the caller to end."""
        descriptors = [listening[protocol].fileno() for protocol in PROTOCOLS]
        words = ["serve", certificate, key, self._message, *descriptors]
        return subprocess.Popen([str(self._program), *map(str, words)], pass_fds=descriptors)

    def log_in(
        self,
        where: Sequence[Target],
        protocol: str,
        address: str,
        *,
        count: int,
        at_once: int,
        rate: float = 0.0,
        spelling: int = 0,
    ) -> None:
        """So many logins, see load.c. Raises: SystemExit, if one failed."""
        self._run(where, "login", protocol, address, count, at_once, rate, spelling)

    def fetch(self, where: Sequence[Target], address: str, *, mebibytes: int, at_once: int) -> None:
        """Downloads, see load.c. Raises: SystemExit, if an octet was another one."""
        self._run(where, "fetch", address, mebibytes, at_once, self._message)

    def _run(self, where: Sequence[Target], *words: object) -> None:
        # Local passwords by standard input: argument lists are anybody's to read.
        lines = "".join(f"{target.port} {target.password}\n" for target in where)
        command = [str(self._program), *map(str, words)]
        done = subprocess.run(command, input=lines, text=True, stderr=subprocess.PIPE)
        if done.returncode:
            raise SystemExit(f"{words}: {done.stderr}")
