"""A bridge as one person's tray sees it without any token: the accounts that wait for this person, and no others."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from bridge.clock import Clock, SystemClock
from bridge.config.console import DEFAULT_PORT, sign_in_url
from bridge.control import rendezvous, wire
from bridge.control.contract import AccountState, AccountStatus, Status
from bridge.control.remote import CONNECT_SECONDS, HELLO_SECONDS, loopback_session, not_running, whole
from bridge.errors import BridgeError
from bridge.model import SignInPrompt
from bridge.notices import AuthorizationNeeded, Notice

PATH: Final = "/mine"
HEADER: Final = "X-Mail-Bridge"
"""A page of another site cannot send it: the browser would ask us first (CORS preflight), and we allow nothing."""
PATIENCE: Final = 25.0
"""Seconds for which the bridge holds a request open until there is news (long polling)."""
REST_SECONDS: Final = 1.0
"""Between two requests, also to a bridge that does not hold them open."""
ANSWER_LIMIT: Final = 64 * 1024
"""Octets: 25 accounts with the longest address and program have some 10 KiB."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """The answer to `/mine`."""

    accounts: tuple[SignInPrompt, ...]
    tag: str
    """Changes when there is news: `?seen=TAG` waits for that."""


def tag_of(prompts: tuple[SignInPrompt, ...]) -> str:
    """A digest of what a person would see of them."""
    seen = "\n".join(f"{prompt.address} {prompt.is_pending}" for prompt in prompts)
    return hashlib.sha256(seen.encode("utf-8", "surrogatepass")).hexdigest()[:16]


class OwnView:
    """What a tray follows; no passwords, no console, nobody else's accounts.

    Nothing proves that the program listening there is a mail-bridge. So we tell it nothing, and use no more of its
    answer than the addresses and whether a sign-in is under way. The page to open is always the console's own.
    """

    def __init__(self, session: aiohttp.ClientSession, url: str, clock: Clock, is_over: Callable[[], bool]) -> None:
        """Args: is_over, True once there is a better way to this bridge. Raises: ValueError for another machine."""
        if not rendezvous.is_loopback_url(url):
            raise ValueError("the control interface is only ever asked on this machine")
        self._session = session
        self._url = url
        self._clock = clock
        self._is_over = is_over

    async def status(self) -> Status:
        """Only this person's accounts, and only those that need a sign-in. Raises: BridgeNotRunning, WireError."""
        found = await self._ask("")
        return Status("", "", False, tuple(self._status_of(one) for one in found.accounts), (), ())

    async def notices(self) -> AsyncGenerator[Notice, None]:
        """A notice whenever there is news. Raises: BridgeNotRunning once the bridge has stopped."""
        tag = (await self._ask("")).tag
        while True:
            await self._clock.pause(REST_SECONDS)
            found = await self._ask(tag)
            if found.tag != tag:
                tag = found.tag
                yield AuthorizationNeeded("", "", "")

    def _status_of(self, prompt: SignInPrompt) -> AccountStatus:
        state = AccountState.PENDING if prompt.is_pending else AccountState.SIGN_IN
        page = sign_in_url(urlsplit(self._url).port or DEFAULT_PORT, prompt.address)
        return AccountStatus(prompt.address, "", "", state, sign_in_url=page)

    async def _ask(self, seen: str) -> Prompts:
        if self._is_over():
            raise not_running(self._url)
        timeout = aiohttp.ClientTimeout(total=HELLO_SECONDS + (PATIENCE if seen else 0), sock_connect=CONNECT_SECONDS)
        try:
            async with self._session.get(
                f"{self._url}{PATH}",
                params={"seen": seen} if seen else None,
                headers={HEADER: "tray"},
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                if response.status != 200:
                    raise not_running(self._url)
                return wire.decode(Prompts, wire.loads(await whole(response, ANSWER_LIMIT)))
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise not_running(self._url) from error


@asynccontextmanager
async def connect_own(url: str, is_over: Callable[[], bool] = lambda: False) -> AsyncIterator[OwnView | None]:
    """The bridge whose console is at `url` (`http://127.0.0.1:3017`); None if none answers there that recognises us."""
    async with loopback_session() as session:
        view = OwnView(session, url, SystemClock(), is_over)
        try:
            await view.status()
        except BridgeError:
            is_alive = False
        else:
            is_alive = True
        yield view if is_alive else None
