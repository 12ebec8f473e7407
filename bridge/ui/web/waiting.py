"""Sign-ins by device code: the page that shows the code, and knows by itself when the person has finished elsewhere."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from aiohttp import web

from bridge.clock import Clock
from bridge.control.contract import Control, SignInStarted
from bridge.errors import BridgeError
from bridge.notices import AuthorizationEnded, Authorized, Notice, ServersChecked
from bridge.observe.logs import trouble
from bridge.tasks import task_group
from bridge.ui.web.callback import Callback, Outcome
from bridge.ui.web.expiring import Expiring
from bridge.ui.web.rendering import page, see_other, sign_in_over

PAGES = 1000
PAGE_SECONDS = 1800.0
"""Longer than any provider's code lives (15 minutes at Microsoft), so that its end can still be shown."""
LOOK_SECONDS = 4
"""Between two updates of the page: by console.js or, without JavaScript, by reloading itself."""


@dataclass(slots=True)
class _Wait:
    name: str
    started: SignInStarted
    owner: str
    """The OS user who has begun it."""
    is_stored: bool = False
    """The person has finished; the mail servers are being tried."""
    done: str = ""
    """Path of the page with the result, once there is one."""


class Waiting:
    """The pages that wait. Enter running() before use."""

    def __init__(self, control: Control, callback: Callback, clock: Clock) -> None:
        self._control = control
        self._callback = callback
        self._clock = clock
        self._waits: Expiring[_Wait] = Expiring(clock, limit=PAGES, life=PAGE_SECONDS)
        self._by_address: dict[str, list[_Wait]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._follower: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Leaving stops following the notices."""
        async with task_group() as group:
            self._group = group
            try:
                yield
            finally:
                if self._follower is not None:
                    self._follower.cancel()

    def open(self, started: SignInStarted, owner: str) -> web.StreamResponse:
        """Redirect to a page for this sign-in, whose name only this user's browsers know. It is the same page each
        time, so that nobody can create any number of pages."""
        if self._group is not None and (self._follower is None or self._follower.done()):
            self._follower = self._group.create_task(self._follow(), name="device pages")
        waits = self._by_address.setdefault(started.address, [])
        wait = next((wait for wait in waits if wait.started.attempt == started.attempt), None)
        if wait is None:
            wait = _Wait(secrets.token_urlsafe(16), started, owner)
            waits.append(wait)
        self._waits.add(wait.name, wait, owner)
        return see_other(f"/waiting/{wait.name}")

    async def show(self, request: web.Request) -> web.StreamResponse:
        """The code, until the result is there."""
        wait = self._waits.get(request.match_info["name"])
        if wait is None:
            return sign_in_over()
        if wait.done:
            return see_other(wait.done)
        started = wait.started
        minutes = max(1, round((started.expires_at - self._clock.now()) / 60))
        return page(
            "device.html",
            address=started.address,
            code=started.user_code,
            url=started.url,
            host=urlsplit(started.url).hostname or "",
            link=started.direct_url or started.url,
            has_code=bool(started.direct_url),
            minutes=minutes,
            seconds=LOOK_SECONDS,
        )

    async def _follow(self) -> None:
        """Follow the notices until nobody waits any more; if the bridge goes away, only the waiting ends, not the
        console."""
        try:
            async with aclosing(self._control.notices()) as notices:
                async for notice in notices:
                    await self._take(notice)
                    if not self._by_address:
                        return
        except BridgeError as problem:
            trouble("console.notices_ended", reason=str(problem))

    async def _take(self, notice: Notice) -> None:
        match notice:
            case Authorized(address):
                for wait in self._by_address.get(address, []):
                    wait.is_stored = True
                return
            case ServersChecked(address):
                # Only if a sign-in waits for it: anybody may try the mail servers of an account at any time.
                if not any(wait.is_stored for wait in self._by_address.get(address, [])):
                    return
                outcome = Outcome("ready", address, "", checks=await self._callback.checks(address))
            case AuthorizationEnded(address, "denied" | "wrong_person" | "unsaved" as code, reason, diagnosis):
                outcome = Outcome(code, address, reason, diagnosis)
            case AuthorizationEnded(address, _, reason, diagnosis):
                outcome = Outcome("failed", address, reason, diagnosis)
            case _:
                return
        attempt = notice.attempt if isinstance(notice, AuthorizationEnded) else None
        left = []
        for wait in self._by_address.pop(address, []):
            # Others go on waiting: begun while the servers were tried, or by somebody else.
            is_over = wait.is_stored if attempt is None else wait.started.attempt == attempt
            if is_over:
                wait.done = self._callback.result(outcome, wait.owner)
            else:
                left.append(wait)
        if left:
            self._by_address[address] = left
