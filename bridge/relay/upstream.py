"""Opens upstream connections: dial, TLS, then drive a client machine until it is authenticated."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from dataclasses import dataclass

from bridge.advice import mail
from bridge.advice.diagnosis import Diagnosis
from bridge.advice.said import Said, quoted, said
from bridge.advice.system import system_reason
from bridge.advice.tls import tls_reason
from bridge.errors import (
    MailboxNotOpened,
    PeerGone,
    ProtocolViolation,
    TlsFailed,
    TokenRefused,
    UpstreamRefused,
    UpstreamUnavailable,
)
from bridge.model import AccessToken, Account, Endpoint, Protocol, TlsMode
from bridge.observe.logs import detail, is_detailed
from bridge.protocols.base import (
    ClientMachine,
    Credentials,
    Event,
    Ready,
    RefusalKind,
    Refused,
    Send,
    StartTLS,
)
from bridge.protocols.refusals import readable
from bridge.protocols.registry import client_machine
from bridge.protocols.sasl import without_token
from bridge.relay.authorities import UpstreamContexts
from bridge.relay.channel import Channel
from bridge.relay.dialer import Dialer

LOGIN_SECONDS = 15.0
"""For TLS, greeting and the dialogue up to the token together."""
ANSWER_SECONDS = 30.0
"""Added to that for the server's answer to the token: Exchange was seen to take this long before its OK
(Webklex/php-imap#213)."""
LONG_LINE = 8192
"""Octets of a line that every server should read (RFC 7162 section 4). Dovecot reads no more: on a longer one it hangs
up without a word. A JWT that lists a user's groups or roles can make the line with the token longer."""


@dataclass(frozen=True, slots=True)
class Opened:
    """An authenticated upstream connection, and what its server said."""

    channel: Channel
    ready: Ready


class Upstream:
    """Opens authenticated connections for one protocol."""

    def __init__(
        self,
        protocol: Protocol,
        dialer: Dialer,
        contexts: UpstreamContexts,
        *,
        login_seconds: float = LOGIN_SECONDS,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._protocol = protocol
        self._dialer = dialer
        self._contexts = contexts
        self._login_seconds = login_seconds
        self._answer_seconds = answer_seconds
        self._learned: dict[tuple[str, int], frozenset[str]] = {}

    def endpoint(self, account: Account) -> Endpoint:
        """Where this account's mail is. Raises: UpstreamRefused if no server is configured."""
        endpoint = account.endpoints.get(self._protocol)
        if endpoint is None:
            raise UpstreamRefused(
                said(
                    "no {protocol} server is configured for {address}",
                    protocol=self._protocol.value.upper(),
                    address=account.address,
                )
            )
        return endpoint

    def learned_extensions(self, endpoint: Endpoint) -> frozenset[str] | None:
        """SMTP, IMAP: what this server offered at the last login; otherwise what the preset says; otherwise None."""
        return self._learned.get((endpoint.host, endpoint.port), endpoint.extensions)

    async def open(self, account: Account, token: AccessToken, client_name: str = "") -> Opened:
        """Dial, start TLS, authenticate as `account.address`; cleans up if it raises.

        Raises: UpstreamUnavailable (network, TLS, busy, protocol), TokenRefused, UpstreamRefused.
        """
        endpoint = self.endpoint(account)
        credentials = Credentials(account.address, token.value, endpoint.mechanism, endpoint.host, endpoint.port)
        starttls = endpoint.tls is TlsMode.STARTTLS
        machine = client_machine(self._protocol, credentials, starttls=starttls, client_name=client_name)
        channel = await self._dialer.dial(endpoint)
        began = asyncio.get_running_loop().time()
        limit = asyncio.timeout_at(began + self._login_seconds)
        try:
            async with limit:
                if endpoint.tls is TlsMode.IMPLICIT:
                    await self._start_tls(channel, endpoint)
                ready = await self._drive(channel, machine, endpoint, account, credentials, limit)
        except TimeoutError:
            channel.close()
            self._dialer.forget_used(endpoint)
            raise UpstreamUnavailable(
                said(
                    "{host} did not complete the login in {seconds} s",
                    host=endpoint.host,
                    seconds=f"{round((limit.when() or began) - began, 3):g}",
                )
            ) from None
        except (PeerGone, ProtocolViolation) as problem:
            channel.close()
            self._dialer.forget_used(endpoint)
            raise UpstreamUnavailable(_named(endpoint, problem)) from problem
        except BaseException as problem:
            channel.close()
            if isinstance(problem, UpstreamUnavailable):
                self._dialer.forget_used(endpoint)
            raise
        self._contexts.keep_session(endpoint, channel.tls)
        extensions = getattr(machine, "extensions", None)
        if extensions is not None:
            self._learned[endpoint.host, endpoint.port] = extensions
        return Opened(channel, ready)

    async def _start_tls(self, channel: Channel, endpoint: Endpoint) -> None:
        try:
            await channel.start_tls(
                await self._contexts.context(endpoint),
                server_hostname=endpoint.host,
                session=self._contexts.session(endpoint),
            )
        except TlsFailed as problem:
            raise TlsFailed(said("{name}: {problem}", name=channel.peer, problem=problem.words)) from problem

    async def _drive(
        self,
        channel: Channel,
        machine: ClientMachine,
        endpoint: Endpoint,
        account: Account,
        credentials: Credentials,
        limit: asyncio.Timeout,
    ) -> Ready:
        """Carry out the machine's events until the upstream has decided; `limit` is extended once it has the token."""
        events: deque[Event] = deque(machine.start())
        is_greeting, shown = True, 0
        try:
            while True:
                while events:
                    match events.popleft():
                        case Send(data, log, shows_token):
                            if is_detailed():
                                text = log or data.decode("ascii", "replace").rstrip("\r\n")
                                detail("upstream.sent", upstream=channel.peer, text=text)
                            is_greeting = False
                            if shows_token:
                                shown = len(data)
                            await channel.send(data)
                            if shows_token:
                                limit.reschedule((limit.when() or 0.0) + self._answer_seconds)
                        case StartTLS(farewell):
                            await channel.send(farewell)
                            await self._start_tls(channel, endpoint)
                            events.extend(machine.tls_started())
                        case Ready() as ready:
                            return ready
                        case Refused(kind, text):
                            text = readable(without_token(text, credentials))
                            raise self._refusal(endpoint, account, kind, text, is_greeting=is_greeting)
                        case other:
                            raise AssertionError(f"a client machine does not say {other!r}")
                data = await channel.receive()
                events.extend(machine.receive(data) if data else machine.closed())
        except (PeerGone, ProtocolViolation) as problem:
            if shown <= LONG_LINE:
                raise
            raise _not_read(endpoint, problem) from problem

    def _refusal(
        self, endpoint: Endpoint, account: Account, kind: RefusalKind, text: str, *, is_greeting: bool
    ) -> UpstreamUnavailable | UpstreamRefused:
        """The upstream's "no" as one of our errors: temporary if BUSY, or if the server's words leave that open."""
        sentence = f"{endpoint.host} refuses the login: {text}"
        diagnosis = mail.diagnosis(
            text, protocol=self._protocol.value.upper(), mailbox=account.address, person=account.subject
        )
        if kind is RefusalKind.BUSY:
            if not diagnosis.advice.is_temporary:  # its code or place in the dialogue says temporary, not its words
                diagnosis = Diagnosis.of("mail.turned_away" if is_greeting else "mail.busy", text)
            return UpstreamUnavailable(sentence, diagnosis=diagnosis)
        if kind is RefusalKind.TOKEN:
            return TokenRefused(sentence, text=text, diagnosis=diagnosis)
        if mail.leaves_open(text):
            return MailboxNotOpened(sentence, text=text, diagnosis=diagnosis)
        return UpstreamRefused(sentence, text=text, diagnosis=diagnosis)


def _named(endpoint: Endpoint, problem: PeerGone | ProtocolViolation) -> Said:
    return said("{name}: {problem}", name=endpoint.host, problem=_lost(problem))


def _not_read(endpoint: Endpoint, problem: PeerGone | ProtocolViolation) -> UpstreamUnavailable:
    """The dialogue ended during or after a line with the token of more than LONG_LINE octets. The length is the likely
    reason, and waiting will not make the line shorter."""
    sentence = _named(endpoint, problem)
    return UpstreamUnavailable(sentence, diagnosis=Diagnosis.of("mail.token_long", sentence))


def _lost(problem: PeerGone | ProtocolViolation) -> Said:
    """Why a dialogue with a mail server ended without an answer to the login."""
    cause = problem.__cause__
    if isinstance(problem, ProtocolViolation) or cause is None:
        return problem.said or quoted(readable(str(problem)))
    reason = tls_reason(cause) if isinstance(cause, ssl.SSLError) else system_reason(cause)
    return said("the connection was lost ({reason})", reason=reason)
