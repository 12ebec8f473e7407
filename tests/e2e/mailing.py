"""Send and find mail through the bridge with Python's own libraries."""

from __future__ import annotations

import contextlib
import imaplib
import poplib
import smtplib
import threading
import time
from collections.abc import Iterator

from tests.e2e.clients import Login
from tests.e2e.messages import DELIVERY_SECONDS


@contextlib.contextmanager
def imap(login: Login) -> Iterator[imaplib.IMAP4]:
    with imaplib.IMAP4("localhost", login.imap, timeout=30) as session:
        session.login(login.username, login.password)
        session.select("INBOX")
        yield session


@contextlib.contextmanager
def pop3(login: Login) -> Iterator[poplib.POP3]:
    session = poplib.POP3("localhost", login.pop3, timeout=30)
    try:
        session.user(login.username)
        session.pass_(login.password)
        yield session
        session.quit()
    finally:
        session.close()


@contextlib.contextmanager
def smtp(login: Login) -> Iterator[smtplib.SMTP]:
    with smtplib.SMTP("localhost", login.smtp, local_hostname="crm.example", timeout=60) as session:
        session.login(login.username, login.password)
        yield session


def send_bytes(session: smtplib.SMTP, sender: str, recipient: str, message: bytes) -> None:
    """Send as a CRM does: the octets unchanged except for dot-stuffing, no line ends rewritten by a library."""
    assert session.docmd("MAIL", f"FROM:<{sender}>")[0] == 250
    assert session.docmd("RCPT", f"TO:<{recipient}>")[0] == 250
    assert session.docmd("DATA")[0] == 354
    stuffed = message.replace(b"\r\n.", b"\r\n..")
    session.send(stuffed + b".\r\n")
    assert session.getreply()[0] == 250


def found_by_imap(login: Login, subject: str) -> bytes:
    """The message with this subject, once it has been delivered."""
    deadline = time.monotonic() + DELIVERY_SECONDS
    with imap(login) as session:
        while True:
            session.noop()
            _, (numbers, *_) = session.search(None, "SUBJECT", f'"{subject}"')
            if numbers:
                _, parts = session.fetch(numbers.split()[-1].decode(), "(BODY.PEEK[])")
                assert isinstance(parts[0], tuple)
                return parts[0][1]
            assert time.monotonic() < deadline, f"{subject} was not delivered"
            threading.Event().wait(0.05)


def found_by_pop3(login: Login, subject: str) -> bytes:
    with pop3(login) as session:
        count, _ = session.stat()
        for number in range(count, 0, -1):
            _, lines, _ = session.retr(number)
            if f"Subject: {subject}".encode() in lines:
                return b"".join(line + b"\r\n" for line in lines)
    raise AssertionError(f"{subject} is not there")


def without_trace(received: bytes) -> bytes:
    """The message without the header lines that the servers have put in front."""
    return received[received.index(b"From: alice@") :]
