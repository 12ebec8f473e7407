"""The demo's mail: one INBOX for each address, in memory."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from email.utils import formatdate, make_msgid

MESSAGES_KEPT = 200
"""For each mailbox; beyond that the oldest is dropped, since the demo may run for long."""


@dataclass(slots=True)
class Message:
    """One message as delivered."""

    uid: int
    content: bytes
    """RFC 5322, lines ending in CRLF."""
    received_at: float
    flags: set[str] = field(default_factory=set)


class Mailbox:
    """An INBOX; watchers are told of new mail."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.messages: list[Message] = []
        self.uid_next = 1
        self.changed = asyncio.Condition()

    async def deliver(self, content: bytes, flags: set[str] | None = None) -> Message:
        """Add a message and wake whoever is idling."""
        message = Message(self.uid_next, content, time.time(), set(flags or ()))
        self.uid_next += 1
        self.messages.append(message)
        del self.messages[:-MESSAGES_KEPT]
        async with self.changed:
            self.changed.notify_all()
        return message


class Mail:
    """All mailboxes of the demo."""

    def __init__(self, addresses: tuple[str, ...]) -> None:
        self._boxes = {address: Mailbox(address) for address in addresses}

    def box(self, address: str) -> Mailbox | None:
        """The mailbox of this address."""
        return self._boxes.get(address.lower())

    async def welcome(self) -> None:
        """Deliver a message to each, so that there is something to read."""
        for box in self._boxes.values():
            await box.deliver(_welcome(box.address))


def _welcome(address: str) -> bytes:
    lines = (
        "From: mail-bridge demo <demo@example.com>",
        f"To: {address}",
        "Subject: Welcome to the demo",
        f"Date: {formatdate()}",
        f"Message-ID: {make_msgid(domain='example.com')}",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        "",
        "This message came over XOAUTH2, to a program that can only do LOGIN.",
        "",
    )
    return "\r\n".join(lines).encode()
