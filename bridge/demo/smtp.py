"""The demo's SMTP submission server: delivers to the demo's own mailboxes, to nobody else."""

from __future__ import annotations

import re
from typing import Any

from bridge.demo.connection import LineConnection
from bridge.demo.mailboxes import Mailbox

MESSAGE_LIMIT = 64 * 1024 * 1024
OFFERED = (f"SIZE {MESSAGE_LIMIT}", "8BITMIME", "SMTPUTF8", "PIPELINING", "ENHANCEDSTATUSCODES", "AUTH XOAUTH2")


class SmtpConnection(LineConnection):
    """See LineConnection."""

    def __init__(self, *streams_and_mail: Any) -> None:
        super().__init__(*streams_and_mail)
        self._sender: Mailbox | None = None
        self._recipients: list[Mailbox] = []

    def greet(self) -> None:
        """See Connection."""
        self.say("220 demo.example.com ESMTP mail-bridge demo")

    async def carry_out(self, verb: str, argument: str) -> bool:
        """See LineConnection."""
        match verb:
            case "EHLO":
                lines = ("demo.example.com", *OFFERED)
                self.say(*(f"250-{line}" for line in lines[:-1]), f"250 {lines[-1]}")
            case "HELO" | "NOOP":
                self.say("250 2.0.0 ok")
            case "RSET":
                self._recipients = []
                self.say("250 2.0.0 ok")
            case "QUIT":
                self.say("221 2.0.0 bye")
                return False
            case "AUTH":
                await self._authenticate(argument)
            case _ if self._sender is None:
                self.say("530 5.7.0 Authentication required")
            case "MAIL":
                self._recipients = []
                self.say("250 2.1.0 ok")
            case "RCPT":
                self._recipient(argument)
            case "DATA":
                await self._data()
            case _:
                self.say("502 5.5.1 The demo does not know that")
        return True

    async def _authenticate(self, argument: str) -> None:
        mechanism, _, blob = argument.partition(" ")
        if mechanism.upper() != "XOAUTH2":
            self.say("504 5.5.4 Only XOAUTH2")
            return
        self._sender = await self.authenticate(blob.encode(), "334")
        self.say("535 5.7.8 Invalid credentials" if self._sender is None else "235 2.7.0 Accepted")

    def _recipient(self, argument: str) -> None:
        match = re.search(r"<([^>]+)>", argument)
        box = self.mail.box(match[1]) if match else None
        if box is None:
            self.say("550 5.1.1 The demo delivers to its own addresses only")
        else:
            self._recipients.append(box)
            self.say("250 2.1.5 ok")

    async def _data(self) -> None:
        if not self._recipients:
            self.say("503 5.5.1 Recipients first")
            return
        self.say("354 End with a line that is a dot")
        await self.writer.drain()
        content = bytearray()
        while (line := await self.reader.readline()) != b".\r\n":
            if not line:
                raise ConnectionResetError
            if len(content) <= MESSAGE_LIMIT:
                content += line[1:] if line.startswith(b".") else line
        if len(content) > MESSAGE_LIMIT:
            self.say("552 5.3.4 Too large")
            return
        for box in self._recipients:
            await box.deliver(bytes(content))
        self._recipients = []
        self.say("250 2.0.0 Delivered")
