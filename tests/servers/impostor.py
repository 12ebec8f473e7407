"""Mail servers that must not get a token: their certificate proves nothing, or they tamper with STARTTLS."""

from __future__ import annotations

import contextlib
import datetime
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from tests.servers.ca import Authority


class Trick(Enum):
    """What is wrong with the server."""

    EXPIRED = "certificate expired"
    WRONG_NAME = "certificate of another name"
    UNKNOWN_CA = "certificate of an unknown authority"
    STRIPPED = "STARTTLS is not offered"
    INJECTED = "plaintext in one piece with the answer to STARTTLS"


GREETINGS = {
    "imap": b"* OK [CAPABILITY IMAP4rev1 AUTH=XOAUTH2%s] ready\r\n",
    "pop3": b"+OK ready\r\n",
    "smtp": b"220 mail.example.com ESMTP\r\n",
}


@dataclass
class Impostor:
    """Listens at `port` for one protocol."""

    protocol: str
    trick: Trick
    context: ssl.SSLContext | None
    port: int = 0
    connections: int = 0
    heard: bytearray = field(default_factory=bytearray)
    """What the client has sent, in clear or after a TLS handshake."""

    def serve(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            with client, contextlib.suppress(OSError):
                client.settimeout(10)
                self._talk(client)

    def _talk(self, client: socket.socket) -> None:
        if self.context is not None:
            with self.context.wrap_socket(client, server_side=True) as tls:
                tls.sendall(GREETINGS[self.protocol].replace(b"%s", b""))
                while data := tls.recv(4096):
                    self.heard += data
            return
        offers = self.trick is Trick.INJECTED
        client.sendall(GREETINGS[self.protocol].replace(b"%s", b" STARTTLS" if offers else b""))
        with client.makefile("rb") as lines:
            for line in lines:
                self.heard += line
                client.sendall(self._answer(line))

    def _answer(self, line: bytes) -> bytes:
        """The answer to a command sent in clear."""
        words = line.upper().split()
        offers = self.trick is Trick.INJECTED
        match self.protocol:
            case "imap":
                tag = line.split()[0]
                if words[1] == b"CAPABILITY":
                    offer = b" STARTTLS" if offers else b""
                    return b"* CAPABILITY IMAP4rev1 AUTH=XOAUTH2" + offer + b"\r\n" + tag + b" OK done\r\n"
                if words[1] == b"STARTTLS" and offers:
                    return tag + b" OK begin\r\n* CAPABILITY IMAP4rev1 AUTH=XOAUTH2\r\n"
                return tag + b" BAD what?\r\n"
            case "pop3":
                if words[0] == b"CAPA":
                    return b"+OK\r\nSASL XOAUTH2\r\n" + (b"STLS\r\n" if offers else b"") + b".\r\n"
                return b"+OK begin\r\n+OK and more\r\n" if words[0] == b"STLS" and offers else b"-ERR what?\r\n"
            case _:
                if words[0] == b"EHLO":
                    return (
                        b"250-mail.example.com\r\n" + (b"250-STARTTLS\r\n" if offers else b"") + b"250 AUTH XOAUTH2\r\n"
                    )
                return b"220 begin\r\n250 and more\r\n" if words[0] == b"STARTTLS" and offers else b"502 what?\r\n"


@contextmanager
def impostor(protocol: str, trick: Trick, authority: Authority, directory: Path) -> Iterator[Impostor]:
    """Runs until the context ends."""
    context = None
    match trick:
        case Trick.EXPIRED:
            context = authority.server_context(
                not_after=datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
            )
        case Trick.WRONG_NAME:
            context = authority.server_context("mail.elsewhere.example")
        case Trick.UNKNOWN_CA:
            context = Authority(directory).server_context()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Impostor(protocol, trick, context, listener.getsockname()[1])
        thread = threading.Thread(target=server.serve, args=(listener,), daemon=True)
        thread.start()
        yield server
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(15)
