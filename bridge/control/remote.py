"""The same contract over loopback HTTP, for a tray or CLI in another process."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from bridge.advice.said import said
from bridge.advice.system import too_little
from bridge.config.console import DEFAULT_PORT, console_url
from bridge.control import rendezvous, wire
from bridge.control.contract import AccountStatus, Finding, SignInStarted, SignOut, Status
from bridge.errors import BridgeError, TooLittleLeft
from bridge.notices import Notice
from bridge.secret import Secret
from bridge.shortage import is_short

CONNECT_SECONDS = 5.0
HELLO_SECONDS = 20.0
"""For the first request. A live bridge answers it from memory, but may have to load its console first, on a busy
machine: if we took it for dead too soon, a second program would open its store."""

CALL_SECONDS = 180.0
"""For one call: completing a sign-in asks the token endpoint and tries each mail server, each with its own limit."""

SILENCE_SECONDS = 3 * wire.KEEP_ALIVE
"""Without even an empty line for this long, the stream of notices has died."""

ANSWER_LIMIT = 32 * 1024 * 1024
"""Octets of one answer, or of one notice; a status of 50,000 accounts has about half of that."""


class BridgeNotRunning(BridgeError):
    """Nobody answers for the bridge: it is not running, has just stopped, or was restarted since."""

    temporary = True
    public_text = "The mail bridge is not running."


class RemoteControl:
    """Control of a bridge in another process: on this machine only, through no proxy, following no redirect."""

    def __init__(self, session: aiohttp.ClientSession, url: str, token: Secret[str]) -> None:
        """Use opened() or connect(). Raises: ValueError for a URL that is not one of this machine."""
        if not rendezvous.is_loopback_url(url):
            raise ValueError("the control interface is only ever asked on this machine")
        self._session = session
        self._url = url
        self._token = token

    @classmethod
    @asynccontextmanager
    async def opened(cls, url: str, token: Secret[str]) -> AsyncIterator[RemoteControl]:
        """A control for the bridge at `url` (as published: http://127.0.0.1:3017); asks nothing yet."""
        async with loopback_session() as session:
            yield cls(session, url, token)

    @property
    def port(self) -> int:
        """The port of its console, whatever the configuration says by now."""
        return urlsplit(self._url).port or DEFAULT_PORT

    async def hello(self) -> None:
        """Make sure that the program listening there knows the token, before we send it there.

        Once a bridge has died, anybody on a shared machine may listen on its port. Raises: BridgeNotRunning;
        TooLittleLeft where our own process has no descriptor left to ask with.
        """
        nonce = secrets.token_hex(32)
        timeout = aiohttp.ClientTimeout(total=HELLO_SECONDS, sock_connect=CONNECT_SECONDS)
        try:
            async with self._session.get(
                f"{self._url}/api/hello", params={"nonce": nonce}, timeout=timeout, allow_redirects=False
            ) as response:
                answer = wire.loads(await whole(response))
                known = wire.take_text(answer, "proof")
        except (aiohttp.ClientError, OSError, TimeoutError, wire.WireError) as error:
            if is_short(error):
                raise TooLittleLeft(too_little(error)) from error
            raise BridgeNotRunning(said("no mail-bridge answers at {url}", url=self._url)) from error
        if not hmac.compare_digest(known.encode("utf-8", "surrogatepass"), wire.proof(self._token, nonce).encode()):
            raise BridgeNotRunning(
                said("what answers at {url} is not the mail-bridge that was started here", url=self._url)
            )

    async def status(self) -> Status:
        """See Control."""
        return wire.decode(Status, await self._call("GET", "status"))

    async def begin_authorization(self, address: str, asker: str = "") -> SignInStarted:
        """See Control."""
        return wire.decode(SignInStarted, await self._call("POST", "begin", address=address, asker=asker))

    async def complete_authorization(self, parameters: Mapping[str, str]) -> str:
        """See Control."""
        return wire.take_text(await self._call("POST", "complete", parameters=dict(parameters)), "address")

    async def cancel_authorization(self, address: str) -> None:
        """See Control."""
        await self._call("POST", "cancel", address=address)

    async def forget(self, address: str) -> SignOut:
        """See Control."""
        return wire.decode(SignOut, await self._call("POST", "forget", address=address))

    async def adopt(self, address: str, refresh_token: Secret[str]) -> AccountStatus:
        """See Control."""
        answer = await self._call("POST", "adopt", address=address, refresh_token=refresh_token.reveal())
        return wire.decode(AccountStatus, answer)

    async def check_account(self, address: str) -> AccountStatus:
        """See Control."""
        return wire.decode(AccountStatus, await self._call("POST", "check", address=address))

    async def diagnose(self) -> tuple[Finding, ...]:
        """See Control."""
        return wire.decode_findings(await self._call("POST", "diagnose"))

    async def local_password(self, address: str) -> Secret[str]:
        """See Control."""
        return _password(await self._call("POST", "local-password", address=address))

    async def rotate_local_password(self, address: str, *, at_once: bool = False) -> Secret[str]:
        """See Control."""
        return _password(await self._call("POST", "local-password/rotate", address=address, at_once=at_once))

    async def set_local_password(self, address: str, password: Secret[str], *, at_once: bool = False) -> None:
        """See Control."""
        fields = {"address": address, "password": password.reveal(), "at_once": at_once}
        await self._call("POST", "local-password/set", **fields)

    async def console_link(self, user_id: str = "") -> str:
        """A link to the console's page with all accounts, for a browser on this machine; works once, within a minute.

        Args: user_id, the system's id of the user whose browser it is; default: the user who asks.
        """
        whose = {"user": user_id} if user_id else {}
        ticket = wire.take_text(await self._call("POST", "console-ticket", **whose), "ticket")
        return f"{console_url(self.port)}admin/{ticket}"

    async def notices(self) -> AsyncGenerator[Notice, None]:
        """See Control. Raises: BridgeNotRunning once the bridge has stopped; iterate anew to follow the next one."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS)
        try:
            async with self._session.get(
                f"{self._url}/api/notices", headers=self._headers(), timeout=timeout, allow_redirects=False
            ) as response:
                if response.status != 200:
                    raise self._refusal(response.status, await whole(response))
                async for line in _lines(response):
                    if line.strip():
                        yield wire.decode_notice(line)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise not_running(self._url) from error
        raise not_running(self._url)

    async def _call(self, method: str, path: str, **body: object) -> dict[str, Any]:
        content = wire.dumps(body).encode() if method == "POST" else None
        headers = self._headers() | ({"Content-Type": "application/json"} if content else {})
        try:
            async with self._session.request(
                method, f"{self._url}/api/{path}", data=content, headers=headers, allow_redirects=False
            ) as response:
                status, answer = response.status, await whole(response)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise not_running(self._url) from error
        if status != 200:
            raise self._refusal(status, answer)
        return wire.loads(answer)

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token.reveal()}"}

    def _refusal(self, status: int, answer: bytes) -> Exception:
        """The exception that the bridge raised."""
        if status == 401:
            return BridgeNotRunning(said("the mail-bridge at {url} was restarted; try again", url=self._url))
        try:
            return wire.decode_error(wire.loads(answer))
        except wire.WireError:  # a page for people: the request was too large, or the bridge has a fault
            return BridgeError(
                said(
                    "the mail-bridge at {url} cannot answer this ({status}); its log says more",
                    url=self._url,
                    status=status,
                )
            )


def not_running(url: str) -> BridgeNotRunning:
    """The error for a URL at which nobody answers, or not as a mail-bridge does."""
    return BridgeNotRunning(said("the mail-bridge at {url} does not answer; is it running?", url=url))


def loopback_session() -> aiohttp.ClientSession:
    """An HTTP session for a bridge on this machine."""
    return aiohttp.ClientSession(
        trust_env=False,  # no proxy and no netrc of the environment ever sees the token
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,  # our answers are not compressed, and so a small one cannot become a large one
        timeout=aiohttp.ClientTimeout(total=CALL_SECONDS, sock_connect=CONNECT_SECONDS),
    )


@asynccontextmanager
async def connect(*directories: Path) -> AsyncIterator[RemoteControl | None]:
    """The first running bridge that has published itself in one of these directories.

    Gives None when none is running: no file, no listener on its port, or a listener that does not know its token.
    Raises: TooLittleLeft.
    """
    for directory in directories:
        async with _connected(rendezvous.find(directory)) as control:
            if control is not None:
                yield control
                return
    yield None


@asynccontextmanager
async def connect_given(file: Path) -> AsyncIterator[RemoteControl | None]:
    """Like connect(), for the published file of another user's bridge, which its administrator lets us read."""
    async with _connected(rendezvous.find_given(file)) as control:
        yield control


@asynccontextmanager
async def _connected(found: tuple[str, Secret[str]] | None) -> AsyncIterator[RemoteControl | None]:
    if found is None:
        yield None
        return
    async with RemoteControl.opened(*found) as control:
        try:
            await control.hello()
        except BridgeNotRunning:
            is_alive = False
        else:
            is_alive = True
        yield control if is_alive else None


def _password(answer: Mapping[str, Any]) -> Secret[str]:
    return Secret(wire.take_text(answer, "password"))


async def whole(response: aiohttp.ClientResponse, limit: int = ANSWER_LIMIT) -> bytes:
    """The body, at most `limit` octets. Raises: WireError."""
    content = bytearray()
    async for piece in response.content.iter_any():
        content += piece
        if len(content) > limit:
            raise wire.WireError("an answer that is too long")
    return bytes(content)


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Complete lines, each of at most ANSWER_LIMIT octets. Raises: WireError.

    aiohttp's own line reader is not used: it allows half a MiB for a line, while the notice of a reload names each
    account that was added; and for a longer line each version of aiohttp raises another exception.
    """
    begun = bytearray()
    async for piece in response.content.iter_any():
        *ends, rest = piece.split(b"\n")
        for end in ends:
            yield bytes(begun + end)
            begun.clear()
        begun += rest
        if len(begun) > ANSWER_LIMIT:
            raise wire.WireError("a notice that is too long")
