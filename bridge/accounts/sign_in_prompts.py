"""Which mailboxes a person's own programs wait for, so that the prompt is shown to the person who has to answer it."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from weakref import WeakValueDictionary

from bridge.clock import Clock
from bridge.model import Account, Caller, Ends, SignInPrompt

KEPT = 24 * 3600.0
"""Seconds after the last login: a CRM tries again within minutes, unless the mailbox was removed from it."""
USERS = 4096
"""The most users remembered; the latest ones."""
ADDRESSES = 25
"""The most addresses of one user, as many as a menu has room for. The first ones are kept, and others follow as these
are done."""


@dataclass(slots=True)
class _Wanted:
    """An address that one user's programs want."""

    program: str
    first: float
    last: float
    """`first` and `last` are by the monotonic clock."""


class SignInPrompts:
    """One for each process; in memory only, since a mail program asks again."""

    def __init__(
        self,
        find: Callable[[str], Account | None],
        is_pending: Callable[[Account, str], Awaitable[bool | None]],
        caller_of: Callable[[Ends | None], Awaitable[Caller]],
        clock: Clock,
    ) -> None:
        """`is_pending`: True if a sign-in of this user's is under way, False if one is needed, None if neither."""
        self._find = find
        self._is_pending = is_pending
        self._caller_of = caller_of
        self._clock = clock
        self._wanted: OrderedDict[str, dict[str, _Wanted]] = OrderedDict()
        self._changes: WeakValueDictionary[str, asyncio.Event] = WeakValueDictionary()
        """By user id, for users whose change somebody awaits."""

    def note(self, user_id: str, address: str, program: str) -> None:
        """Note that a program of this user was told that somebody must sign in; an unknown user is not noted."""
        if not user_id:
            return
        wanted = self._wanted.setdefault(user_id, {})
        self._wanted.move_to_end(user_id)
        now = self._clock.monotonic()
        found = wanted.get(address)
        if found is not None:
            found.last, found.program = now, program or found.program
        elif len(wanted) < ADDRESSES:
            wanted[address] = _Wanted(program, now, now)
            self._tell(user_id)
        while len(self._wanted) > USERS:
            self._wanted.popitem(last=False)

    def heard(self, address: str) -> None:
        """Something has happened to this account: wake everybody who waits for a user that wants it."""
        for user_id in list(self._changes):
            if address in self._wanted.get(user_id, {}):
                self._tell(user_id)

    async def user_of(self, ends: Ends | None) -> str:
        """Whose program is at the other end; empty if that is not known."""
        return (await self._caller_of(ends)).user_id

    def change_of(self, user_id: str) -> asyncio.Event:
        """An event that is set as soon as prompts() may return something else. Get it before you call prompts(), and
        get a new one after it was set."""
        return self._changes.setdefault(user_id, asyncio.Event())

    async def prompts(self, user_id: str) -> tuple[SignInPrompt, ...]:
        """What this user's programs wait for, the earliest first. Addresses that need no sign-in any more are
        forgotten."""
        wanted, since = self._wanted.get(user_id, {}), self._clock.monotonic() - KEPT
        found = []
        for address, entry in list(wanted.items()):
            last, account = entry.last, self._find(address)
            is_pending = None if account is None or last < since else await self._is_pending(account, user_id)
            if is_pending is not None:
                found.append(SignInPrompt(address, is_pending, entry.program, self._clock.monotonic() - entry.first))
            elif wanted.get(address) is entry and entry.last == last:  # no program has asked again meanwhile
                del wanted[address]
        if not wanted and self._wanted.get(user_id) is wanted:
            del self._wanted[user_id]
        return tuple(found)

    def _tell(self, user_id: str) -> None:
        change = self._changes.pop(user_id, None)
        if change is not None:
            change.set()
