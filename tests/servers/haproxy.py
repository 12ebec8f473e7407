"""HAProxy in front of ports: it sends a PROXY protocol header before the bytes it relays, and in health checks too."""

from __future__ import annotations

import csv
import io
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.servers.daemons import Daemon, attempts, free_ports
from tests.servers.packages import needs

CHECK_MILLISECONDS = 200


@dataclass(frozen=True, slots=True)
class Behind:
    """One port to which HAProxy relays."""

    port: int
    sends: str
    """`send-proxy` or `send-proxy-v2`."""
    is_tls: bool = False
    """If true, the health check includes a TLS handshake."""


@dataclass(frozen=True, slots=True)
class HAProxy:
    """A running HAProxy. `ports` maps the name of each `Behind` to the port on which HAProxy listens for it."""

    ports: Mapping[str, int]
    _stats: Path

    def check_status(self) -> dict[str, str]:
        """How the last health check of each port ended: L4OK (connected), L6OK (with TLS), or what was wrong."""
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(10)
            asking.connect(str(self._stats))
            asking.sendall(b"show stat\n")
            table = b"".join(iter(lambda: asking.recv(65536), b"")).decode().lstrip("# ")
        rows = csv.DictReader(io.StringIO(table))
        return {row["pxname"]: row["check_status"].lstrip("* ") for row in rows if row["svname"] == "bridge"}


@contextmanager
def haproxy(directory: Path, behind: Mapping[str, Behind]) -> Iterator[HAProxy]:
    """Start it, and wait until every port has passed a health check."""
    needs("haproxy")
    directory.mkdir(exist_ok=True)

    def start() -> tuple[Daemon, HAProxy]:
        ports = dict(zip(behind, free_ports(len(behind)), strict=True))
        running = HAProxy(ports, directory / "stats")
        config = directory / "haproxy.cfg"
        config.write_text(_config(behind, running, directory))
        daemon = Daemon(["haproxy", "-db", "-f", config], directory)
        daemon.wait_until(lambda: _is_up(running, behind), lambda: "")
        return daemon, running

    daemon, running = attempts(start)
    try:
        yield running
    finally:
        daemon.stop()


def _is_up(running: HAProxy, behind: Mapping[str, Behind]) -> bool:
    try:
        found = running.check_status()
    except OSError:
        return False
    return found == {name: "L6OK" if one.is_tls else "L4OK" for name, one in behind.items()}


def _config(behind: Mapping[str, Behind], running: HAProxy, directory: Path) -> str:
    lines = [
        "global",
        f"  stats socket {directory / 'stats'} mode 600",
        "defaults",
        "  mode tcp",
        "  timeout connect 20s",
        "  timeout client 60s",
        "  timeout server 60s",
        "  timeout check 20s",
    ]
    for name, one in behind.items():
        check = "check check-ssl verify none" if one.is_tls else "check"
        lines += [
            f"listen {name}",
            f"  bind 127.0.0.1:{running.ports[name]}",
            f"  server bridge 127.0.0.1:{one.port} {one.sends} {check} inter {CHECK_MILLISECONDS}",
        ]
    return "\n".join(lines) + "\n"
