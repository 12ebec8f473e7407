"""Log in to a running bridge, and read what the mail program is told."""

from __future__ import annotations

import base64
import contextlib
import imaplib
import poplib
import smtplib
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import BinaryIO

from tests.e2e.bridge import Bridge
from tests.e2e.clients import Login
from tests.servers.os_user import OsUser

YES = {"imap": "1 OK", "pop3": "+OK", "smtp": "235 "}
LATER = {"imap": "1 NO [UNAVAILABLE]", "pop3": "-ERR [SYS/TEMP]", "smtp": "454 4.7.0"}
"""YES and LATER: how the answer to a login begins."""
TOO_MANY = "* BYE [UNAVAILABLE] Too many connections or attempts. Try again later."


def answer(login: Login, protocol: str, seconds: float = 60) -> str:
    """The answer to a login; empty if the connection was closed without one."""
    with answered(login, protocol, seconds) as said:
        return said


@contextmanager
def answered(login: Login, protocol: str, seconds: float = 60) -> Iterator[str]:
    """Log in. Yields: the answer; the session is ended properly when the context ends."""
    with login.connect(protocol, seconds) as sock, sock.makefile("rb") as lines:
        yield _told(sock, lines, protocol, login)
        with contextlib.suppress(OSError):
            _leave(sock, lines, protocol)


def _told(sock: socket.socket, lines: BinaryIO, protocol: str, login: Login) -> str:
    dialogue = {
        "imap": [f'1 LOGIN {login.username} "{login.password}"'],
        "pop3": [f"USER {login.username}", f"PASS {login.password}"],
        "smtp": ["EHLO crm.example", f"AUTH PLAIN {_plain(login.username, login.password)}"],
    }[protocol]
    said = lines.readline().decode()
    for line in dialogue:
        sock.sendall(f"{line}\r\n".encode())
        said = lines.readline().decode()
        while (protocol == "imap" and said.startswith("* ")) or (protocol == "smtp" and said[3:4] == "-"):
            said = lines.readline().decode()
    return said


def _leave(sock: socket.socket, lines: BinaryIO, protocol: str) -> None:
    """Log out and wait for the end of the connection: otherwise a bridge that is stopped now would still wait for the
    mail server of this session."""
    sock.sendall({"imap": b"2 LOGOUT\r\n"}.get(protocol, b"QUIT\r\n"))
    while lines.readline():
        pass


def replies(login: Login) -> dict[str, str]:
    """The answer to a login, by each protocol."""
    found: dict[str, str] = {}
    with imaplib.IMAP4("localhost", login.imap, timeout=30) as session:
        try:
            found["imap"] = session.login(login.username, login.password)[0]
        except imaplib.IMAP4.error as problem:
            found["imap"] = str(problem)
    session3 = poplib.POP3("localhost", login.pop3, timeout=30)
    try:
        session3.user(login.username)
        found["pop3"] = session3.pass_(login.password).decode()
        session3.quit()  # otherwise a bridge that is stopped now would still wait for this session's mail server
    except poplib.error_proto as problem:
        found["pop3"] = str(problem)
    finally:
        session3.close()
    with smtplib.SMTP("localhost", login.smtp, timeout=30) as session25:
        session25.ehlo("crm")
        code, text = session25.docmd("AUTH", "PLAIN " + _plain(login.username, login.password))
        found["smtp"] = f"{code} {text.decode()}"
    return found


def assert_replies(found: dict[str, str], imap: str, pop3: str, smtp: str) -> None:
    assert imap in found["imap"]
    assert pop3 in found["pop3"]
    assert found["smtp"].startswith(smtp)


def imap_says(login: Login) -> str:
    """The answer to a login by IMAP. Asserts that there is one, and that the connection ends after LOGOUT."""
    with login.connect("imap", 30) as sock, sock.makefile("rb") as lines:
        said = _told(sock, lines, "imap", login)
        assert said, "closed without an answer"
        _leave(sock, lines, "imap")
        return said


class Dialogue:
    """A mail program that has just connected, by any protocol; it sends one login at a time."""

    def __init__(self, sock: socket.socket, protocol: str) -> None:
        self._sock = sock
        self._protocol = protocol
        self._lines = sock.makefile("rb")
        self.greeting = self._lines.readline()
        if protocol == "smtp":
            self.say(b"EHLO crm.example")
            while self._lines.readline()[3:4] == b"-":
                pass

    def say(self, line: bytes) -> None:
        self._sock.sendall(line + b"\r\n")

    def ask(self, username: str, password: str) -> None:
        if self._protocol == "imap":
            self.say(f'a1 LOGIN "{username}" "{password}"'.encode())
        elif self._protocol == "pop3":
            self.say(f"USER {username}".encode())
            self._lines.readline()
            self.say(f"PASS {password}".encode())
        else:
            self.say(f"AUTH PLAIN {_plain(username, password)}".encode())

    def answer(self) -> str:
        """The line that answers the login; untagged IMAP responses before it are skipped, except BYE."""
        while (line := self._lines.readline()).startswith(b"* ") and not line.startswith(b"* BYE"):
            pass
        return line.decode().strip()

    def close(self) -> None:
        self._lines.close()
        self._sock.close()


def to_the_end(sock: socket.socket) -> bytes:
    """Everything that is received until the other side has closed."""
    return b"".join(iter(lambda: sock.recv(65536), b""))


def log_in(user: OsUser | None, bridge: Bridge, protocol: str, username: str, password: str) -> str:
    """The answer to a login by a program of `user`; None stands for the user who runs the tests."""
    with closing(Dialogue(connection_of(user, port(bridge, protocol)), protocol)) as dialogue:
        dialogue.ask(username, password)
        return dialogue.answer()


def port(bridge: Bridge, protocol: str) -> int:
    return int(bridge.config["listeners"][protocol].rsplit(":", 1)[1])


def connection_of(user: OsUser | None, where: int) -> socket.socket:
    return user.connect(where) if user is not None else socket.create_connection(("127.0.0.1", where), timeout=60)


def is_accepted(answer: str) -> bool:
    return answer.startswith(("a1 OK", "+OK", "235 "))


def _plain(username: str, password: str) -> str:
    return base64.b64encode(f"\0{username}\0{password}".encode()).decode()
