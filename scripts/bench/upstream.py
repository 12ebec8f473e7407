"""The mail servers behind all systems: IMAP, POP3 and SMTP over TLS 1.3, cheap enough not to be the bottleneck.

A program of its own (`python -m bench.upstream CERTIFICATE KEY`): it prints its ports as JSON, and serves until its
standard input ends. Its processes share the listening sockets and the key of the session tickets, so that every system
may resume its TLS sessions with any of them. Nothing here ever blocks: OpenSSL and the kernel do nearly all the work.
"""

from __future__ import annotations

import base64
import hashlib
import heapq
import json
import os
import selectors
import signal
import socket
import ssl
import sys
import time
from collections.abc import Callable

from bench.content import imap_response, piece, pop3_response

PROCESSES = 2
"""One for each core of a small machine."""
PACED_OCTETS, PACED_SECONDS = 16 * 1024, 0.01
"""A download from the mailbox PACED: as over a WAN, one such piece at such intervals."""
STALL_AFTER, STALL_SECONDS = 1024 * 1024, 2.0
"""An APPEND to the mailbox STALL: this server stops reading after that much, for so long."""
SMALL_OCTETS = 8 * 1024
BACKLOG = 4096
READ_SIZE = 256 * 1024

_buffer = memoryview(bytearray(READ_SIZE))


class Server:
    """One process: its connections and its timers."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context
        self.selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def listen(self, sock: socket.socket, dialogue: type[Connection]) -> None:
        def accept() -> None:
            try:
                client, _ = sock.accept()
            except OSError:
                return  # another process was quicker
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.setblocking(False)
            dialogue(self, client)

        self.selector.register(sock, selectors.EVENT_READ, accept)

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._timers, (time.monotonic() + seconds, self._count, call))

    def run(self) -> None:
        while True:
            timeout = max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None
            for key, _ in self.selector.select(timeout):
                key.data()
            while self._timers and self._timers[0][0] <= time.monotonic():
                heapq.heappop(self._timers)[2]()


class Connection:
    """One client: handshake, lines, and content in both directions."""

    greeting = b""

    def __init__(self, server: Server, sock: socket.socket) -> None:
        self.is_paced = self.stalls = self.is_over = False
        self._server = server
        self._socket = server.context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        self._act = self._shake_hands
        self._mask = 0
        self._take: Callable[[memoryview], None] = self._take_lines
        self._input = b""
        self._output: list[memoryview] = []
        self._position = self._end = 0
        self._behind = b""
        self._digest = hashlib.sha256()
        self._taken = self._expected = 0
        self._wait_for(selectors.EVENT_READ)

    # --- what the dialogues call ----------------------------------------------------------------------------

    def line(self, text: bytes) -> None:
        """A line has come."""
        raise NotImplementedError

    def uploaded(self, digest: str) -> None:
        """An upload is complete."""
        raise NotImplementedError

    def say(self, text: bytes) -> None:
        self._output.append(memoryview(text))

    def download(self, before: bytes, octets: int, behind: bytes) -> None:
        """`octets` of content between two texts; nothing else is said until it has gone."""
        if octets <= SMALL_OCTETS:  # in one record, as real servers send a small message
            self.say(before + bytes(piece(0, octets)) + behind)
        else:
            self.say(before)
            self._position, self._end, self._behind = 0, octets, behind

    def upload(self, take: Callable[[memoryview], None], expected: int = 0) -> None:
        """The bytes that come now are content."""
        self._digest, self._taken, self._expected, self._take = hashlib.sha256(), 0, expected, take

    # --- what comes in --------------------------------------------------------------------------------------

    def _take_lines(self, data: memoryview) -> None:
        *lines, self._input = (self._input + data).split(b"\r\n")
        for text in lines:
            self.line(text)

    def take_literal(self, data: memoryview) -> None:
        """IMAP: so many octets, and the CRLF that ends the command."""
        self._digest.update(data[: max(0, self._expected - self._taken)])
        self._taken += len(data)
        if self._taken == self._expected + 2:
            self._take = self._take_lines
            self.uploaded(self._digest.hexdigest())
        elif self.stalls and self._taken > STALL_AFTER:
            self.stalls = False
            self._wait_for(0)
            self._server.later(STALL_SECONDS, lambda: self._wait_for(selectors.EVENT_READ))

    def take_message(self, data: memoryview) -> None:
        """SMTP: up to the line with a dot, which no content has."""
        self._input += bytes(data)
        if self._input.endswith(b"\r\n.\r\n"):
            self._digest.update(self._input[:-3])
            self._input = b""
            self._take = self._take_lines
            self.uploaded(self._digest.hexdigest())
        else:
            self._digest.update(memoryview(self._input)[:-4])
            self._input = self._input[-4:]

    # --- events ---------------------------------------------------------------------------------------------

    def _happened(self) -> None:
        try:
            self._act()
        except ssl.SSLWantReadError:
            self._wait_for(selectors.EVENT_READ)
        except ssl.SSLWantWriteError:
            self._wait_for(selectors.EVENT_WRITE)
        except OSError:
            self._close()

    def _shake_hands(self) -> None:
        self._socket.do_handshake()
        self._act = self._go_on
        self.say(self.greeting)
        self._go_on()

    def _go_on(self) -> None:
        if self._output or self._position < self._end:
            self._write()
        else:
            self._read()

    def _read(self) -> None:
        while True:
            count = self._socket.recv_into(_buffer)
            if not count:
                return self._close()
            self._take(_buffer[:count])
            if self._output or self._position < self._end:
                return self._write()
            if not self._socket.pending():
                return None

    def _write(self) -> None:
        """What is to be said, then one piece of content: the other connections want their turn."""
        while self._output:
            sent = self._socket.send(self._output[0])
            self._output[0] = self._output[0][sent:]
            if not self._output[0]:
                del self._output[0]
        if self.is_over:
            return self._close()
        if self._position < self._end:
            return self._write_content()
        return self._wait_for(selectors.EVENT_READ)

    def _write_content(self) -> None:
        most = PACED_OCTETS if self.is_paced else self._end
        self._position += self._socket.send(piece(self._position, min(most, self._end - self._position)))
        if self._position == self._end:
            self.say(self._behind)
            self._write()
        elif self.is_paced:
            self._wait_for(0)
            self._server.later(PACED_SECONDS, self._happened)
        else:
            self._wait_for(selectors.EVENT_WRITE)

    def _wait_for(self, mask: int) -> None:
        if mask == self._mask or self._socket.fileno() < 0:
            return
        if not mask:
            self._server.selector.unregister(self._socket)
        elif not self._mask:
            self._server.selector.register(self._socket, mask, self._happened)
        else:
            self._server.selector.modify(self._socket, mask, self._happened)
        self._mask = mask

    def _close(self) -> None:
        self._wait_for(0)
        self._socket.close()


class Imap(Connection):
    """What a mail program says to an IMAP server."""

    greeting = b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=XOAUTH2 ID] ready\r\n"
    _tag = b""

    def line(self, text: bytes) -> None:
        words = text.split()
        if self._tag:
            words = [self._tag, b"AUTHENTICATE", b"XOAUTH2", *words]
            self._tag = b""
        tag, verb = words[0], words[1].upper()
        if verb == b"AUTHENTICATE":
            if len(words) == 3:
                self._tag = tag
                return self.say(b"+ \r\n")
            is_right = has_token(words[3])
            return self.say(tag + (b" OK [CAPABILITY IMAP4rev1 ID] done\r\n" if is_right else b" NO wrong\r\n"))
        if verb == b"FETCH":
            octets = int(words[2])
            before, behind = imap_response(octets)
            return self.download(before, octets, behind)
        if verb == b"APPEND":
            self.stalls = words[2] == b"STALL"
            self._appending = tag
            self.say(b"+ go on\r\n")
            return self.upload(self.take_literal, int(words[3].strip(b"{}")))
        if verb == b"SELECT":
            self.is_paced = words[2] == b"PACED"
        if verb == b"CAPABILITY":
            self.say(b"* CAPABILITY IMAP4rev1 SASL-IR AUTH=XOAUTH2 ID\r\n")
        if verb == b"LOGOUT":
            self.is_over = True
            self.say(b"* BYE bye\r\n")
        return self.say(tag + b" OK done\r\n")

    def uploaded(self, digest: str) -> None:
        self.say(self._appending + b" OK " + digest.encode() + b"\r\n")


class InTwoSteps(Connection):
    """AUTH XOAUTH2 first, and the token when it is asked for."""

    _is_logging_in = False

    def ask_token(self, challenge: bytes) -> None:
        self._is_logging_in = True
        self.say(challenge)

    def command(self, text: bytes) -> list[bytes]:
        """Its words, as if a login had come in one line."""
        words = text.split()
        if self._is_logging_in:
            words = [b"AUTH", b"XOAUTH2", *words]
            self._is_logging_in = False
        return words


class Pop3(InTwoSteps):
    """What a mail program says to a POP3 server."""

    greeting = b"+OK ready\r\n"

    def line(self, text: bytes) -> None:
        words = self.command(text)
        verb = words[0].upper()
        if verb == b"AUTH":
            if len(words) == 2:
                return self.ask_token(b"+ \r\n")
            return self.say(b"+OK done\r\n" if has_token(words[2]) else b"-ERR wrong\r\n")
        if verb == b"CAPA":
            return self.say(b"+OK\r\nUSER\r\nUIDL\r\nTOP\r\nPIPELINING\r\nSASL XOAUTH2\r\n.\r\n")
        if verb == b"RETR":
            octets = int(words[1])
            before, behind = pop3_response(octets)
            return self.download(before, octets, behind)
        self.is_over = verb == b"QUIT"
        return self.say(b"+OK done\r\n")


class Smtp(InTwoSteps):
    """What a mail program says to a submission server."""

    greeting = b"220 upstream.example ESMTP ready\r\n"

    def line(self, text: bytes) -> None:
        words = self.command(text)
        verb = words[0].upper()
        if verb == b"EHLO":
            return self.say(b"250-upstream.example\r\n250-SIZE 100000000\r\n250-8BITMIME\r\n250 AUTH XOAUTH2\r\n")
        if verb == b"AUTH":
            if len(words) == 2:
                return self.ask_token(b"334 \r\n")
            return self.say(b"235 2.7.0 done\r\n" if has_token(words[2]) else b"535 5.7.8 wrong\r\n")
        if verb == b"DATA":
            self.upload(self.take_message)
            return self.say(b"354 go on\r\n")
        self.is_over = verb == b"QUIT"
        return self.say((b"221" if self.is_over else b"250") + b" 2.0.0 done\r\n")

    def uploaded(self, digest: str) -> None:
        self.say(b"250 2.0.0 " + digest.encode() + b"\r\n")


def has_token(response: bytes) -> bool:
    """XOAUTH2, as the real servers want it."""
    shown = base64.b64decode(response)
    return shown.startswith(b"user=") and b"\x01auth=Bearer " in shown and shown.endswith(b"\x01\x01")


def main() -> None:
    certificate, key = sys.argv[1:]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3  # its first cipher is AES-256-GCM
    context.load_cert_chain(certificate, key)
    sockets = [socket.create_server(("127.0.0.1", 0), backlog=BACKLOG) for _ in range(3)]
    ports = [sock.getsockname()[1] for sock in sockets]
    print(json.dumps(dict(zip(("imap", "pop3", "smtp"), ports, strict=True))), flush=True)
    children = []
    for _ in range(PROCESSES):
        child = os.fork()
        if child:
            children.append(child)
            continue
        server = Server(context)
        for sock, dialogue in zip(sockets, (Imap, Pop3, Smtp), strict=True):
            sock.setblocking(False)
            server.listen(sock, dialogue)
        server.run()
    sys.stdin.read()
    for child in children:
        os.kill(child, signal.SIGKILL)


if __name__ == "__main__":
    main()
