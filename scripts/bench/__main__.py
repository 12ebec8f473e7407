"""`python -m bench`: see scripts/bench.py, which prepares what this needs."""

from __future__ import annotations

import argparse
import json
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench import peers, report
from bench.bridge_system import MailBridge
from bench.chart import chart
from bench.rounds import Figures, measured
from bench.rows import FULL, QUICK, Row, rows
from bench.systems import ADDRESS, Dovecot, EmailProxy, HAProxy, Ports, System
from tests.servers.authorization import AuthorizationServer, authorization_server
from tests.servers.ca import Authority

APP = "bench"
"""emailproxy's registration: client credentials."""
SYSTEMS = ("HAProxy", "Dovecot", "emailproxy", "mail-bridge")


def main() -> None:
    options = _options()
    scale = QUICK if options.quick else FULL
    earlier = [figures for path in options.read for figures in report.from_json(rows(FULL), path.read_text())]
    known = {figures.row for figures in earlier}
    chosen = [row for row in _chosen(rows(scale), options.only) if row.key not in known]
    _raise_descriptor_limit()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # otherwise the systems would be left running
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        directory = Path(name)
        directory.chmod(0o755)  # Dovecot's login processes are other users
        authority = Authority(directory)
        with authorization_server(authority) as provider, _upstream(directory, authority) as ports:
            python = (None if options.quick else peers.mail_bridge()) or Path(sys.executable)
            systems = list(_systems(options.systems, python, directory, authority, provider, ports))
            found = _in_order(rows(scale), [*earlier, *measured(chosen, systems, scale)])
    names = [system.name for system in systems]
    if options.json:
        print(json.dumps(report.as_json(found), indent=2))
        return
    table = report.table(found, names)
    print(table)
    if options.write:
        about = report.surroundings(peers.python_version(python), peers.versions())
        report.write_page(f"{about}\n\n{table}\n![CPU beside HAProxy](images/performance.svg)\n", chart(found))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.py", description="mail-bridge beside HAProxy, Dovecot and emailproxy.")
    parser.add_argument("--quick", action="store_true", help="small sizes, two rounds; under three minutes")
    parser.add_argument("--json", action="store_true", help="all figures on standard output, for programs")
    parser.add_argument(
        "--only", action="append", metavar="ROW", help=f"one of: {', '.join(r.key for r in rows(FULL))}"
    )
    parser.add_argument("--systems", type=lambda text: text.split(","), default=SYSTEMS, help=",".join(SYSTEMS))
    parser.add_argument(
        "--read",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="rows that an earlier --json has measured",
    )
    parser.add_argument("--write", action="store_true", help="put table and chart into docs/performance.md")
    return parser.parse_args()


def _chosen(known: list[Row], only: list[str] | None) -> list[Row]:
    if not only:
        return known
    if unknown := set(only) - {row.key for row in known}:
        sys.exit(f"no such row: {', '.join(sorted(unknown))}; there are: {', '.join(row.key for row in known)}")
    return [row for row in known if row.key in only]


def _in_order(known: list[Row], found: list[Figures]) -> list[Figures]:
    """As in the table, wherever the figures come from."""
    places = {row.key: place for place, row in enumerate(known)}
    return sorted(found, key=lambda figures: places[figures.row])


def _systems(
    names: Sequence[str],
    python: Path,
    directory: Path,
    authority: Authority,
    provider: AuthorizationServer,
    ports: Ports,
) -> Iterator[System]:
    """Those of `names` that are installed, in the order in which they take turns."""
    where = (directory, ports, authority.ca_file)
    if "HAProxy" in names and peers.has_haproxy():
        yield HAProxy(*where)
    if "Dovecot" in names and peers.has_dovecot():
        yield Dovecot(*where)
    if "emailproxy" in names and (program := peers.emailproxy()) is not None:
        provider.register(APP, "a-client-secret")
        provider.apps[APP] = {ADDRESS}
        yield EmailProxy(*where, program, f"{provider.url}/token")
    if "mail-bridge" in names:
        yield MailBridge(*where, provider, python)


@contextmanager
def _upstream(directory: Path, authority: Authority) -> Iterator[Ports]:
    """The mail servers, as a program of their own."""
    certificate, key = authority.write_pair(directory)
    command = [sys.executable, "-m", "bench.upstream", str(certificate), str(key)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        ports: Ports = json.loads(server.stdout.readline())
        try:
            yield ports
        finally:
            server.stdin.close()


def _raise_descriptor_limit() -> None:
    """For thousands of mail programs; the measured systems start with the usual limit, and may raise their own."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    main()
