"""The demo's POP3 server."""

from __future__ import annotations

from typing import Any

from bridge.demo.connection import LineConnection
from bridge.demo.mailboxes import Message


class Pop3Connection(LineConnection):
    """XOAUTH2 in two steps only, as at Exchange."""

    def __init__(self, *streams_and_mail: Any) -> None:
        super().__init__(*streams_and_mail)
        self._messages: list[Message] | None = None

    def greet(self) -> None:
        """See Connection."""
        self.say("+OK mail-bridge demo")

    async def carry_out(self, verb: str, argument: str) -> bool:
        """See LineConnection."""
        match verb:
            case "CAPA":
                self.say("+OK", "TOP", "UIDL", "SASL XOAUTH2", ".")
            case "QUIT":
                self.say("+OK bye")
                return False
            case "NOOP":
                self.say("+OK")
            case "AUTH":
                await self._authenticate(argument)
            case _ if self._messages is None:
                self.say("-ERR log in first")
            case "STAT":
                self.say(f"+OK {len(self._messages)} {sum(len(m.content) for m in self._messages)}")
            case "LIST" | "UIDL":
                self._list(verb, argument, self._messages)
            case "RETR" | "TOP" | "DELE":
                self._message(verb, argument.split(), self._messages)
            case "RSET":
                self.say("+OK")
            case _:
                self.say("-ERR the demo does not know that")
        return True

    async def _authenticate(self, argument: str) -> None:
        if argument.upper() != "XOAUTH2":
            self.say("-ERR Protocol error: only AUTH XOAUTH2, in two steps")
            return
        box = await self.authenticate(b"", "+")
        if box is None:
            self.say("-ERR [AUTH] Invalid credentials")
        else:
            self._messages = list(box.messages)
            self.say("+OK authenticated")

    def _list(self, verb: str, argument: str, messages: list[Message]) -> None:
        def value(message: Message) -> int:
            return message.uid if verb == "UIDL" else len(message.content)

        if not argument:
            self.say("+OK", *(f"{n} {value(m)}" for n, m in enumerate(messages, 1)), ".")
        elif (message := _chosen(messages, argument)) is not None:
            self.say(f"+OK {argument} {value(message)}")
        else:
            self.say("-ERR no such message")

    def _message(self, verb: str, arguments: list[str], messages: list[Message]) -> None:
        message = _chosen(messages, arguments[0] if arguments else "")
        if message is None:
            self.say("-ERR no such message")
        elif verb == "DELE":
            self.say("+OK kept all the same, this is a demo")
        else:
            lines = message.content.removesuffix(b"\r\n").split(b"\r\n")
            if verb == "TOP" and b"" in lines:
                lines = lines[: lines.index(b"") + 1 + int(arguments[1] if arguments[1:] else 0)]
            stuffed = b"".join((b"." if line.startswith(b".") else b"") + line + b"\r\n" for line in lines)
            self.writer.write(b"+OK\r\n" + stuffed + b".\r\n")


def _chosen(messages: list[Message], number: str) -> Message | None:
    return messages[int(number) - 1] if number.isdecimal() and 1 <= int(number) <= len(messages) else None
