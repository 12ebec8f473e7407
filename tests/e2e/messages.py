"""Mail that breaks careless relays."""

from __future__ import annotations

import hashlib
import secrets

DELIVERY_SECONDS = 60

STAMP = "Date: Tue, 24 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@crm.example>\r\n"
"""Header fields that Postfix would add if they were missing."""


def awkward(subject: str) -> bytes:
    """8-bit text, dots at the start of lines, lines of 990 octets, lines like a server's answers, trailing blanks."""
    return (
        f"From: alice@example.com\r\nTo: bob@example.com\r\nSubject: {subject}\r\n{STAMP}"
        "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        "Où êtes-vous ? – Ici, à 10 €.\r\n"
        ".\r\n..\r\n.a line with a dot\r\n...three\r\n"
        "* 1 FETCH {3}\r\n+OK\r\na1 OK LOGOUT\r\n250 fine\r\nFrom me\r\n"
        f"{'x' * 990}\r\n{'é' * 495}\r\n"
        "\r\n\r\n   trailing blanks   \r\nlast line\r\n"
    ).encode()


def heavy(subject: str, size: int) -> bytes:
    """Lines of random text up to `size` octets, to be compared by hash."""
    head = f"From: alice@example.com\r\nTo: alice@example.com\r\nSubject: {subject}\r\n{STAMP}\r\n".encode()
    line = secrets.token_hex(38).encode() + b"\r\n"
    block = b"".join(secrets.token_hex(38).encode() + b"\r\n" for _ in range(1000))
    body = block * ((size - len(head)) // len(block) + 1)
    return head + body[: size - len(head) - len(line)] + b"\r\n" + line[:-2] + b"\r\n"


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
