"""What the servers of IMAP and POP3 have in common: one command after the other, TLS first, SASL, and how it ends."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from bridge.errors import BridgeError, LimitReached, ProtocolViolation
from bridge.model import Login, Protocol
from bridge.protocols import missteps, sasl
from bridge.protocols.base import Event, Hangup, LoginRequested, Ready, Send, StartTLS
from bridge.protocols.lines import ClientLines
from bridge.protocols.refusals import public_line
from bridge.secret import Secret

LINE_LIMIT = 8192
"""Octets of a line. RFC 7162 section 4 asks for them in IMAP. RFC 2449 section 4 has 255 for POP3's commands, but a
SASL response may be longer (RFC 5034 section 4): a PLAIN response of 6 KB fits."""
COMMANDS_LIMIT = 50
"""Commands before login; a mail client needs about five."""


@dataclass(frozen=True, slots=True)
class Words:
    """One protocol's words for what both servers have to say."""

    wrong: str
    """Begins the answer to a command that is wrong."""
    farewell: str
    """Begins the line before the end of a connection."""
    later: str
    """Response code: this is no time to log in."""
    starttls: str
    """The command for TLS."""
    no_tls: str
    """The answer to it where TLS is not offered, after `wrong`."""
    tls_first: str
    """The answer to a password that would come in the clear."""
    other_way: str
    """The answer to a mechanism that we cannot bridge."""


class Server(ABC):
    """A mail client's connection, up to its login; see ServerMachine. The protocol adds its commands and words."""

    protocol: ClassVar[Protocol]
    words: ClassVar[Words]

    def __init__(self, *, starttls: bool = False, is_tls: bool = False) -> None:
        """`starttls`: TLS is offered, and demanded before a password. `is_tls`: TLS is there from the start."""
        self._starttls = starttls
        self._is_tls = is_tls
        self._buffer = ClientLines(LINE_LIMIT)
        self._commands = 0
        self._is_waiting = False
        self._is_over = False
        self._exchange: sasl.Exchange | None = None
        self._was_refused = False
        """A login was refused; the client has been told why."""
        self.misstep = ""
        """See ServerMachine."""

    # --- for the driver, see ServerMachine ----------------------------------------------------------------------

    @abstractmethod
    def greet(self) -> list[Event]:
        """The greeting."""

    def receive(self, data: bytes) -> list[Event]:
        """Take the next bytes from the mail client and say what to do.

        Args: data, any piece of the stream, however it was cut; never empty.
        Returns: events; Hangup with a violation for a line over LINE_LIMIT, or plaintext after the command for TLS.
        """
        self._buffer.append(data)
        return self._go_on()

    @property
    def has_more(self) -> bool:
        """See ServerMachine."""
        return len(self._buffer) > 0

    def closed(self) -> list[Event]:
        """The client has left: there is nothing to answer."""
        return []

    def tls_started(self) -> list[Event]:
        """Forget everything from before."""
        self._is_tls = True
        self._exchange = None
        return []

    def accept(self, ready: Ready) -> list[Event]:
        """The upstream's words, in the client's terms."""
        self._is_over = True
        return [self._accepted(ready), Ready(self._buffer.leftover())]

    def refuse(self, problem: BridgeError) -> list[Event]:
        """No, with a response code; or the end, when the client must go."""
        self._is_waiting = False
        self._was_refused = True
        if isinstance(problem, LimitReached):
            return self.send_away(problem)
        return [self._answer(f"{self._refusal(problem)} {public_line(problem)}"), *self._go_on()]

    def time_out(self) -> list[Event]:
        """The client took too long."""
        return self._leave("No login in time")

    def send_away(self, problem: LimitReached) -> list[Event]:
        """The same for this reason, unasked. IMAP's BYE needs no tag (RFC 9051 section 7.1.5); a POP3 client takes the
        line for the answer to its next command, which does no harm."""
        return self._leave(public_line(problem))

    # --- what differs -------------------------------------------------------------------------------------------

    @abstractmethod
    def _step(self) -> list[Event] | None:
        """Take the next piece of a command from the buffer, and carry out the command if that completes it; None while
        bytes are missing. Raises: ProtocolViolation."""

    @abstractmethod
    def _answer(self, text: str) -> Send:
        """The answer to the command of the moment."""

    @abstractmethod
    def _accepted(self, ready: Ready) -> Send:
        """The answer to a login that the upstream has accepted."""

    @abstractmethod
    def _refusal(self, problem: BridgeError) -> str:
        """What an answer to a refused login begins with."""

    # --- commands -----------------------------------------------------------------------------------------------

    def _go_on(self) -> list[Event]:
        """Read commands until no whole one is left, or a login waits for its answer."""
        events: list[Event] = []
        try:
            while not self._is_waiting and not self._is_over and (step := self._step()) is not None:
                events += step
        except ProtocolViolation as problem:
            events += self._hang_up(f"{self.words.farewell} {problem}", str(problem))
        return events

    def _one_too_many(self) -> list[Event]:
        """Count one more command; the end if it is one too many."""
        self._commands += 1
        return self._leave("Too many commands without a login") if self._commands > COMMANDS_LIMIT else []

    def _start_tls(self, go_ahead: str) -> list[Event]:
        if self._is_tls:
            return [self._wrong("TLS is on already")]
        if not self._starttls:
            self.misstep = missteps.WANTS_TLS
            return [self._wrong(self.words.no_tls)]
        if len(self._buffer):
            raise ProtocolViolation(f"plaintext behind {self.words.starttls}")
        self.misstep = ""
        return [StartTLS(self._answer(go_ahead).data)]

    def _begin_exchange(self, words: list[bytes]) -> list[Event]:
        """`words`: the mechanism, and the initial response if there is one; `=` stands for an empty one."""
        mechanism = words[0].upper().decode("ascii", "replace") if words else ""
        if mechanism not in sasl.MECHANISMS or len(words) > 2:
            return [self._other_way()]
        self._exchange = sasl.Exchange(mechanism)
        if len(words) == 1:
            return [self._challenge(self._exchange)]
        return self._continue_exchange(self._exchange, b"" if words[1] == b"=" else words[1])

    def _continue_exchange(self, exchange: sasl.Exchange, response: bytes) -> list[Event]:
        if response.strip() == b"*":
            self._exchange = None
            return [self._wrong("Cancelled")]
        try:
            credentials = exchange.respond(response)
        except sasl.SaslError as problem:
            self._exchange = None
            if not self._was_refused:
                self.misstep = problem.misstep or self.misstep
            return [self._wrong(problem.public)]
        if credentials is None:
            return [self._challenge(exchange)]
        self._exchange = None
        return self._requested(*credentials)

    def _requested(self, username: str, password: Secret[bytes]) -> list[Event]:
        self._is_waiting = True
        self.misstep = ""
        return [LoginRequested(Login(self.protocol, username, password))]

    # --- answers ------------------------------------------------------------------------------------------------

    @property
    def _needs_tls(self) -> bool:
        return self._starttls and not self._is_tls

    @property
    def _mechanisms(self) -> tuple[str, ...]:
        """The mechanisms that are announced; all of sasl.MECHANISMS are accepted."""
        return sasl.MECHANISMS if self._is_tls else sasl.IN_CLEAR

    def _wrong(self, text: str) -> Send:
        return self._answer(f"{self.words.wrong} {text}")

    def _tls_first(self) -> Send:
        self.misstep = missteps.BEFORE_TLS
        return self._answer(self.words.tls_first)

    def _other_way(self) -> Send:
        if not self._was_refused:
            self.misstep = missteps.OTHER_WAY
        return self._answer(self.words.other_way)

    def _challenge(self, exchange: sasl.Exchange) -> Send:
        return line(f"+ {exchange.challenge.decode('ascii')}")

    def _leave(self, reason: str) -> list[Event]:
        """Nobody has done anything wrong, but the client must go."""
        return self._hang_up(f"{self.words.farewell} {self.words.later} {reason}")

    def _hang_up(self, text: str, violation: str = "") -> list[Event]:
        self._is_over = True
        return [Hangup(line(text).data, violation)]


def line(text: str) -> Send:
    """A line, or several. The protocols are ASCII's before a login."""
    return Send(f"{text}\r\n".encode("ascii", "replace"))
