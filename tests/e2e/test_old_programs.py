"""Dialogues of programs that do not follow the standards to the letter, from the greeting to what follows the login."""

from __future__ import annotations

import base64
import imaplib
import json
import socket
from typing import BinaryIO

import pytest

from tests.e2e import clients
from tests.e2e.bridge import Bridge
from tests.e2e.conftest import ALICE, BOB, CAROL, World
from tests.e2e.messages import awkward
from tests.servers.packages import needs

pytestmark = pytest.mark.servers

Dialogue = list[tuple[str, str]]
"""What is sent, unchanged, and how the answer's last line begins. {user}, {word}: as typed; {u64}, {w64}, {plain}: in
base64; {user#}, {word#}: their number of octets."""

SEND_AND_LEAVE: Dialogue = [
    ("MAIL FROM: <{user}>\r\n", "250"),
    ("RCPT TO: <{user}>\r\n", "250"),
    ("RSET\r\n", "250"),
    ("QUIT\r\n", "221"),
]
DIALOGUES: dict[str, tuple[str, Dialogue]] = {
    "Indy says its computer's name, and the user name with AUTH": (
        "smtp",
        [("EHLO MY_PC\r\n", "250"), ("AUTH LOGIN {u64}\r\n", "334 UGFz"), ("{w64}\r\n", "235"), *SEND_AND_LEAVE],
    ),
    "no name, lower case, spaces at the end": (
        "smtp",
        [("helo \r\n", "250"), ("auth login \r\n", "334 VXNl"), ("{u64} \r\n", "334"), ("{w64} \r\n", "235")],
    ),
    "EHLO without a name": ("smtp", [("EHLO\r\n", "250"), ("AUTH PLAIN {plain}\r\n", "235"), *SEND_AND_LEAVE]),
    "lines that end in LF": (
        "smtp",
        [("EHLO crm\n", "250"), ("AUTH LOGIN\n", "334"), ("{u64}\n", "334"), ("{w64}\n", "235"), ("NOOP\n", "250")],
    ),
    "all that may come before AUTH": (
        "smtp",
        [
            ("NOOP\r\n", "250"),
            ("RSET\r\n", "250"),
            ("HELO my pc!\r\n", "250"),
            ("EHLO [192.168.1.5]\r\n", "250"),
            ("RSET\r\n", "250"),
            ("VRFY alice\r\n", "530"),
            ("MAIL FROM: <{user}>\r\n", "530"),
            ("STARTTLS\r\n", "502"),
            ("AUTH CRAM-MD5\r\n", "504"),
            ("AUTH NTLM TlRMTVNTUAABAAAA\r\n", "504"),
            ("AUTH  PLAIN  {plain}\r\n", "235"),
            *SEND_AND_LEAVE,
        ],
    ),
    "everything at once": (
        "smtp",
        [("EHLO crm\r\nAUTH PLAIN {plain}\r\nMAIL FROM:<{user}>\r\nRCPT TO:<{user}>\r\nQUIT\r\n", "221")],
    ),
    "user and pass": ("pop3", [("user {user}\r\n", "+OK"), ("pass {word}\r\n", "+OK"), ("stat\r\n", "+OK")]),
    "POP3 in LF, and a space behind the name": (
        "pop3",
        [("USER {user} \n", "+OK"), ("PASS {word}\n", "+OK"), ("STAT\n", "+OK"), ("QUIT\n", "+OK")],
    ),
    "POP3 with all that is tried first": (
        "pop3",
        [
            ("CAPA \r\n", "."),
            ("AUTH\r\n", "."),
            ("AUTH NTLM\r\n", "-ERR"),
            ("STLS\r\n", "-ERR"),
            ("APOP {user} c4c9334bac560ecc979e58001b3e22fb\r\n", "-ERR"),
            ("auth login\r\n", "+ VXNl"),
            ("{u64}\r\n", "+ UGFz"),
            ("{w64}\r\n", "+OK"),
        ],
    ),
    "literals": (
        "imap",
        [("1 LOGIN {{user#}}\r\n", "+"), ("{user} {{word#}}\r\n", "+"), ("{word}\r\n", "1 OK"), ("2 NOOP\r\n", "2 OK")],
    ),
    "a quoted name, and a literal": (
        "imap",
        [('a LOGIN "{user}" {{word#}}\r\n', "+"), ("{word}\r\n", "a OK"), ("b NOOP\r\n", "b OK")],
    ),
    "literals that do not wait": (
        "imap",
        [("1 LOGIN {{user#}+}\r\n{user} {{word#}+}\r\n{word}\r\n", "1 OK"), ("2 NOOP\r\n", "2 OK")],
    ),
    "lower case, LF, and spaces at the end": (
        "imap",
        [("1 capability \n", "1 OK"), ('2 login "{user}" "{word}" \n', "2 OK"), ("3 noop\n", "3 OK")],
    ),
    "IMAP with all that is tried first": (
        "imap",
        [
            ("\r\n", "* BAD"),
            ("a0 ID NIL\r\n", "a0 OK"),
            ("a1 AUTHENTICATE CRAM-MD5\r\n", "a1 NO"),
            ("a2 STARTTLS\r\n", "a2 BAD"),
            ("a3 NAMESPACE\r\n", "a3 BAD"),
            ("a4 AUTHENTICATE PLAIN\r\n", "+"),
            ("*\r\n", "a4 BAD"),
            ("a5 AUTHENTICATE LOGIN {u64}\r\n", "+ UGFz"),
            ("{w64}\r\n", "a5 OK"),
        ],
    ),
}


@pytest.mark.parametrize("name", DIALOGUES)
def test_it_gets_in(bridge: Bridge, name: str) -> None:
    protocol, dialogue = DIALOGUES[name]
    login = bridge.login(ALICE)
    typed = login.username.encode(), login.password.encode()
    words = {
        "user": login.username,
        "word": login.password,
        "user#": str(len(typed[0])),
        "word#": str(len(typed[1])),
        "u64": base64.b64encode(typed[0]).decode(),
        "w64": base64.b64encode(typed[1]).decode(),
        "plain": base64.b64encode(b"\0" + b"\0".join(typed)).decode(),
    }
    with (
        socket.create_connection(("127.0.0.1", getattr(login, protocol)), timeout=30) as sock,
        sock.makefile("rb") as answers,
    ):
        answers.readline()
        for said, answer in dialogue:
            sock.sendall(filled(said, words))
            hear(answers, answer.ljust(4).encode() if protocol == "smtp" else answer.encode())


def filled(said: str, words: dict[str, str]) -> bytes:
    for place, word in words.items():
        said = said.replace(f"{{{place}}}", word)
    return said.encode()


def hear(answers: BinaryIO, answer: bytes) -> None:
    """Read up to the line that begins with `answer`."""
    heard: list[bytes] = []
    while not heard or not heard[-1].startswith(answer):
        try:
            heard.append(answers.readline())
        except TimeoutError:
            raise AssertionError(f"{heard} in place of {answer!r}") from None
        assert heard[-1], f"{heard} in place of {answer!r}"


@pytest.mark.parametrize("protocol", ["imap", "pop3"])
def test_php_opens_a_mailbox_and_has_nothing_to_complain_of(bridge: Bridge, world: World, protocol: str) -> None:
    """If PHP's library warns about a successful login, some CRMs treat that as a fatal error, others as a failure."""
    needs("php-cli", "php-imap")
    world.dovecot.deliver(ALICE, awkward("for php"))  # the library also complains about an empty mailbox
    login = bridge.login(ALICE)
    script = f"""<?php
        $where = '{{localhost:{getattr(login, protocol)}/{protocol}}}INBOX';
        $mailbox = imap_open($where, '{login.username}', '{login.password}');
        echo json_encode([$mailbox !== false, imap_errors()]);
        imap_close($mailbox);
    """
    assert json.loads(clients.run(["php"], stdin=script.encode())) == [True, False]


@pytest.mark.parametrize("protocol", ["imap", "pop3"])
def test_php_shows_the_whole_link_to_the_page_where_somebody_must_sign_in(bridge: Bridge, protocol: str) -> None:
    """PHP's library shows only 80 characters of an answer."""
    needs("php-cli", "php-imap")
    login = bridge.login(CAROL)
    script = f"""<?php
        @imap_open('{{localhost:{getattr(login, protocol)}/{protocol}}}INBOX', '{CAROL}', '{login.password}', 0, 1);
        echo json_encode(imap_errors(), JSON_UNESCAPED_SLASHES);
    """
    said = json.loads(clients.run(["php"], stdin=script.encode()))
    assert f"Open http://localhost:{bridge.console_port}/sign-in/{CAROL} " in " ".join(said)


def test_pythons_library_knows_before_the_login_what_every_server_has_behind_it(bridge: Bridge) -> None:
    """imaplib does not ask again after the login. The bridge knows nothing about a server before somebody has logged in
    to it."""
    for address in (ALICE, BOB):
        login = bridge.login(address)
        with imaplib.IMAP4("localhost", login.imap, timeout=30) as session:
            session.login(login.username, login.password)
    with imaplib.IMAP4("localhost", login.imap, timeout=30) as session:
        assert "IDLE" in session.capabilities  # what idle() of Python 3.14 asks for
        session.login(login.username, login.password)
        assert session.enable("CONDSTORE")[0] == "OK"
