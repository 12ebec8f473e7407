"""Whose program is at the other end of a local connection: user, and program where the system tells."""

from __future__ import annotations

import ipaddress
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from bridge.model import Caller, Ends
from bridge.threads import NotDone, Threads

Answer = TypeVar("Answer")

ASK_SECONDS = 3.0
"""For a directory (LDAP, a domain controller) that knows the user's name: a login waits for it."""
ASKED_AT_ONCE = 8
"""Logins that wait for the system; a directory that hangs holds no more threads than this."""
NAME_SECONDS = 300.0
"""How long a user's name is believed: renaming one is rare, and each login asks."""
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
    """What finds the program: the socket's inode on Linux, the process elsewhere; 0 for nothing."""


class System(Protocol):
    """What one operating system can be asked. Nothing raises; the calls may block, except `owner_now`."""

    def owner_now(self, ends: Ends) -> Owner | None:
        """At once, in microseconds; None if that does not work, which says nothing yet."""
        ...

    def owner(self, ends: Ends) -> Owner | None:
        """Whatever it costs; None if the system does not tell."""
        ...

    def user_name(self, user_id: str) -> str:
        """Empty if nobody knows it."""
        ...

    def program(self, owner: Owner) -> str:
        """The name of the program's file; empty if that is not told to us."""
        ...


class Callers:
    """One for each process; asks the operating system, and remembers the names of users."""

    def __init__(self, system: System | None, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._system = system
        self._monotonic = monotonic
        self._threads = Threads("caller", limit=ASK_SECONDS, at_once=ASKED_AT_ONCE)
        self._names: OrderedDict[str, tuple[float, str]] = OrderedDict()

    async def of(self, ends: Ends | None) -> Caller:
        """Whose program it is. Raises: nothing; what is not known says why."""
        if ends is None:
            return Caller(unknown=GONE)
        if not is_local(ends):
            return Caller(host=ends.client[0], unknown=ELSEWHERE)
        owner, reason = await self._owner(ends)
        if owner is None:
            return Caller(unknown=reason)
        return Caller(await self._name(owner.user_id), owner.user_id)

    async def program(self, ends: Ends | None) -> str:
        """The program's name; empty where the system does not tell us. Costs milliseconds: it is for pages."""
        if ends is None or not is_local(ends) or self._system is None:
            return ""
        owner, _ = await self._owner(ends)
        if owner is None:
            return ""
        system = self._system
        return await self._asked(lambda: system.program(owner)) or ""

    async def _owner(self, ends: Ends) -> tuple[Owner | None, str]:
        system = self._system
        if system is None:
            return None, NO_WAY
        owner = system.owner_now(ends) or await self._asked(lambda: system.owner(ends))
        return owner, NOT_TOLD

    async def _name(self, user_id: str) -> str:
        """From memory, or from the system: in a thread, since a directory may be slow to answer."""
        now = self._monotonic()
        known = self._names.get(user_id)
        if known is not None and now - known[0] < NAME_SECONDS:
            return known[1]
        system = self._system
        name = None if system is None else await self._asked(lambda: system.user_name(user_id))
        if not name:  # the directory does not answer: an older name is better than none, and is asked for again
            return known[1] if known is not None else ""
        self._names[user_id] = (now, name)
        self._names.move_to_end(user_id)
        while len(self._names) > NAMES:
            self._names.popitem(last=False)
        return name

    async def _asked(self, work: Callable[[], Answer | None]) -> Answer | None:
        try:
            return await self._threads.run(work)
        except NotDone:
            return None


def is_local(ends: Ends) -> bool:
    """True if both ends are on this machine."""
    return ends.client[0] == ends.ours[0] or ipaddress.ip_address(ends.client[0].partition("%")[0]).is_loopback


def posix_user_name(user_id: str) -> str:
    """By the system's directory of users, local or not; see System. Blocks."""
    if sys.platform == "win32":
        return ""
    import pwd  # not on Windows

    try:
        return pwd.getpwuid(int(user_id)).pw_name
    except KeyError:
        return ""


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
