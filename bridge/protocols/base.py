"""The events and the two machine interfaces.

A machine turns bytes into events and decisions into bytes. It holds state, never a transport, so that a test can
play a dialogue without a socket, whole, byte by byte or cut at random, and get the same events.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from bridge.errors import BridgeError, LimitReached
from bridge.model import Login, Mechanism
from bridge.secret import Secret


class RefusalKind(Enum):
    """Why an upstream said no, as far as its words tell; decides what the driver does next."""

    TOKEN = "token"  # noqa: S105  a word, not a secret
    """The token or the user named with it is not accepted: one forced refresh and one retry are worth it."""
    BUSY = "busy"
    """Temporary: too many connections, throttling, 4xx, shutting down, or a greeting that turns everybody away. The
    token is not at fault."""
    POLICY = "policy"
    """A setting at the provider forbids it (SMTP AUTH disabled, security defaults): an administrator's turn."""


@dataclass(frozen=True, slots=True)
class Send:
    """Write these bytes to the peer; `log` is what a log may show instead (secrets left out)."""

    data: bytes
    log: str = ""
    shows_token: bool = False
    """True if these bytes show the token to an upstream: its decision is what comes next."""


@dataclass(frozen=True, slots=True)
class StartTLS:
    """Write `farewell` in clear (may be empty), then start TLS, then call tls_started()."""

    farewell: bytes


@dataclass(frozen=True, slots=True)
class LoginRequested:
    """The client has given its credentials; the machine is silent until accept() or refuse()."""

    login: Login


@dataclass(frozen=True, slots=True)
class Ready:
    """The login is done: from here on bytes are passed on, not parsed.

    From a client machine: the upstream's untagged lines before its answer (`untagged`, complete lines), the text of
    the answer without tag and status (`text`, no line end), and the bytes already received after that answer
    (`leftover`, to be sent to the mail client first). From a server machine: only `leftover`, the bytes that the mail
    client pipelined after its login, to be sent to the upstream first.
    """

    leftover: bytes = b""
    text: bytes = b""
    untagged: bytes = b""


@dataclass(frozen=True, slots=True)
class Refused:
    """The upstream refuses the login; `text` is its final answer in its own words, one or more lines."""

    kind: RefusalKind
    text: str


@dataclass(frozen=True, slots=True)
class Hangup:
    """Write `farewell` (may be empty), then close."""

    farewell: bytes = b""
    violation: str = ""
    """What the peer did that its protocol does not allow; empty if it did nothing wrong."""


Event = Send | StartTLS | LoginRequested | Ready | Refused | Hangup


class ServerMachine(Protocol):
    """We are the server to a mail client, until its login is accepted."""

    def greet(self) -> list[Event]:
        """The greeting; call it once, before anything else. After StartTLS there is no second greeting."""

    def receive(self, data: bytes) -> list[Event]:
        """Take the next bytes from the mail client and say what to do.

        Args: data, any piece of the stream, however it was cut, never empty.
        Returns: events in the order to carry them out. After LoginRequested further bytes are kept and give no
        events until accept() or refuse(). What cannot be answered (a line or literal over the limit, plaintext sent
        after STARTTLS) ends in Hangup with its `violation`, after the answers to earlier commands. After Hangup
        nothing more is accepted.
        """

    @property
    def has_more(self) -> bool:
        """True if the client has already sent more than what was answered so far."""

    @property
    def misstep(self) -> str:
        """What has kept the client from logging in so far (a sentence of missteps.py); empty if that is not known."""

    def closed(self) -> list[Event]:
        """The client has ended its stream: nothing more will come."""

    def tls_started(self) -> list[Event]:
        """TLS is up after StartTLS; all knowledge from before is forgotten (RFC 3207 section 4.2)."""

    def accept(self, ready: Ready) -> list[Event]:
        """The upstream let us in: Send (its words, in the client's terms), then Ready with what is left over."""

    def refuse(self, problem: BridgeError) -> list[Event]:
        """Tell the client why not (the table of docs/architecture.md), then go on with the bytes kept meanwhile: their
        events follow."""

    def time_out(self) -> list[Event]:
        """The client took too long: say so and hang up."""

    def send_away(self, problem: LimitReached) -> list[Event]:
        """Tell the client why it cannot be served, wherever it is in the dialogue, and hang up."""


class ClientMachine(Protocol):
    """We are the client of an upstream, until it has authenticated us."""

    def start(self) -> list[Event]:
        """What to send before the upstream has spoken; usually nothing, since mail servers greet first."""

    def receive(self, data: bytes) -> list[Event]:
        """Take the next bytes from the upstream and say what to do.

        Returns: Send and StartTLS on the way; at last Ready or Refused, after which nothing more is accepted.
        Raises: ProtocolViolation for a line over the limit, an answer that makes no sense, plaintext after the
        STARTTLS answer, PREAUTH, or a server that does not offer what we need.
        """

    def closed(self) -> list[Event]:
        """The upstream has ended its stream. Gives Refused(BUSY) if it said why; otherwise raises ProtocolViolation."""

    def tls_started(self) -> list[Event]:
        """TLS is up after StartTLS; capabilities from before are forgotten."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client machine authenticates with."""

    address: str
    """The mailbox: XOAUTH2's `user`, OAUTHBEARER's authzid."""
    token: Secret[str]
    mechanism: Mechanism = Mechanism.XOAUTH2
    host: str = ""
    """The server's name as it was dialled; OAUTHBEARER repeats both this name and the port."""
    port: int = 0
