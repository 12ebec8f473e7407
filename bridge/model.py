"""Immutable values that the layers share: Account, Endpoint, Login, TokenSet, AccessToken."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from bridge.secret import Secret

LONGEST_ADDRESS: Final = 320
"""Characters: 64 before the @ and 255 after it (RFC 3696, erratum 1690, before the path limit)."""
SESSION_SHARE: Final = 0.5
"""Share of a token's life that must be left when a mail session begins: providers end the session with the token."""
PASSWORD_OVERLAP: Final = 7 * 24 * 3600.0
"""Seconds that an old local password goes on working: a week is enough for a laptop that is in the office once a
week."""


class Protocol(str, Enum):
    """A mail protocol that we speak on both sides."""

    IMAP = "imap"
    POP3 = "pop3"
    SMTP = "smtp"


class TlsMode(str, Enum):
    """When TLS starts: at once, or after a STARTTLS (STLS) command."""

    IMPLICIT = "implicit"
    STARTTLS = "starttls"


class Mechanism(str, Enum):
    """The SASL mechanism that shows a token to a mail server."""

    XOAUTH2 = "xoauth2"
    """Google's and Microsoft's own; others have adopted it since."""
    OAUTHBEARER = "oauthbearer"
    """RFC 7628."""

    @property
    def sasl_name(self) -> str:
        """The name as IANA registers it and as commands carry it: in upper case."""
        return self.value.upper()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An upstream mail server for one protocol; TLS is never optional."""

    host: str
    port: int
    tls: TlsMode
    ca_file: str | None = None
    """A PEM file to trust instead of the system's certificates."""
    extensions: frozenset[str] | None = None
    """What this server is known to offer: SMTP's EHLO lines (`SIZE 35882577`), IMAP's capabilities after login; None if
    that is not known."""
    connections: int | None = None
    """The most connections that the provider allows at once for one mailbox; None if no limit is known."""
    mechanism: Mechanism = Mechanism.XOAUTH2
    """The SASL mechanism for the token."""


@dataclass(frozen=True, slots=True)
class Account:
    """One mailbox of the configuration, resolved for one login."""

    address: str
    """The mailbox, as named in XOAUTH2; lower case."""
    provider: str
    """Name of the provider in the configuration."""
    subject: str
    """Who signs in; differs from `address` for a shared mailbox or a UPN that is not the address."""
    endpoints: Mapping[Protocol, Endpoint]
    """Its mail servers; a protocol that is missing is not available."""
    os_users: tuple[str, ...] = ()
    """OS user names or ids whose programs may use it; empty for everybody who knows the local password."""
    is_first_use: bool = False
    """True if the mail program's own password becomes the local one, once the person who signs in has said that the
    program is theirs."""


@dataclass(frozen=True, slots=True)
class Login:
    """The credentials that a mail client sent, not checked yet; the password as the bytes received."""

    protocol: Protocol
    username: str
    password: Secret[bytes]
    client_name: str = ""
    """SMTP only: the EHLO or HELO argument, sent on to the upstream."""
    is_repeated: bool = False
    """The login before it on this connection had the same user name and password, and was refused for being wrong."""


@dataclass(frozen=True, slots=True)
class Ends:
    """Both ends of a TCP connection that we have accepted: address and port."""

    client: tuple[str, int]
    ours: tuple[str, int]


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose program has connected, as far as the operating system tells."""

    user: str = ""
    """The OS user as the system writes it: `alice`, `OFFICE\\alice`; empty if it is not known."""
    user_id: str = ""
    """The same user as a uid or SID, which is unique; empty if the user is not known."""
    host: str = ""
    """The other machine's address; empty if the program runs on this one."""
    unknown: str = ""
    """Why the user is not known: English, for the log."""
    is_for_now: bool = False
    """True if the system could not be asked this time; the next time it may tell."""

    @property
    def key(self) -> str:
        """Tells callers apart, for counting. All programs of a user are one caller, and so are all addresses of an IPv6
        network, and all callers that are not known."""
        return f"user {self.user_id}" if self.user_id else f"host {_network_of(self.host)}" if self.host else ""

    @property
    def named(self) -> str:
        """For the log and for people: `alice`, or the other machine's address; empty if nothing is known."""
        return self.user or self.user_id or self.host


def _network_of(host: str) -> str:
    """Another machine can have countless IPv6 addresses: all of its /64 network count as one."""
    if ":" not in host:
        return host
    return str(ipaddress.ip_network((host.partition("%")[0], 64), strict=False).network_address)


@dataclass(frozen=True, slots=True)
class WaitingProgram:
    """A program that wants a mailbox for which somebody must sign in, as the sign-in page shows it."""

    key: str
    """Identifies it in a form."""
    user: str
    """Whose program it is, or the other machine; empty if that is not known."""
    name: str
    """Empty if that is not known."""
    seconds: float
    """How long ago it asked."""
    is_own: bool
    """True if it runs as the same OS user as the browser that shows the page."""
    has_password: bool
    """True if its password can be kept as the account's."""


@dataclass(frozen=True, slots=True)
class SignInPrompt:
    """An account for which a person's own programs have asked, and somebody must sign in."""

    address: str
    is_pending: bool
    """True if a sign-in is under way."""
    program: str
    """The program that asked last; empty if that is not known."""
    seconds: float
    """How long ago a program first asked for it."""


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A bearer token and its life, in seconds since the epoch."""

    value: Secret[str]
    expires_at: float
    obtained_at: float

    def remaining(self, now: float) -> float:
        """Seconds of life left; negative once expired."""
        return self.expires_at - now

    def is_fresh(self, now: float, share: float = SESSION_SHARE) -> bool:
        """True if at least this share of its life is left."""
        return self.remaining(now) >= (self.expires_at - self.obtained_at) * share and self.remaining(now) > 0


@dataclass(frozen=True, slots=True)
class Subject:
    """Who signed in, according to the token endpoint; addresses in lower case."""

    address: str
    """The main address or UPN."""
    identifier: str = ""
    """The provider's stable id (`oid`@`tid`, `sub`), for the log and for comparison later."""
    aliases: frozenset[str] = frozenset()
    """Further addresses that the token endpoint vouches for."""

    def is_named(self, address: str) -> bool:
        """True if `address` is one of this person's."""
        return address.lower() == self.address or address.lower() in self.aliases


@dataclass(frozen=True, slots=True)
class TokenSet:
    """What a token endpoint gave us, and what its adapter needs to get the next token."""

    access: AccessToken
    grant: Secret[str]
    """The adapter's own: a refresh token, or msal's serialised cache. It rotates, and is opaque to all other code."""
    scopes: frozenset[str] = field(default_factory=frozenset)
    """The scopes granted."""
    subject: Subject | None = None
    """Who signed in; None only if the provider gives no evidence (no id_token)."""
    ends_at: float | None = None
    """Seconds since the epoch at which the grant ends, whether it is used or not, as the provider said at the sign-in;
    None if it did not say."""
