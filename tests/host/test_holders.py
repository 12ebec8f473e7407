"""Which program holds a port: from the output of each system's own tools."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import closing
from pathlib import Path

import pytest

from bridge.doctor.machine import Holder
from bridge.host import holders
from bridge.host.holders import (
    _by_proc,
    _output,
    excluded_ports,
    holder_of,
    lsof_holder,
    netsh_ranges,
    netstat_pid,
    tasklist_name,
)

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


ODD = "ng\u202ei\x1b[2Jnx\x07"
"""The user who starts a program chooses its name; on Linux it can have any bytes."""


def test_a_name_that_would_steer_the_administrators_terminal_does_not() -> None:
    assert tasklist_name(f'"{ODD}","4242","Console","1","12.345 K"\n') == "ngi[2Jnx"
    assert lsof_holder(f"p612\nc{ODD}\n") == Holder("ngi[2Jnx", 612)


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
        assert found.pid == os.getpid()
        assert found.name
    assert holder_of(port) is None


def program(directory: Path, name: str, **answers: str) -> None:
    """A fake of a system's program, which answers only these arguments (joined by `_`)."""
    cases = "".join(f"'{told}') cat <<'END'\n{answer}\nEND\n;;\n" for told, answer in answers.items())
    (directory / name).write_text(f'#!/bin/sh\ncase "$(echo "$*" | tr " " _)" in\n{cases}*) exit 1;;\nesac\n')
    (directory / name).chmod(0o700)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has its own")
def test_windows_own_programs_are_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = tmp_path / "System32"
    system.mkdir()
    first, second = NETSTAT.rsplit("\n", 2)[0], NETSTAT.splitlines()[-1]
    program(system, "netstat.exe", **{"-ano_-p_TCP": first, "-ano_-p_TCPv6": second})
    nginx = '"nginx.exe","4242","Console","1","12.345 K"'
    program(system, "tasklist.exe", **{"/FI_PID_eq_4242_/FO_CSV_/NH": nginx})
    program(system, "netsh.exe", int_ipv4_show_excludedportrange_tcp=NETSH)
    monkeypatch.setenv("SYSTEMROOT", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "win32")
    assert holder_of(3017) == Holder("nginx.exe", 4242)
    assert holder_of(13017) == Holder("", 77), "at ::1 alone, and it has ended just now"
    assert holder_of(1143) is None
    assert excluded_ports() == (range(80, 81), range(3000, 3100), range(50000, 50060))


@pytest.mark.skipif(sys.platform == "win32", reason="no lsof")
def test_on_a_mac_lsof_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "lsof", **{"-nP_-iTCP:3017_-sTCP:LISTEN_-Fpc": "p612\ncControlCe"})
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert holder_of(3017) == Holder("ControlCe", 612)
    assert holder_of(1143) is None
    monkeypatch.setenv("PATH", str(tmp_path / "nothing here"))
    assert holder_of(3017) is None
    assert excluded_ports() == ()


def test_a_program_of_the_systems_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holders, "ASK_SECONDS", 0.01)
    assert _output(sys.executable, "-c", "import time; time.sleep(60)") == ""


HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"


def proc_of(directory: Path, *sockets: str) -> Path:
    """A /proc with one process, 4242, that has the socket 777."""
    (directory / "net").mkdir()
    (directory / "net" / "tcp").write_text("\n".join([HEAD, *sockets, ""]))  # and no tcp6: a machine without IPv6
    (directory / "4242" / "fd").mkdir(parents=True)
    (directory / "4242" / "comm").write_text("nginx\n")
    (directory / "4242" / "fd" / "3").symlink_to("/dev/null")
    (directory / "4242" / "fd" / "4").symlink_to("socket:[777]")
    (directory / "4243").mkdir()  # another user's process, whose descriptors we may not read
    (directory / "self").symlink_to("4242")
    return directory


def line(port: int, state: str, uid: int, inode: int) -> str:
    """A line of /proc/net/tcp as the kernel writes it."""
    return f"   0: 0100007F:{port:04X} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 {uid} 0 {inode} 1 0"


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_proc_tells_a_program_of_ours_by_its_name_and_another_users_by_the_user(tmp_path: Path) -> None:
    proc = proc_of(
        tmp_path,
        line(3017, "01", 0, 778),  # a connection, not a listener
        line(3017, "0A", 1000, 777),
        line(1143, "0A", 0, 779),
        line(1587, "0A", 4_294_967_294, 780),
        "",
    )
    assert _by_proc(3017, proc) == Holder("nginx", 4242)
    assert _by_proc(1143, proc) == Holder(user="root")
    assert _by_proc(1587, proc) == Holder(user="4294967294"), "whom nobody knows by name"
    assert _by_proc(1110, proc) is None
    (proc / "4242" / "comm").write_text(f"{ODD}\n", "utf-8")
    assert _by_proc(3017, proc) == Holder("ngi[2Jnx", 4242)
    (proc / "4242" / "comm").unlink()  # it has ended just now
    assert _by_proc(3017, proc) == Holder("", 4242)
    assert _by_proc(3017, tmp_path / "not mounted") is None


@pytest.mark.skipif(sys.platform == "win32", reason="there it has some")
def test_elsewhere_no_ports_are_excluded() -> None:
    assert excluded_ports() == ()
