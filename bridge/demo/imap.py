"""The demo's IMAP server: one INBOX, enough of IMAP4rev1 for curl, imaplib and ordinary mail programs to read it."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from email.parser import BytesHeaderParser
from email.policy import compat32
from typing import Any

from bridge.demo.connection import Connection
from bridge.demo.mailboxes import Mailbox, Message

CAPABILITIES = "IMAP4rev1 SASL-IR AUTH=XOAUTH2 IDLE UIDPLUS"
LITERAL_LIMIT = 64 * 1024 * 1024


class ImapConnection(Connection):
    """See Connection."""

    def __init__(self, *streams_and_mail: Any) -> None:
        super().__init__(*streams_and_mail)
        self._box: Mailbox | None = None

    def greet(self) -> None:
        """See Connection."""
        self.say(f"* OK [CAPABILITY {CAPABILITIES}] mail-bridge demo")

    async def answer_next(self) -> bool:
        """See Connection."""
        tag, _, rest = (await self._command()).partition(b" ")
        verb, _, arguments = rest.partition(b" ")
        return await self._carry_out(tag.decode("ascii", "replace"), verb.upper().decode("ascii", "replace"), arguments)

    async def _command(self) -> bytes:
        """One command with its literals joined in."""
        command = b""
        while True:
            line = await self.reader.readline()
            if not line:
                raise ConnectionResetError
            command += line.rstrip(b"\r\n")
            match = re.search(rb"\{(\d+)(\+?)\}$", command)
            if match is None:
                return command
            if int(match[1]) > LITERAL_LIMIT:
                raise ConnectionResetError
            if not match[2]:
                self.say("+ OK")
                await self.writer.drain()
            command = command[: match.start()] + await self.reader.readexactly(int(match[1]))

    async def _carry_out(self, tag: str, verb: str, arguments: bytes) -> bool:
        match verb:
            case "CAPABILITY":
                self.say(f"* CAPABILITY {CAPABILITIES}")
            case "NOOP" | "CHECK" | "EXPUNGE" | "SUBSCRIBE":
                if self._box is not None:
                    self._say_size(self._box)
            case "ID":
                self.say("* ID NIL")
            case "LOGOUT":
                self.say("* BYE see you", f"{tag} OK done")
                return False
            case "AUTHENTICATE":
                await self._authenticate(tag, arguments)
                return True
            case _ if self._box is None:
                self.say(f"{tag} NO log in first")
                return True
            case "SELECT" | "EXAMINE":
                self._select(self._box)
                self.say(f"{tag} OK [READ-WRITE] selected")
                return True
            case _:
                if not await self._answered(verb, arguments, self._box):
                    self.say(f"{tag} BAD the demo does not know {verb}")
                    return True
        self.say(f"{tag} OK done")
        return True

    async def _answered(self, verb: str, arguments: bytes, box: Mailbox) -> bool:
        """Carry out a command of a session that is logged in, but for its OK; False if it is none."""
        text = arguments.decode("utf-8", "replace")
        match verb:
            case "NAMESPACE":
                self.say('* NAMESPACE (("" "/")) NIL NIL')
            case "LIST" | "LSUB":
                self.say(f'* {verb} () "/" INBOX')
            case "STATUS":
                self.say(f"* STATUS INBOX (MESSAGES {len(box.messages)} UIDNEXT {box.uid_next} UIDVALIDITY 1 UNSEEN 0)")
            case "SEARCH" | "FETCH" | "STORE":
                self._answer_of(verb)(text, box, by_uid=False)
            case "UID":
                inner, _, rest = text.partition(" ")
                self._answer_of(inner.upper())(rest, box, by_uid=True)
            case "APPEND":
                await self._append(arguments, box)
            case "IDLE":
                await self._idle(box)
            case "CLOSE" | "UNSELECT":
                pass
            case _:
                return False
        return True

    async def _authenticate(self, tag: str, arguments: bytes) -> None:
        mechanism, _, blob = arguments.partition(b" ")
        if mechanism.upper() != b"XOAUTH2":
            self.say(f"{tag} NO [CANNOT] only XOAUTH2")
            return
        self._box = await self.authenticate(blob, "+")
        if self._box is None:
            self.say(f"{tag} NO [AUTHENTICATIONFAILED] Invalid credentials")
        else:
            self.say(f"{tag} OK [CAPABILITY {CAPABILITIES}] {self._box.address} authenticated")

    def _select(self, box: Mailbox) -> None:
        self._say_size(box)
        self.say(
            "* 0 RECENT",
            r"* FLAGS (\Seen \Answered \Flagged \Deleted \Draft)",
            "* OK [UIDVALIDITY 1] ok",
            f"* OK [UIDNEXT {box.uid_next}] ok",
        )

    def _say_size(self, box: Mailbox) -> None:
        self.say(f"* {len(box.messages)} EXISTS")

    def _answer_of(self, verb: str) -> Callable[..., None]:
        return {"FETCH": self._fetch, "STORE": self._store}.get(verb, self._search)

    def _search(self, _text: str, box: Mailbox, *, by_uid: bool) -> None:
        numbers = [m.uid if by_uid else n for n, m in enumerate(box.messages, 1)]
        self.say(" ".join(["* SEARCH", *map(str, numbers)]))

    def _chosen(self, numbers: str, box: Mailbox, *, by_uid: bool) -> list[tuple[int, Message]]:
        chosen = []
        last = max(box.uid_next - 1 if by_uid else len(box.messages), 1)
        for part in numbers.split(","):
            first, _, end = part.replace("*", str(last)).partition(":")
            low, high = sorted((int(first), int(end or first))) if first.isdecimal() else (0, 0)
            chosen += [
                (number, message)
                for number, message in enumerate(box.messages, 1)
                if low <= (message.uid if by_uid else number) <= high
            ]
        return chosen

    def _fetch(self, text: str, box: Mailbox, *, by_uid: bool) -> None:
        numbers, _, wanted = text.partition(" ")
        for number, message in self._chosen(numbers, box, by_uid=by_uid):
            items = [f"UID {message.uid}".encode()] if by_uid or "UID" in wanted.upper() else []
            items += _items(wanted.upper(), message)
            self.writer.write(f"* {number} FETCH (".encode() + b" ".join(items) + b")\r\n")

    def _store(self, text: str, box: Mailbox, *, by_uid: bool) -> None:
        numbers, _, change = text.partition(" ")
        flags = set(re.findall(r"\\?\w+", change[change.find("(") :]))
        for number, message in self._chosen(numbers, box, by_uid=by_uid):
            message.flags = message.flags - flags if change.startswith("-") else message.flags | flags
            self.say(f"* {number} FETCH (FLAGS ({' '.join(sorted(message.flags))}))")

    async def _append(self, arguments: bytes, box: Mailbox) -> None:
        match = re.match(rb'\S+(?: +\([^)]*\))?(?: +"[^"]*")? +', arguments)
        await box.deliver(arguments[match.end() :] if match else arguments, {"\\Seen"})
        self._say_size(box)

    async def _idle(self, box: Mailbox) -> None:
        self.say("+ idling")
        await self.writer.drain()
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(self._watch(box))
            await self.reader.readline()  # DONE, or the end
            watching.cancel()

    async def _watch(self, box: Mailbox) -> None:
        while True:
            async with box.changed:
                await box.changed.wait()
            self._say_size(box)
            await self.writer.drain()


def _items(wanted: str, message: Message) -> list[bytes]:
    """The data items of one message that `wanted` names."""
    items = []
    if "FLAGS" in wanted or wanted in {"ALL", "FAST", "FULL"}:
        items.append(f"FLAGS ({' '.join(sorted(message.flags))})".encode())
    if "RFC822.SIZE" in wanted or wanted in {"ALL", "FAST", "FULL"}:
        items.append(f"RFC822.SIZE {len(message.content)}".encode())
    if "INTERNALDATE" in wanted:
        date = time.strftime("%d-%b-%Y %H:%M:%S +0000", time.gmtime(message.received_at))
        items.append(f'INTERNALDATE "{date}"'.encode())
    if "ENVELOPE" in wanted or wanted in {"ALL", "FULL"}:
        items.append(b"ENVELOPE " + _envelope(message))
    if match := re.search(r"BODY(?:\.PEEK)?\[([^\]]*)\]|(RFC822)(?: |\)|$)", wanted):
        section = match[1] or ""
        head, blank, body = message.content.partition(b"\r\n\r\n")
        content = head + blank if section.startswith("HEADER") else body if section == "TEXT" else message.content
        name = match[2] or f"BODY[{section}]"
        items.append(f"{name} {{{len(content)}}}\r\n".encode() + content)
        if "PEEK" not in wanted:
            message.flags.add("\\Seen")
    return items


def _envelope(message: Message) -> bytes:
    headers = BytesHeaderParser(policy=compat32).parsebytes(message.content)

    def quoted(name: str) -> str:
        value = headers.get(name)
        return "NIL" if value is None else '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'

    names = (quoted("Date"), quoted("Subject"), *["NIL"] * 7, quoted("Message-ID"))
    return f"({' '.join(names)})".encode("ascii", "replace")
