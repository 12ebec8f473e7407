"""A mail client's dialogue with the SMTP frontend over a real socket."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bridge import errors
from bridge.model import Login
from bridge.relay.channel import Channel
from bridge.relay.connected import open_channel
from bridge.relay.smtp_frontend import SmtpFrontend
from tests.relay.sockets import tcp_pair

PLAIN = base64.b64encode(b"\0alice@example.com\0s3cret").decode()
USER = base64.b64encode(b"alice@example.com").decode()
WORD = base64.b64encode(b"s3cret").decode()


class Talk:
    """The mail client's end of a connection, and the frontend at the other."""

    def __init__(self, client: Channel, frontend: SmtpFrontend, bridge: Channel) -> None:
        self.client = client
        self.bridge = bridge
        self.frontend = frontend
        self._received = b""

    async def say(self, *lines: str) -> None:
        await self.client.send("".join(f"{line}\r\n" for line in lines).encode("utf-8"))

    async def hear(self) -> list[str]:
        """One whole reply."""
        lines: list[str] = []
        while True:
            while b"\n" not in self._received:
                data = await self.client.receive()
                assert data, f"closed after {lines} {self._received!r}"
                self._received += data
            line, _, self._received = self._received.partition(b"\n")
            lines.append(line.decode("ascii").rstrip("\r"))
            if lines[-1][3:4] != "-":
                return lines

    async def ask(self, line: str) -> str:
        await self.say(line)
        return (await self.hear())[-1]

    async def login(self, *lines: str) -> Login:
        await self.say(*lines)
        return await self.frontend.login()


@asynccontextmanager
async def talking(
    *extensions: str, context: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[Talk, asyncio.Future[Login]]]:
    """A client that has read the greeting; the future holds its login, or the error that ended the wait for one."""
    loop = asyncio.get_running_loop()
    left, right = (open_channel(sock, loop) for sock in tcp_pair())
    frontend = SmtpFrontend(right, extensions=lambda: extensions, context=context)
    outcome: asyncio.Future[Login] = loop.create_future()

    async def wait() -> None:
        try:
            outcome.set_result(await frontend.login())
        except errors.BridgeError as problem:
            outcome.set_exception(problem)

    try:
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(wait())
            talk = Talk(left, frontend, right)
            assert await talk.hear() == ["220 localhost ESMTP mail-bridge ready"]
            try:
                yield talk, outcome
            finally:
                waiting.cancel()
    finally:
        frontend.close()
        left.close()
        right.close()
