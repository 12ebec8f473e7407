"""Ports: two tests never get the same port."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.servers import daemons

ANOTHER_PROCESS = """
import sys
from tests.servers import daemons
daemons.PORTS = range(*map(int, sys.argv[1:]))
print(*daemons.free_ports(8), flush=True)
sys.stdin.read()
"""


def test_no_port_is_given_twice_not_even_by_two_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    (first,) = daemons.free_ports(1)
    some = range(first + 1, first + 25)
    with subprocess.Popen(
        [sys.executable, "-c", ANOTHER_PROCESS, str(some.start), str(some.stop)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        theirs = {int(port) for port in process.stdout.readline().split()}
        monkeypatch.setattr(daemons, "PORTS", some)
        ours = [port for _ in range(8) for port in daemons.free_ports(1)]
        process.stdin.close()
    assert len(theirs) == 8
    assert len({*ours, *theirs}) == 16


def test_reservations_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemons, "RESERVATIONS", 4)
    last = daemons.free_ports(4)
    assert daemons._reserved(last[0]) is None
    daemons.free_ports(4)
    freed = daemons._reserved(last[0])
    assert freed is not None
    freed.close()
