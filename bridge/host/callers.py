"""Whose program is at the other end of a local connection: its user, and its name where the system tells."""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from bridge.model import Caller, Ends
from bridge.shortage import is_short
from bridge.threads import NotDone, Threads

ASK_SECONDS = 3.0
"""For a directory (LDAP, a domain controller) that knows the user's name: a login waits for it."""
ASKED_AT_ONCE = 8
"""Logins that wait for the system at once; a directory that hangs holds no more threads than this."""
NAME_SECONDS = 300.0
"""How long a user's name is cached: renaming a user is rare, and each login needs the name."""
NAMES = 4096
"""Users whose names are remembered."""

ELSEWHERE = "the connection comes from another machine"
GONE = "the connection is closed already"
NOT_TOLD = "the system does not tell whose it is"
NO_WAY = "mail-bridge does not know how to ask this system"


@dataclass(frozen=True, slots=True)
class Owner:
    """Who holds a socket."""

    user_id: str
    """A number, or a SID."""
    handle: int = 0
    """By this the program is found: the socket's inode on Linux, the process elsewhere; 0 if unknown."""


class NotAtOnce(Exception):
    """The answer takes longer than a moment."""


class System(Protocol):
    """What we ask of one operating system. The calls may block, except `owner_now`; only those that say so raise."""

    def owner_now(self, ends: Ends) -> Owner | None:
        """As owner(), in microseconds. Raises: NotAtOnce where owner() must be called instead, as on macOS and Windows,
        which give the list of all connections only as a whole."""
        raise NotAtOnce

    def owner(self, ends: Ends) -> Owner | None:
        """The owner, however long it takes; None if the system does not tell. Raises: NotDone if it cannot be asked
        just now."""

    def user_name(self, user_id: str) -> str:
        """The user's name; empty if there is none. Raises: NotDone if nobody can be asked just now."""

    def main_user(self, user_id: str) -> str:
        """For a number without a name: the user to whom it belongs, who may run programs under a whole range of numbers
        (subuid(5)). The number itself if it is no such number: only Linux has them."""
        return user_id

    def program(self, owner: Owner) -> str:
        """The name of the program's file; empty if the system does not tell us."""


class Callers:
    """One for each process; asks the operating system, and remembers the names of users."""

    def __init__(self, system: System | None, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._system = system
        self._monotonic = monotonic
        self._threads = Threads("caller", limit=ASK_SECONDS, at_once=ASKED_AT_ONCE)
        self._names: OrderedDict[str, tuple[float, str, str]] = OrderedDict()
        """By the number that the system tells: when it was looked up, the user's name, and the user's own number."""

    async def of(self, ends: Ends | None) -> Caller:
        """Whose program it is. Raises: nothing; what is not known says why."""
        if ends is None:
            return Caller(unknown=GONE)
        try:
            if not is_local(ends):
                return Caller(host=ends.client[0], unknown=ELSEWHERE)
            if self._system is None:
                return Caller(unknown=NO_WAY)
            owner = await self._owner(self._system, ends)
        except NotDone as problem:
            return Caller(unknown=str(problem), is_for_now=True)
        if owner is None:
            return Caller(host=_other_machine(ends), unknown=NOT_TOLD)
        return await self._named(self._system, owner.user_id)

    def at_once(self, ends: Ends | None) -> Caller | None:
        """Like of(), in microseconds and without waiting; None where it would take longer, or is not known."""
        found = self._unnamed(ends)
        return self._remembered(found.user_id) if found is not None and found.user_id else found

    def key_at_once(self, ends: Ends | None) -> str:
        """What tells callers apart (Caller.key), also of users whose names are not known yet; empty where at_once() has
        no answer either. In microseconds."""
        found = self._unnamed(ends)
        return "" if found is None else found.key

    def _unnamed(self, ends: Ends | None) -> Caller | None:
        """By the number that the system tells; see at_once()."""
        if ends is None:
            return None
        try:
            if not is_local(ends):
                return Caller(host=ends.client[0], unknown=ELSEWHERE)
            owner = None if self._system is None else self._system.owner_now(ends)
        except (NotAtOnce, NotDone):
            return None
        return None if owner is None else Caller(user_id=owner.user_id)

    async def program(self, ends: Ends | None) -> str:
        """The program's name; empty where the system does not tell us. Costs milliseconds, so it is only for pages."""
        if ends is None or self._system is None:
            return ""
        system = self._system
        try:
            owner = await self._owner(system, ends) if is_local(ends) else None
            name = "" if owner is None else await self._threads.run(lambda: system.program(owner))
        except NotDone:
            return ""
        return "".join(character for character in name if character.isprintable())  # the user has chosen the name

    async def _owner(self, system: System, ends: Ends) -> Owner | None:
        """Raises: NotDone."""
        try:
            return system.owner_now(ends)
        except NotAtOnce:
            return await self._threads.run(lambda: system.owner(ends))

    async def _named(self, system: System, user_id: str) -> Caller:
        """From memory, or from the system, in a thread, since a directory may be slow to answer."""
        if (remembered := self._remembered(user_id)) is not None:
            return remembered
        now = self._monotonic()
        _, name, known = self._names.get(user_id, (now, "", user_id))
        try:
            found, main = await self._threads.run(lambda: _user(system, user_id))
        except NotDone as problem:
            return Caller(name, known, unknown="" if name else str(problem), is_for_now=not name)
        if not found:  # an older name is better than none, and is asked for again
            return Caller(name, known)
        self._names[user_id] = (now, found, main)
        self._names.move_to_end(user_id)
        while len(self._names) > NAMES:
            self._names.popitem(last=False)
        return Caller(found, main)

    def _remembered(self, user_id: str) -> Caller | None:
        """None if the name is not known, or was told too long ago."""
        told_at, name, known = self._names.get(user_id, (0.0, "", user_id))
        return Caller(name, known) if name and self._monotonic() - told_at < NAME_SECONDS else None


def _user(system: System, user_id: str) -> tuple[str, str]:
    """Name and own number of the user to whom this number belongs. Blocks. Raises: NotDone."""
    if name := system.user_name(user_id):
        return name, user_id
    main = system.main_user(user_id)
    return (system.user_name(main), main) if main != user_id else ("", user_id)


def owner_of(system: System, ends: Ends) -> Owner | None:
    """The owner, for callers that may block. Raises: NotDone."""
    try:
        return system.owner_now(ends)
    except NotAtOnce:
        return system.owner(ends)


def is_local(ends: Ends) -> bool:
    """True if both ends are on this machine, as far as can be said without asking for the owner.

    A program may connect from any of the machine's addresses to any other, such as from the network's to 127.0.0.1. If
    it were taken for another machine, each address would count as a further caller, and the console would know no user.
    Raises: NotDone if that cannot be found out just now.
    """
    other = _other_machine(ends)
    if not other:
        return True
    # Where a load balancer has named the client, there is no address of ours, and no socket to ask about.
    return bool(ends.ours[0]) and (_is_loopback(ends.ours[0]) or _is_of_this_machine(other))


def _other_machine(ends: Ends) -> str:
    """The client's address, unless the two addresses alone show that the client is on this machine; then empty."""
    client, ours = ends.client[0], ends.ours[0]
    return "" if client == ours or _is_loopback(client) else client


def _is_loopback(host: str) -> bool:
    return ipaddress.ip_address(host.partition("%")[0]).is_loopback


def _is_of_this_machine(host: str) -> bool:
    """True if we can bind the address, since nobody can bind another machine's. With keepalived (ip_nonlocal_bind) one
    can; then the system is merely asked about a connection that it does not know. Raises: NotDone."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((host, 0))
    except OSError as problem:
        if is_short(problem):
            raise NotDone(problem.strerror or str(problem)) from problem
        return False
    return True


def own_user_id() -> str:
    """The id of the person who has started this process, also by `sudo`; empty on Windows, where nobody can read the
    arguments of another user's program."""
    if sys.platform == "win32":
        return ""
    return (os.environ.get("SUDO_UID", "") if os.geteuid() == 0 else "") or str(os.geteuid())


def this_system() -> System | None:
    """How to ask this operating system; None if we do not know."""
    if sys.platform == "linux":
        from bridge.host.callers_linux import Linux

        return Linux()
    if sys.platform == "win32":
        from bridge.host.callers_windows import Windows

        return Windows()
    if sys.platform == "darwin":
        from bridge.host.callers_macos import MacOS

        return MacOS()
    return None
