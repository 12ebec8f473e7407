"""The mail programs: log in one by one, then many sessions at once that ask, read and compare every byte."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import selectors
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from bench.content import PIECE, digest, imap_response, pieces, pop3_response

SILENCE_SECONDS = 60.0
"""An answer that takes longer does not come."""

_buffer = memoryview(bytearray(PIECE))


class WrongBytes(Exception):
    """What arrived is not what was sent."""


class Closed(Exception):
    """The other side has hung up, or says no."""


@dataclass(frozen=True)
class Identity:
    """Who logs in, and with what: a local password, or (`token`) by XOAUTH2 like the bridge itself."""

    username: str
    password: str
    token: str = ""

    @property
    def xoauth2(self) -> bytes:
        return base64.b64encode(f"user={self.username}\x01auth=Bearer {self.token}\x01\x01".encode())


class Session:
    """One connection of a mail program; nothing is read ahead of a line, as nobody pipelines here."""

    def __init__(self, protocol: str, port: int) -> None:
        self.protocol = protocol
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=SILENCE_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._input = b""

    def log_in(self, who: Identity) -> None:
        """Raises: Closed."""
        {"imap": self._log_in_imap, "pop3": self._log_in_pop3, "smtp": self._log_in_smtp}[self.protocol](who)

    def log_out(self) -> None:
        """Politely, and until the other side has closed too."""
        self.say(b"A LOGOUT" if self.protocol == "imap" else b"QUIT")
        with contextlib.suppress(ConnectionResetError):
            while self.socket.recv(4096):
                pass
        self.socket.close()

    def close(self) -> None:
        self.socket.close()

    def say(self, line: bytes) -> None:
        self.socket.sendall(line + b"\r\n")

    def line(self) -> bytes:
        """The next line. Raises: Closed."""
        while b"\r\n" not in self._input:
            data = self.socket.recv(4096)
            if not data:
                raise Closed(f"{self.protocol}: hung up behind {self._input!r}")
            self._input += data
        line, _, self._input = self._input.partition(b"\r\n")
        return line

    def answer(self, *starts: bytes) -> bytes:
        """The first line that starts with one of `starts`. Raises: Closed for a "no" or the end."""
        while True:
            line = self.line()
            if line.startswith(starts):
                return line
            if line.startswith((b"A NO", b"A BAD", b"* BYE", b"-ERR", b"4", b"5")):
                raise Closed(line.decode(errors="replace"))

    def _log_in_imap(self, who: Identity) -> None:
        self.answer(b"* OK")
        if who.token:
            self.say(b"A AUTHENTICATE XOAUTH2 " + who.xoauth2)
        else:
            self.say(f'A LOGIN "{who.username}" "{who.password}"'.encode())
        self.answer(b"A OK")

    def _log_in_pop3(self, who: Identity) -> None:
        self.answer(b"+OK")
        if who.token:
            self.say(b"AUTH XOAUTH2 " + who.xoauth2)
        else:
            self.say(f"USER {who.username}".encode())
            self.answer(b"+OK")
            self.say(f"PASS {who.password}".encode())
        self.answer(b"+OK")

    def _log_in_smtp(self, who: Identity) -> None:
        self.answer(b"220")
        self.say(b"EHLO client.example")
        self.answer(b"250 ")
        if who.token:
            self.say(b"AUTH XOAUTH2 " + who.xoauth2)
        else:
            self.say(b"AUTH PLAIN " + base64.b64encode(f"\0{who.username}\0{who.password}".encode()))
        self.answer(b"235")

    # --- uploads --------------------------------------------------------------------------------------------

    def send_message(self, octets: int) -> None:
        """By SMTP. Raises: WrongBytes, if the server has another digest."""
        for line, reply in ((b"MAIL FROM:<a@example.com>", b"250"), (b"RCPT TO:<b@example.com>", b"250")):
            self.say(line)
            self.answer(reply)
        self.say(b"DATA")
        self.answer(b"354")
        self._send_content(octets)
        self.say(b".")
        self._compare(self.answer(b"250"), octets)

    def append(self, mailbox: str, octets: int) -> None:
        """By IMAP. Raises: WrongBytes."""
        self.say(f"A APPEND {mailbox} {{{octets}}}".encode())
        self.answer(b"+ ")
        self._send_content(octets)
        self.say(b"")
        self._compare(self.answer(b"A OK"), octets)

    def _send_content(self, octets: int) -> None:
        for each in pieces(octets):
            self.socket.sendall(each)

    def _compare(self, answer: bytes, octets: int) -> None:
        if answer.split()[-1].decode() != digest(octets).hex():
            raise WrongBytes(f"{self.protocol}: the server did not get what was sent")

    # --- downloads ------------------------------------------------------------------------------------------

    def select(self, mailbox: str) -> None:
        self.say(f"A SELECT {mailbox}".encode())
        self.answer(b"A OK")


class Exchange:
    """A request whose answer is known in advance, so many times in one session."""

    def __init__(self, session: Session, request: bytes, expected_digest: bytes, octets: int, times: int) -> None:
        self.session = session
        self._request = request
        self._expected = expected_digest
        self._octets = octets
        self._left = times
        self._taken = 0
        self._digest = hashlib.sha256()

    def ask(self) -> None:
        self.session.say(self._request)

    def take(self, limit: int = PIECE) -> bool:
        """What is there; True after the last answer. Raises: WrongBytes, Closed."""
        count = self.session.socket.recv_into(_buffer[:limit])
        if not count:
            raise Closed("hung up in the middle of an answer")
        self._digest.update(_buffer[:count])
        self._taken += count
        if self._taken < self._octets:
            return False
        if self._taken > self._octets or self._digest.digest() != self._expected:
            raise WrongBytes(f"{self.session.protocol}: not what the server has sent")
        self._taken, self._digest = 0, hashlib.sha256()
        self._left -= 1
        if self._left:
            self.ask()
        return not self._left


def noop(session: Session, times: int) -> Exchange:
    answer = b"A OK done\r\n"
    return Exchange(session, b"A NOOP", hashlib.sha256(answer).digest(), len(answer), times)


def fetch(session: Session, octets: int, times: int = 1) -> Exchange:
    """Messages of that size, one by one, by IMAP or POP3."""
    if session.protocol == "imap":
        request, (before, behind) = f"A FETCH {octets} BODY[]".encode(), imap_response(octets)
    else:
        request, (before, behind) = f"RETR {octets}".encode(), pop3_response(octets)
    whole = len(before) + octets + len(behind)
    return Exchange(session, request, digest(octets, before, behind), whole, times)


def run_all(exchanges: Sequence[Exchange], at_once: int | None = None) -> None:
    """All of them, `at_once` at the same time, each as fast as its answers come. Raises: WrongBytes, Closed."""
    waiting = list(reversed(exchanges))
    running = 0
    with selectors.DefaultSelector() as selector:
        while waiting or running:
            while waiting and (at_once is None or running < at_once):
                exchange = waiting.pop()
                selector.register(exchange.session.socket, selectors.EVENT_READ, exchange)
                exchange.ask()
                running += 1
            found = selector.select(SILENCE_SECONDS)
            if not found:
                raise Closed(f"{running} answers do not come")
            for key, _ in found:
                if key.data.take():
                    selector.unregister(key.fileobj)
                    running -= 1


def logged_in(protocol: str, port: int, identities: Sequence[Identity], at_once: int) -> list[Session]:
    """A session for each identity. Raises: Closed."""

    def open_one(who: Identity) -> Session:
        session = Session(protocol, port)
        try:
            session.log_in(who)
        except BaseException:
            session.close()
            raise
        return session

    with ThreadPoolExecutor(at_once) as threads:
        return list(threads.map(open_one, identities))
