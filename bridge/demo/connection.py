"""What the demo's three mail servers share: a client's streams, and who may open which mailbox."""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable

from bridge.demo import sasl
from bridge.demo.mailboxes import Mail, Mailbox

Owner = Callable[[str], str | None]
"""Gives the address whose mail an access token opens."""


class Connection(ABC):
    """One client, which is the bridge."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, owner: Owner, mail: Mail) -> None:
        self.reader = reader
        self.writer = writer
        self.mail = mail
        self._owner = owner

    @abstractmethod
    def greet(self) -> None:
        """Say hello."""

    @abstractmethod
    async def answer_next(self) -> bool:
        """Read one command and answer it; False when that was the last."""

    async def serve(self) -> None:
        """Answer commands until the client says goodbye or is gone."""
        self.greet()
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ValueError):
            await self.writer.drain()
            while await self.answer_next():
                await self.writer.drain()
            await self.writer.drain()

    def say(self, *lines: str) -> None:
        """Write whole lines."""
        self.writer.write("".join(f"{line}\r\n" for line in lines).encode())

    async def ask(self, challenge: str) -> bytes:
        """A line to the client, and its answer."""
        self.say(challenge)
        await self.writer.drain()
        return (await self.reader.readline()).strip()

    async def authenticate(self, blob: bytes, continuation: str) -> Mailbox | None:
        """The mailbox that an XOAUTH2 response opens (asked for if empty); a failure is challenged as Gmail does."""
        box = sasl.authenticated(blob or await self.ask(f"{continuation} "), self._owner, self.mail)
        if box is None:
            await self.ask(f"{continuation} {sasl.FAILURE.decode()}")
        return box


class LineConnection(Connection):
    """A connection on which each command is one line, as in POP3 and SMTP."""

    async def answer_next(self) -> bool:
        """See Connection."""
        line = await self.reader.readline()
        verb, _, argument = line.decode("utf-8", "replace").strip().partition(" ")
        return bool(line) and await self.carry_out(verb.upper(), argument)

    @abstractmethod
    async def carry_out(self, verb: str, argument: str) -> bool:
        """Answer this command, its verb in capitals; False when it was the last."""
