"""Who listens on a port, and which ports the system reserves: by /proc, lsof, netstat and netsh."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from bridge.doctor.machine import Holder
from bridge.host import users
from bridge.host.callers import Owner
from bridge.host.callers_linux import name_of, process_of
from bridge.host.system_programs import ENCODING, whole_name
from bridge.threads import NotDone

ASK_SECONDS = 5.0
"""For one of the system's own programs; netstat takes a second on a busy server."""
LISTENING = "0A"
"""TCP_LISTEN in /proc/net/tcp (include/net/tcp_states.h)."""


def holder_of(port: int) -> Holder | None:
    """The program that listens there; None if nobody does or the system does not tell. Blocks for seconds at most."""
    if sys.platform == "linux":
        return _by_proc(port, Path("/proc"))
    if sys.platform == "win32":
        pid = netstat_pid(_output("netstat", "-ano", "-p", "TCP"), port) or netstat_pid(
            _output("netstat", "-ano", "-p", "TCPv6"), port
        )
        if pid is None:
            return None
        return Holder(tasklist_name(_output("tasklist", "/FI", f"PID eq {pid}", "/FO", "CSV", "/NH")), pid)
    return lsof_holder(_output("lsof", "-nP", f"-iTCP:{port}", "-sTCP:LISTEN", "-Fpc"))


def excluded_ports() -> tuple[range, ...]:
    """Windows' excluded ranges; empty elsewhere. Blocks for seconds at most."""
    if sys.platform != "win32":
        return ()
    return netsh_ranges(_output("netsh", "int", "ipv4", "show", "excludedportrange", "tcp"))


def netsh_ranges(text: str) -> tuple[range, ...]:
    """The ranges in the output of `netsh int ipv4 show excludedportrange tcp`, in any language: lines that begin with
    two numbers."""
    found = (re.match(r"\s*(\d{1,5})\s+(\d{1,5})\b", line) for line in text.splitlines())
    return tuple(range(int(line[1]), int(line[2]) + 1) for line in found if line is not None)


def netstat_pid(text: str, port: int) -> int | None:
    """The process in the output of `netstat -ano`: a socket whose remote port is 0 listens, whatever the word for that
    state in this language."""
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 4 and words[0] == "TCP" and words[1].endswith(f":{port}") and words[2].endswith(":0"):
            return int(words[-1]) if words[-1].isdecimal() else None
    return None


def tasklist_name(text: str) -> str:
    """The first field in the output of `tasklist /FO CSV /NH`; empty if there is no such process."""
    for row in csv.reader(text.splitlines()):
        if len(row) > 1:
            return _printable(row[0])
    return ""


def lsof_holder(text: str) -> Holder | None:
    """The holder in the output of `lsof -Fpc`: a line `p` with the process, then a line `c` with its name."""
    found = {line[0]: line[1:] for line in reversed(text.splitlines()) if line}
    if not found.get("p", "").isdecimal():
        return None
    return Holder(_printable(found.get("c", "")), int(found["p"]))


def _printable(name: str) -> str:
    """The name without characters that control a terminal, since the program's user has chosen it."""
    return "".join(character for character in name if character.isprintable()).strip()


def _output(program: str, *arguments: str) -> str:
    """The output of a system program; empty if it does not exist, fails or takes too long."""
    hidden = getattr(subprocess, "CREATE_NO_WINDOW", 0)
    try:
        done = subprocess.run(  # noqa: S603  fixed words and numbers, no shell
            [whole_name(program), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=ASK_SECONDS,
            check=False,
            creationflags=hidden,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode(ENCODING, "replace")


# --- Linux ----------------------------------------------------------------------------------------------------------


def _by_proc(port: int, proc: Path) -> Holder | None:
    for owner in _owners(port, proc):
        process = process_of(owner, proc)
        if process is None:
            return Holder(user=_user(owner.user_id))  # another user's: we may not read its descriptors
        return Holder(_printable(name_of(process)), int(process.name))
    return None


def _owners(port: int, proc: Path) -> Iterator[Owner]:
    """The owner of each socket that listens on the port (proc_net_tcp.txt of the kernel's documentation)."""
    for name in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / name).read_text("ascii", "replace").splitlines()
        except OSError:
            continue
        for line in lines[1:]:
            words = line.split()
            if len(words) > 9 and words[3] == LISTENING and int(words[1].rpartition(":")[2], 16) == port:
                yield Owner(words[7], int(words[9]))


def _user(user_id: str) -> str:
    with suppress(NotDone):
        return users.name_of(user_id) or user_id
    return user_id
