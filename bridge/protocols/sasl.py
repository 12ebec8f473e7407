"""PLAIN and LOGIN in; XOAUTH2 out; the error challenge."""

from __future__ import annotations

import base64
import binascii

from bridge.errors import ProtocolViolation
from bridge.protocols.base import Credentials
from bridge.secret import Secret

MECHANISMS = ("PLAIN", "LOGIN")
"""What we take from mail clients."""

LOGIN_CHALLENGES = (b"Username:", b"Password:")
"""The only two that all clients understand (MS-XLOGIN); others decide by what the words are."""


class SaslError(ProtocolViolation):
    """The client's response cannot be understood; the command fails, the connection goes on."""

    @property
    def public(self) -> str:
        """Says what is wrong with it; never any part of it."""
        return str(self)


class Exchange:
    """One AUTH of a mail client, after the mechanism's name: PLAIN (RFC 4616) or LOGIN (MS-XLOGIN)."""

    def __init__(self, mechanism: str) -> None:
        """`mechanism`: one of MECHANISMS."""
        self._mechanism = mechanism
        self._username: str | None = None

    @property
    def challenge(self) -> bytes:
        """What the next response answers, in base64; empty for PLAIN, where the client speaks first."""
        if self._mechanism == "PLAIN":
            return b""
        return base64.b64encode(LOGIN_CHALLENGES[0 if self._username is None else 1])

    def respond(self, response: bytes) -> tuple[str, Secret[bytes]] | None:
        """Take one response in base64.

        Returns: user name and password, or None if another response must follow. Raises: SaslError.
        """
        content = decode_base64(response)
        if self._mechanism == "PLAIN":
            return decode_plain(content)
        if self._username is None:
            self._username = decode_text(content)
            return None
        return self._username, Secret(content)


def decode_base64(response: bytes) -> bytes:
    """One response of a mail client. Raises: SaslError."""
    try:
        return base64.b64decode(response.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise SaslError("The response is not base64.") from None  # without the cause, which could quote it


def decode_plain(content: bytes) -> tuple[str, Secret[bytes]]:
    """`authzid NUL authcid NUL password` (RFC 4616 section 2). Raises: SaslError."""
    parts = content.split(b"\0")
    if len(parts) != 3 or not parts[1]:
        raise SaslError("The response is not of mechanism PLAIN.")
    identity, username = decode_text(parts[0]), decode_text(parts[1])
    if identity and identity.casefold() != username.casefold():
        raise SaslError("Logging in for somebody else is not possible.")
    return username, Secret(parts[2])


def decode_text(content: bytes) -> str:
    """A user name: UTF-8, or what an old Windows client has in its place."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def xoauth2(credentials: Credentials) -> bytes:
    """The response of mechanism XOAUTH2, in base64 on one line: standard alphabet, padded."""
    blob = f"user={credentials.address}\x01auth=Bearer {credentials.token.reveal()}\x01\x01"
    return base64.b64encode(blob.encode("utf-8"))
