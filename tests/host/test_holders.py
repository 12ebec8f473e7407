"""Who holds a port: the systems' own programs, in their own words."""

from __future__ import annotations

import socket
import sys
from contextlib import closing
from os import getpid

import pytest

from bridge.doctor.machine import Holder
from bridge.host.holders import excluded_ports, holder_of, lsof_holder, netsh_ranges, netstat_pid, tasklist_name

NETSH = """
Protokoll tcp Portausschlussbereiche

Startport    Endport
----------    --------
        80          80
      3000        3099
     50000       50059     *

* - Verwaltete Portausschlüsse.
"""
NETSTAT = """
Aktive Verbindungen

  Proto  Lokale Adresse         Remoteadresse          Status           PID
  TCP    0.0.0.0:135            0.0.0.0:0              ABHÖREN         1044
  TCP    127.0.0.1:3017         127.0.0.1:50001        HERGESTELLT     9
  TCP    127.0.0.1:3017         0.0.0.0:0              ABHÖREN         4242
  TCP    [::1]:13017            [::]:0                 ABHÖREN         77
"""


def test_netsh_is_read_in_any_language() -> None:
    assert netsh_ranges(NETSH) == (range(80, 81), range(3000, 3100), range(50000, 50060))
    assert netsh_ranges("") == ()


@pytest.mark.parametrize(("port", "pid"), [(135, 1044), (3017, 4242), (13017, 77), (1, None), (17, None)])
def test_netstat_tells_who_listens_and_not_who_is_connected(port: int, pid: int | None) -> None:
    assert netstat_pid(NETSTAT, port) == pid


def test_tasklist_tells_the_name() -> None:
    assert tasklist_name('"mail, old.exe","4242","Console","1","12.345 K"\n') == "mail, old.exe"
    assert tasklist_name("INFO: No tasks are running which match the specified criteria.\n") == ""


def test_lsof_tells_the_first_process_and_its_name() -> None:
    assert lsof_holder("p612\ncControlCe\nf10\np700\ncother\n") == Holder("ControlCe", 612)
    assert lsof_holder("") is None


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_proc_tells_this_very_process(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        sock = socket.create_server((host, 0), family=family)
    except OSError:
        pytest.skip("this machine has no IPv6")
    with closing(sock):
        port = sock.getsockname()[1]
        found = holder_of(port)
        assert found is not None
        assert found.pid == getpid()
        assert found.name
    assert holder_of(port) is None


@pytest.mark.skipif(sys.platform == "win32", reason="there it has some")
def test_elsewhere_no_ports_are_excluded() -> None:
    assert excluded_ports() == ()
