"""Linux: the owner of a socket by sock_diag, or by /proc/net/tcp where that is forbidden; users and their programs."""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

from bridge.host import users
from bridge.host.callers import NotAtOnce, Owner, System
from bridge.host.sock_diag import HELD, Kernel, Unknown, packed
from bridge.model import Ends
from bridge.shortage import is_short
from bridge.threads import NotDone

PROC = Path("/proc")
SUBORDINATES = Path("/etc/subuid")
ROOT = "0"
NUMBERS = 2**32 - 1
"""How many user numbers there are; the last one (-1) belongs to nobody."""


class Linux(System):
    """See callers.System."""

    def __init__(self) -> None:
        self._kernel = Kernel()
        self._everybody_else = everybody_else()
        self._is_refused = False
        self._has_told = False
        self._knows_none = False
        """The kernel has been asked, but has found no connection so far: it may have no tcp_diag."""

    def owner_now(self, ends: Ends) -> Owner | None:
        """See System.

        Once the kernel has found one connection, we believe it when it does not find another: its table in /proc has no
        more. Otherwise a client that connects and hangs up thousands of times would make us read that table each time,
        with the thousands of dead connections in it.
        """
        if self._is_refused:
            raise NotAtOnce
        try:
            found = self._kernel.owner(ends)
        except Unknown as problem:
            if self._has_told:
                return None
            self._knows_none = True
            raise NotAtOnce from problem  # or it has no tcp_diag, and says the same
        except OSError as problem:
            # No netlink here (a sandbox): the next call would fail as well.
            self._is_refused = problem.errno in {errno.EPERM, errno.EACCES, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT}
            raise NotAtOnce from problem
        self._has_told = True
        return self._somebody(found)

    def owner(self, ends: Ends) -> Owner | None:
        """See System."""
        for name in ("tcp", "tcp6"):
            try:
                table = (PROC / "net" / name).read_bytes()
            except OSError as problem:
                if is_short(problem):
                    raise NotDone(str(problem)) from problem
                continue
            if (found := find_in_table(table, ends)) is not None:
                # The kernel has no tcp_diag then, and each question to it would look for the module again.
                self._is_refused = self._is_refused or (self._knows_none and not self._has_told)
                return self._somebody(found)
        return None

    def _somebody(self, found: Owner | None) -> Owner | None:
        return None if found is None or found.user_id == self._everybody_else else found

    def user_name(self, user_id: str) -> str:
        """See System."""
        return users.name_of(user_id)

    def main_user(self, user_id: str) -> str:
        """See System: by subuid(5)."""
        try:
            return main_user(SUBORDINATES.read_text("utf-8", "replace"), user_id)
        except OSError as problem:
            if is_short(problem):
                raise NotDone(str(problem)) from problem
            return user_id

    def program(self, owner: Owner) -> str:
        """See System."""
        process = process_of(owner, PROC)
        return "" if process is None else name_of(process)


def process_of(owner: Owner, proc: Path) -> Path | None:
    """The directory in /proc of the process that holds the socket; only root sees the descriptors of other users'
    programs."""
    wanted = f"socket:[{owner.handle}]"
    for process in _processes(owner.user_id, proc):
        with contextlib.suppress(OSError):
            for descriptor in (process / "fd").iterdir():
                with contextlib.suppress(OSError):
                    if os.readlink(descriptor) == wanted:
                        return process
    return None


def name_of(process: Path) -> str:
    """The name of a process's program; empty if it has ended."""
    try:
        return (process / "comm").read_text("utf-8", "replace").strip()
    except OSError:
        return ""


def _processes(user_id: str, proc: Path) -> Iterator[Path]:
    """That user's processes first: nearly always one of them holds the socket, and a machine has thousands."""
    try:
        processes = list(proc.iterdir())
    except OSError:  # no descriptor is left, for one: the program's name is not essential
        return
    others = []
    for path in processes:
        if path.name.isdecimal():
            with contextlib.suppress(OSError):
                if str(path.stat().st_uid) == user_id:
                    yield path
                else:
                    others.append(path)
    yield from others


def everybody_else() -> str:
    """The overflow uid, which stands for each user without a number in this process's user namespace
    (user_namespaces(7)): in a container, or with systemd's PrivateUsers=, for everybody who works on the machine. By it
    a colleague's programs would be taken for the person's. Empty where all users have numbers of their own, so that the
    overflow uid is an ordinary one."""
    try:
        spans = [line.split()[-1] for line in (PROC / "self/uid_map").read_text("ascii").splitlines()]
        return "" if sum(map(int, spans)) >= NUMBERS else (PROC / "sys/kernel/overflowuid").read_text("ascii").strip()
    except OSError:  # a kernel that has no user namespaces
        return ""


def main_user(table: str, user_id: str) -> str:
    """The user to whom subuid(5) gives this number: newuidmap lets their programs use it, as in their containers. Never
    root, who is trusted with everything here, and whose containers may be other people's. Blocks. Raises: NotDone."""
    owners = {line.split(":")[0] for line in table.splitlines() if _is_given(line, int(user_id))}
    if len(owners) != 1:
        return user_id
    name = owners.pop()
    main = name if name.isdecimal() else users.id_of(name)
    return user_id if main in {"", ROOT} else main


def _is_given(line: str, number: int) -> bool:
    """True if this line (`alice:100000:65536`) gives away the number."""
    _, _, span = line.partition(":")
    first, _, count = span.partition(":")
    return first.isdecimal() and count.isdecimal() and 0 <= number - int(first) < int(count)


def find_in_table(table: bytes, ends: Ends) -> Owner | None:
    """The owner by /proc/net/tcp or tcp6 (proc_net_tcp.txt of the kernel's documentation)."""
    for client, ours in _spellings(ends):
        at = table.find(f": {client} {ours} ".encode())
        if at < 0:
            continue
        words = table[at + 2 : table.find(b"\n", at)].split()
        if len(words) > 8 and int(words[2], 16) in HELD and words[8] != b"0":
            return Owner(words[6].decode(), int(words[8]))
    return None


def _spellings(ends: Ends) -> Iterator[tuple[str, str]]:
    """The addresses as in tcp, and as in tcp6 for a program that speaks IPv4 through an IPv6 socket."""
    mapped = "0000000000000000" + struct.pack("!I", int.from_bytes(b"\0\0\xff\xff", sys.byteorder)).hex().upper()
    client, ours = _hex(ends.client[0]), _hex(ends.ours[0])
    for prefix in ("", mapped) if len(client) == 8 else ("",):
        yield f"{prefix}{client}:{ends.client[1]:04X}", f"{prefix}{ours}:{ends.ours[1]:04X}"


def _hex(address: str) -> str:
    """An address as words of 32 bits in the machine's byte order."""
    octets = packed(address)
    words = (octets[start : start + 4] for start in range(0, len(octets), 4))
    return "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words)
