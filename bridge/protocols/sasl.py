"""SASL: PLAIN and LOGIN from mail clients; XOAUTH2, OAUTHBEARER and their error challenge with upstreams."""

from __future__ import annotations

import base64
import binascii
import codecs
import re
from collections.abc import Iterable

from bridge.errors import ProtocolViolation
from bridge.model import Mechanism
from bridge.protocols import missteps
from bridge.protocols.base import Credentials, Send
from bridge.secret import Secret

MECHANISMS = ("PLAIN", "LOGIN")
"""The mechanisms that we accept from mail clients."""

IN_CLEAR = ("LOGIN",)
"""What IMAP and POP3 announce without TLS. c-client, with which PHP reads mail, warns of a security problem if PLAIN is
announced there; the login succeeds, but some programs treat any such warning as an error. Every client knows LOGIN."""

LOGIN_CHALLENGES = (b"Username:", b"Password:")
"""The only two prompts that all clients understand (MS-XLOGIN): some clients go by the exact words."""

codecs.lookup("cp1252")  # loaded from the disk now: at the first login no file descriptor may be left for that
_UNDEFINED = frozenset(b"\x81\x8d\x8f\x90\x9d")
"""The bytes that Windows-1252 does not define."""

_TROUBLE = re.compile(rb'"status" ?: ?"(5[0-9]{2}|internal_failure|server_error|temporarily_unavailable)"')
"""A server error in an error challenge: Dovecot's `500` and `internal_failure`, and the error codes of RFC 6749."""

_LONG_WORD = re.compile(r"[\w.~+/-]{12,}=*")
"""What a piece of a token looks like, plain or in base64; a shorter piece gives nothing away."""


class SaslError(ProtocolViolation):
    """The client's response cannot be understood; the command fails, the connection goes on."""

    misstep = ""
    """See ServerMachine."""

    @property
    def public(self) -> str:
        """Says what is wrong with the response; never quotes any part of it."""
        return str(self)


class ForSomebodyElse(SaslError):
    """The client names an authorization identity other than its user name, as ICS does with the sender's address."""

    misstep = missteps.ANOTHER


class Exchange:
    """One AUTH of a mail client, after the mechanism's name: PLAIN (RFC 4616) or LOGIN (MS-XLOGIN)."""

    def __init__(self, mechanism: str) -> None:
        """`mechanism`: one of MECHANISMS."""
        self._mechanism = mechanism
        self._username: str | None = None

    @property
    def challenge(self) -> bytes:
        """The challenge to send next, in base64; empty for PLAIN, where the client speaks first."""
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
    except binascii.Error:
        raise SaslError("The response is not base64.") from None  # without the cause, which could quote it


def decode_plain(content: bytes) -> tuple[str, Secret[bytes]]:
    """`authzid NUL authcid NUL password` (RFC 4616 section 2). Raises: SaslError."""
    parts = content.split(b"\0")
    if len(parts) != 3 or not parts[1]:
        raise SaslError("The response is not of mechanism PLAIN.")
    identity, username = decode_text(parts[0]), decode_text(parts[1])
    if identity and identity.casefold() != username.casefold():
        raise ForSomebodyElse("Logging in for somebody else is not possible.")
    return username, Secret(parts[2])


def decode_text(content: bytes) -> str:
    """A user name: UTF-8, or Windows-1252 from an old Windows client."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return windows_text(content)


def windows_text(content: bytes) -> str:
    """Decoded as Windows does: the five bytes undefined in Windows-1252 become the control characters of Latin-1."""
    try:
        return content.decode("cp1252")
    except UnicodeDecodeError:
        return "".join(bytes([byte]).decode("cp1252" if byte not in _UNDEFINED else "latin-1") for byte in content)


def check_offer(mechanism: Mechanism, offered: Iterable[str]) -> None:
    """Raises: ProtocolViolation if `mechanism` is not among the names that a server offers; it says which other one
    would do."""
    names = set(offered)
    if mechanism.sasl_name in names:
        return
    other = next((known.value for known in Mechanism if known.sasl_name in names), None)
    remedy = f", but the other one: the administrator must set `sasl: {other}`" if other else ""
    raise ProtocolViolation(f"the server does not offer {mechanism.sasl_name}{remedy}")


def token_line(credentials: Credentials) -> Send:
    """The line that shows the token, in answer to the server's prompt."""
    return Send(initial_response(credentials) + b"\r\n", log="(token)", shows_token=True)


def line_after_challenge(credentials: Credentials) -> Send:
    """The client's answer to an error challenge, after which the server sends its final one: an empty line, or for
    OAUTHBEARER one octet 0x01 (RFC 7628 section 3.2.3)."""
    if credentials.mechanism is Mechanism.OAUTHBEARER:
        return Send(base64.b64encode(b"\x01") + b"\r\n")
    return Send(b"\r\n", log="(empty)")


def trouble_in(challenge: bytes) -> str:
    """The status of an error challenge (RFC 7628 section 3.2.2) if it blames the server, or the service that validates
    its tokens, and not the token; empty for any other status, and for anything that is not an error challenge."""
    try:
        found = _TROUBLE.search(base64.b64decode(challenge))
    except binascii.Error:
        return ""
    return found[1].decode("ascii") if found is not None else ""


def initial_response(credentials: Credentials) -> bytes:
    """The SASL initial response, which holds the token: base64 on one line, standard alphabet, padded."""
    make = oauthbearer if credentials.mechanism is Mechanism.OAUTHBEARER else xoauth2
    return base64.b64encode(make(credentials).encode("utf-8"))


def without_token(text: str, credentials: Credentials) -> str:
    """A server's words without any piece of the token that they repeat: they go to the mail program, to pages and to
    the log."""
    told = f"{credentials.token.reveal()} {initial_response(credentials).decode('ascii')}"
    return _LONG_WORD.sub(lambda found: "…" if found[0] in told else found[0], text)


def xoauth2(credentials: Credentials) -> str:
    """The response of mechanism XOAUTH2, as Google and Microsoft write it."""
    return f"user={credentials.address}\x01auth=Bearer {credentials.token.reveal()}\x01\x01"


def oauthbearer(credentials: Credentials) -> str:
    """The response of mechanism OAUTHBEARER (RFC 7628 section 3.1): a GS2 header without channel binding that names
    the mailbox, then key-value pairs."""
    pairs = {"host": credentials.host, "port": str(credentials.port), "auth": f"Bearer {credentials.token.reveal()}"}
    told = "".join(f"{key}={value}\x01" for key, value in pairs.items())
    return f"n,a={saslname(credentials.address)},\x01{told}\x01"


def saslname(name: str) -> str:
    """A name as a GS2 header can hold it (RFC 5801 section 4), with the header's separators escaped."""
    return name.replace("=", "=3D").replace(",", "=2C")
