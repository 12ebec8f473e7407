"""What a mail program does on a connection that may break: each errand ends by itself and reports how."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import imaplib
import random
import re
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from tests.e2e.clients import Login
from tests.e2e.conftest import World
from tests.e2e.messages import DELIVERY_SECONDS

PATIENCE = 60.0
"""Seconds of silence that no fault explains: the longest is two attempts to reach the mail server, 25 s each."""


class Cut(Exception):
    """The connection ended before the errand was done."""


class End(Enum):
    """How an errand ended."""

    DONE = "done"
    """The server has confirmed it."""
    LATER = "later"
    """The login was refused temporarily."""
    CUT = "cut"
    """The connection was closed."""
    LEFT = "left"
    """The mail program went away in the middle, on purpose."""


@dataclass(frozen=True, slots=True)
class Leave:
    """The mail program goes away after so many octets of the message, sent or received."""

    after: int
    is_reset: bool = False


class Line:
    """A connection to the bridge."""

    def __init__(self, login: Login, protocol: str, leave: Leave | None = None) -> None:
        """Raises: Cut, if a worker is killed during the TLS handshake; OSError."""
        sock = login.reached(protocol, PATIENCE)
        with _cut():
            self.sock = login.secured(sock)
        self._file = self.sock.makefile("rb")
        self.leave = leave

    def read_line(self) -> bytes:
        with _cut():
            line = self._file.readline()
        if not line.endswith(b"\n"):
            raise Cut(f"after {line!r}")
        return line

    def read(self, count: int) -> bytes:
        """Read so many octets, or fewer if the connection ends; the caller has to check."""
        received = bytearray()
        with contextlib.suppress(ConnectionError):
            while len(received) < count:
                if self.leave is not None and len(received) >= self.leave.after:
                    self.go()
                piece = self._file.read1(min(65536, count - len(received)))
                if not piece:
                    break
                received += piece
        return bytes(received)

    def send(self, data: bytes) -> None:
        with _cut():
            self.sock.sendall(data)

    def send_message(self, data: bytes) -> None:
        if self.leave is None or self.leave.after >= len(data):
            return self.send(data)
        self.send(data[: self.leave.after])
        return self.go()

    def go(self) -> None:
        assert self.leave is not None
        if self.leave.is_reset:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise Gone

    def close(self) -> None:
        self._file.close()
        self.sock.close()


class Gone(Exception):
    """The mail program has left."""


class Later(Exception):
    """The login was refused temporarily."""


@contextlib.contextmanager
def _cut() -> Iterator[None]:
    """Turn the end of a connection into Cut. TimeoutError passes through, because the bridge must always either answer
    or close."""
    try:
        yield
    except (ConnectionError, ssl.SSLEOFError) as problem:
        raise Cut(str(problem)) from problem


def expect(line: bytes, yes: bytes, later: bytes) -> None:
    """Check the answer to a login."""
    if line.startswith(yes):
        return
    if line.startswith(later):
        raise Later(line.decode())
    raise AssertionError(f"neither yes nor later: {line!r}")


def imap_login(line: Line, login: Login) -> None:
    line.read_line()
    line.send(f'1 LOGIN {login.username} "{login.password}"\r\n'.encode())
    while (said := line.read_line()).startswith(b"* "):
        pass
    expect(said, b"1 OK", b"1 NO [UNAVAILABLE]")


def pop3_login(line: Line, login: Login) -> None:
    line.read_line()
    line.send(f"USER {login.username}\r\n".encode())
    line.read_line()
    line.send(f"PASS {login.password}\r\n".encode())
    expect(line.read_line(), b"+OK", b"-ERR [SYS/TEMP]")


def smtp_login(line: Line, login: Login) -> None:
    line.read_line()
    line.send(b"EHLO crm.example\r\n")
    while line.read_line()[3:4] == b"-":
        pass
    blob = base64.b64encode(f"\0{login.username}\0{login.password}".encode())
    line.send(b"AUTH PLAIN " + blob + b"\r\n")
    expect(line.read_line(), b"235 ", b"454 ")


@dataclass
class Post:
    """The messages that were sent, and those that really arrived."""

    world: World
    sent: dict[str, tuple[str, bool, str]] = field(default_factory=dict)
    """By subject: mailbox, whether the server has accepted the message, digest."""
    arrived: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, subject: str, mailbox: str, message: bytes, *, is_taken: bool) -> None:
        with self._lock:
            self.sent[subject] = mailbox, is_taken, hashlib.sha256(message).hexdigest()

    def verify(self, prefix: str) -> Counter[str]:
        """Check that each accepted message arrived whole and once, and every other one whole and at most once. Call it
        while nothing is being sent.

        Returns: how many of each. Deletes the messages that it has seen.
        """
        for mailbox in sorted({mailbox for mailbox, _, _ in self.sent.values()}):
            taken = {subject for subject, (box, is_taken, _) in self.sent.items() if is_taken and box == mailbox}
            deadline = time.monotonic() + DELIVERY_SECONDS
            self._collect(mailbox, prefix)
            while missing := taken - set(self.arrived):
                assert time.monotonic() < deadline, f"taken and lost: {missing}"
                threading.Event().wait(0.2)
                self._collect(mailbox, prefix)
        taken = {subject for subject, (_, is_taken, _) in self.sent.items() if is_taken}
        return Counter(
            taken=len(taken), unknown=len(self.sent) - len(taken), unknown_arrived=len(self.arrived) - len(taken)
        )

    def _collect(self, mailbox: str, prefix: str) -> None:
        """Collect what has arrived, from the mail server itself."""
        with direct(self.world, mailbox) as session:
            _, (numbers, *_) = session.search(None, "SUBJECT", f'"{prefix}"')
            for number in numbers.split():
                _, parts = session.fetch(number.decode(), "(BODY.PEEK[])")
                assert isinstance(parts[0], tuple)
                message = parts[0][1]
                match = re.search(rb"^Subject: (\S+)\r$", message, re.M)
                assert match is not None, message[:1000]
                subject = match[1].decode()
                assert subject in self.sent, f"{subject} was never sent"
                start = message.index(b"From: alice@")
                assert hashlib.sha256(message[start:]).hexdigest() == self.sent[subject][2], f"{subject} is not whole"
                self.arrived[subject] += 1
                assert self.arrived[subject] == 1, f"{subject} was delivered twice"
                session.store(number.decode(), "+FLAGS", r"\Deleted")
            session.expunge()


@contextlib.contextmanager
def direct(world: World, mailbox: str) -> Iterator[imaplib.IMAP4_SSL]:
    """A session at the mail server itself, not through the bridge."""
    context: ssl.SSLContext = world.authority.client_context()
    with imaplib.IMAP4_SSL("localhost", world.dovecot.imap_tls, ssl_context=context, timeout=60) as session:
        token = world.provider.issue(mailbox)
        session.authenticate("XOAUTH2", lambda _: f"user={mailbox}\1auth=Bearer {token}\1\1".encode())
        session.select("INBOX")
        yield session


def letter(subject: str, size: int, chance: random.Random) -> bytes:
    """A message of random lines, so that lost, doubled or swapped octets show."""
    head = f"From: alice@example.com\r\nSubject: {subject}\r\nDate: Tue, 24 Nov 2026 10:00:00 +0000\r\n"
    head += f"Message-ID: <{subject}@crm.example>\r\nTo: alice@example.com\r\n\r\n"
    body = bytearray()
    while len(body) < size:
        body += base64.b64encode(chance.randbytes(54)) + b"\r\n"
    return head.encode() + bytes(body)


@dataclass(frozen=True, slots=True)
class Shelf:
    """A message that stays in the mailbox, to be fetched again and again."""

    subject: str
    message: bytes

    def put(self, world: World, mailbox: str) -> Shelf:
        with direct(world, mailbox) as session:
            assert session.append("INBOX", "", "", self.message)[0] == "OK"
        return self


@dataclass(frozen=True, slots=True)
class Errand:
    """One task of a mail program, with one account."""

    name: str
    do: Callable[[Line], None]
    protocol: str
    login: Login
    leave: Leave | None = None

    def run(self) -> End:
        """Raises: AssertionError for what must never happen; TimeoutError if the bridge neither answers nor closes."""
        try:
            with contextlib.closing(Line(self.login, self.protocol, self.leave)) as line:
                self.do(line)
        except Later:
            return End.LATER
        except Cut:
            return End.CUT
        except Gone:
            return End.LEFT
        return End.DONE


def fetching(login: Login, shelf: Shelf, leave: Leave | None = None) -> Errand:
    """IMAP: fetch the message; it comes whole, or its beginning comes and then the connection ends."""

    def do(line: Line) -> None:
        imap_login(line, login)
        line.send(b'2 SELECT INBOX\r\n3 SEARCH SUBJECT "' + shelf.subject.encode() + b'"\r\n')
        while not (said := line.read_line()).startswith(b"* SEARCH"):
            assert not said.startswith((b"2 NO", b"3 NO", b"3 BAD")), said
        numbers = said.split()[2:]
        assert numbers, "the message is gone"
        line.send(b"4 FETCH " + numbers[0] + b" BODY.PEEK[]\r\n")
        while (size := re.search(rb"\{(\d+)\}\r\n", said := line.read_line())) is None:
            assert not said.startswith(b"4 "), said
        assert int(size[1]) == len(shelf.message)
        _whole_or_cut(line, shelf.message)
        while not line.read_line().startswith(b"4 OK"):
            pass

    return Errand("FETCH", do, "imap", login, leave)


def retrieving(login: Login, shelf: Shelf, leave: Leave | None = None) -> Errand:
    """The same by POP3."""

    def do(line: Line) -> None:
        pop3_login(line, login)
        line.send(b"LIST\r\n")
        sizes: dict[int, bytes] = {}
        while (said := line.read_line()) != b".\r\n":
            if not said.startswith(b"+OK"):
                number, size = said.split()
                sizes[int(size)] = number
        line.send(b"RETR " + sizes[len(shelf.message)] + b"\r\n")
        assert line.read_line().startswith(b"+OK")
        _whole_or_cut(line, shelf.message)
        assert line.read_line() in (b".\r\n", b"\r\n")
        line.send(b"QUIT\r\n")

    return Errand("RETR", do, "pop3", login, leave)


def _whole_or_cut(line: Line, message: bytes) -> None:
    received = line.read(len(message))
    assert message.startswith(received), f"not the message from octet {_first_difference(message, received)} on"
    if len(received) < len(message):
        raise Cut(f"{len(received)} of {len(message)} octets")


def _first_difference(one: bytes, other: bytes) -> int:
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one))


def appending(login: Login, post: Post, message: bytes, subject: str, leave: Leave | None = None) -> Errand:
    """IMAP: APPEND the message as one literal."""

    def do(line: Line) -> None:
        imap_login(line, login)
        post.note(subject, login.username, message, is_taken=False)
        line.send(b"2 APPEND INBOX {%d}\r\n" % len(message))
        while not (said := line.read_line()).startswith(b"+"):
            assert said.startswith(b"* "), said
        line.send_message(message)
        line.send(b"\r\n")
        while not (said := line.read_line()).startswith(b"2 "):
            pass
        assert said.startswith(b"2 OK"), said
        post.note(subject, login.username, message, is_taken=True)

    return Errand("APPEND", do, "imap", login, leave)


def submitting(login: Login, post: Post, message: bytes, subject: str, leave: Leave | None = None) -> Errand:
    """SMTP: send the message to the sender's own address."""

    def do(line: Line) -> None:
        smtp_login(line, login)
        post.note(subject, login.username, message, is_taken=False)
        for command, code in (
            (f"MAIL FROM:<{login.username}>", b"250"),
            (f"RCPT TO:<{login.username}>", b"250"),
            ("DATA", b"354"),
        ):
            line.send(f"{command}\r\n".encode())
            said = line.read_line()
            if said.startswith(b"421 "):
                raise Cut(said.decode())  # the server itself closes the connection
            assert said.startswith(code), said
        line.send_message(message)
        line.send(b".\r\n")
        said = line.read_line()
        if said.startswith(b"421 "):
            raise Cut(said.decode())
        assert said.startswith(b"250"), said
        post.note(subject, login.username, message, is_taken=True)
        line.send(b"QUIT\r\n")

    return Errand("DATA", do, "smtp", login, leave)


def idling(login: Login, leave: Leave | None = None) -> Errand:
    """IMAP: start IDLE, then leave, or end it with DONE."""

    def do(line: Line) -> None:
        imap_login(line, login)
        line.send(b"2 SELECT INBOX\r\n3 IDLE\r\n")
        while not line.read_line().startswith(b"+"):
            pass
        if leave is not None:
            line.go()
        line.send(b"DONE\r\n")
        while not line.read_line().startswith(b"3 OK"):
            pass

    return Errand("IDLE", do, "imap", login, leave)
