"""Dialogues that no mail program would hold, each derived from a number: the data, its pieces, and how it ends."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

ALICE = base64.b64encode(b"\0alice@example.com\0wrong-CANARY-password").decode()
LONG = (b"code" + b" " * 4000 + b"x", ("e\u0301\u0316" * 800).encode())
"""Names that once took seconds to search for secrets, and tenths of a second to normalize, each time they were sent."""
PLAIN = tuple(base64.b64encode(b"\0" + name + b"\0wrong-CANARY-password") for name in LONG)

IMAP = (
    *(b"a1 CAPABILITY", b"a2 NOOP", b"a3 LOGIN alice@example.com wrong-CANARY-password", b"a LOGOUT", b"a5 ID NIL"),
    *(b"a4 LOGIN {17}", b"alice@example.com {21+}", b"wrong-CANARY-password", b"a6 LOGIN {4294967295}", b"a LOGIN {0}"),
    *(b"a AUTHENTICATE PLAIN", b"a AUTHENTICATE PLAIN " + ALICE.encode(), b"a AUTHENTICATE LOGIN", b"*", b"a IDLE"),
    *(b"a STARTTLS", b'a LOGIN "alice\\"@example.com" "', b"a SELECT INBOX", b"a LOGIN {99999999999999999999+}"),
    *(b"a7 LOGIN {%d+}\r\n%b wrong-CANARY-password" % (len(name), name) for name in LONG),
)
POP3 = (
    *(b"CAPA", b"USER alice@example.com", b"PASS wrong-CANARY-password", b"QUIT", b"STLS", b"STAT", b"TOP 1 0"),
    *(b"AUTH", b"AUTH PLAIN", b"AUTH PLAIN " + ALICE.encode(), b"AUTH LOGIN", b"*", b"APOP alice c4c9334bac560ecc"),
    *(b"USER %b\r\nPASS wrong-CANARY-password" % name for name in LONG),
)
SMTP = (
    *(b"EHLO crm.example.com", b"HELO crm", b"AUTH PLAIN " + ALICE.encode(), b"AUTH LOGIN", b"*", b"STARTTLS", b"QUIT"),
    *(b"MAIL FROM:<alice@example.com> SIZE=99999999999", b"RCPT TO:<bob@example.com>", b"DATA", b".", b"RSET", b"NOOP"),
    *(b"VRFY root", b"EXPN staff", b"HELP", b"BDAT 4294967295 LAST", b"XCLIENT ADDR=10.0.0.1", b"PROXY TCP4 1 2 3 4"),
    *(b"EHLO crm.example.com\r\nAUTH PLAIN " + said for said in PLAIN),
)
HTTP = (
    *(b"GET / HTTP/1.1", b"GET /?code=CANARY-code&state=CANARY-state HTTP/1.1", b"POST / HTTP/1.1", b"PRI * HTTP/2"),
    *(b"", b"Host: localhost", b"Content-Length: 99999999999", b"Transfer-Encoding: chunked", b"ffffffff"),
    *(b"code=a&state=b", b"GET /admin/CANARY-token HTTP/1.1", b"GET /api/status HTTP/1.1", b"Expect: 100-continue"),
    *(b"Cookie: " + b"a=b; " * 500, b"Upgrade: websocket", b"Connection: Upgrade", b"GET /../../etc HTTP/1.0"),
    b"GET /sign-in/alice@example.com HTTP/1.1",
)
COMMANDS = {"imap": IMAP, "pop3": POP3, "smtp": SMTP, "console": HTTP}


class Ending(Enum):
    """How the client ends the connection."""

    POLITE = "FIN, then it reads what is still said"
    RUDE = "RST"
    SUDDEN = "close, with answers unread"


@dataclass(frozen=True, slots=True)
class Dialogue:
    """What is sent on one connection."""

    port: str
    """`imap`, `pop3`, `smtp` or `console`."""
    pieces: tuple[bytes, ...]
    ending: Ending


def dialogue(number: int) -> Dialogue:
    """The dialogue of this number, always the same."""
    dice = random.Random(number)
    port = dice.choice(tuple(COMMANDS))
    lines = [dice.choice(COMMANDS[port]) for _ in range(dice.randint(0, 8))]
    stream = b"".join(line + dice.choice((b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"")) for line in lines)
    for _ in range(dice.randint(0, 4)):
        stream = dice.choice(_MUTATIONS)(stream, dice)
    return Dialogue(port, tuple(_cut(stream, dice)), dice.choice(tuple(Ending)))


def _cut(stream: bytes, dice: random.Random) -> list[bytes]:
    if dice.random() < 0.5:
        return [stream] if stream else []
    pieces = []
    while stream:
        size = dice.randint(1, max(len(stream) // 2, 1))
        pieces.append(stream[:size])
        stream = stream[size:]
    return pieces[:40]


def _flip(stream: bytes, dice: random.Random) -> bytes:
    at = dice.randrange(len(stream) or 1)
    return stream[:at] + bytes([dice.randrange(256)]) + stream[at + 1 :]


def _insert(stream: bytes, dice: random.Random) -> bytes:
    at = dice.randrange(len(stream) + 1)
    return stream[:at] + dice.choice((b"\0", b"\r", b"\n", b"\xff" * 9, b"{9}", b'"', b"\xc3", b"%s%n")) + stream[at:]


def _remove(stream: bytes, dice: random.Random) -> bytes:
    at = dice.randrange(len(stream) + 1)
    return stream[:at] + stream[at + dice.randint(1, 20) :]


def _repeat(stream: bytes, dice: random.Random) -> bytes:
    at = dice.randrange(len(stream) + 1)
    return stream[:at] + stream[at : at + 40] * dice.randint(2, 50) + stream[at:]


def _lengthen(stream: bytes, dice: random.Random) -> bytes:
    at = dice.randrange(len(stream) + 1)
    return stream[:at] + dice.choice((b"A", b" ", b"\\", b"a ")) * dice.randint(100, 20_000) + stream[at:]


def _noise(stream: bytes, dice: random.Random) -> bytes:
    return stream + dice.randbytes(dice.randint(1, 300))


_MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    *(_flip, _insert, _remove, _repeat, _lengthen, _noise),
)
