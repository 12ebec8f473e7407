"""One connection from accept to close, in one linear function."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from typing import Protocol as Interface

from bridge.errors import (
    AuthorizationRequired,
    BridgeError,
    BridgeStops,
    LimitReached,
    LoginRefused,
    PeerGone,
    TokenRefused,
    UpstreamRefused,
    UpstreamUnavailable,
)
from bridge.model import LONGEST_ADDRESS, AccessToken, Account, Caller, Ends, Login, Protocol
from bridge.observe.logs import connection, detail, event, report
from bridge.observe.metrics import BYTES, LOGINS, Counters
from bridge.relay.channel import Channel
from bridge.relay.frontend import Frontend, answering
from bridge.relay.limits import Budget, Cap
from bridge.relay.splice import Traffic, splice
from bridge.relay.stopping import Stopping
from bridge.relay.upstream import Opened, Upstream
from bridge.relay.wanted import while_wanted
from bridge.relay.welcome import Serve, caller_at, nobody_knows

LOGINS_PER_CONNECTION = 5
"""Refused logins before the client is sent away; a CRM with a wrong password reconnects by itself."""

_TOO_MANY = {
    Protocol.IMAP: b"* BYE Too many refused logins\r\n",
    Protocol.SMTP: b"421 4.7.0 Too many refused logins\r\n",
}
"""Sent after the last answer, before we close: RFC 9051 section 3.4, RFC 5321 section 3.8. POP3 has no such line: it
knows only answers to commands."""

LAST_WORDS_SECONDS = 0.5
"""How long we try to tell a client, at the end of a stop, that its login will not be finished: a client that reads at
all takes a line at once."""

SHORT_SECONDS = 0.5
"""A wait so short that no mail program gives up meanwhile."""

_LATER = {Protocol.IMAP: "* BYE [UNAVAILABLE]", Protocol.POP3: "-ERR [SYS/TEMP]", Protocol.SMTP: "421 4.7.0"}
"""How the line in place of a greeting begins, before the reason."""

FULL = "Too many connections"
"""There is no room for one more session."""

STOPPED = "mail-bridge is being stopped"
"""The reason if the bridge is stopping: errors.BridgeStops, in place of a greeting."""

AskCaller = Callable[[], Awaitable[Caller]]
"""Whose program the mail client is. Finding out has a cost, so it is called only where the answer matters."""

Who = Callable[[Login, AskCaller], Awaitable[Account]]
"""A login to its account. Raises: LoginRefused, LimitReached, AuthorizationRequired, StoreUnavailable."""


async def _nobody_asks(address: str, ends: Ends | None, caller_of: AskCaller) -> None:
    """For a bridge without pages, where nobody asks who wants a mailbox."""


Tried = Callable[[Account, Protocol, BridgeError | None, float], None]
"""What came of a login at the account's mail server: None if accepted, otherwise the problem; and the seconds it
took."""


def _nobody_remembers(account: Account, protocol: Protocol, problem: BridgeError | None, seconds: float) -> None:
    """For a bridge that shows no state of its accounts."""


class TokenFor(Interface):
    """An access token for an account; `refused` is one that the upstream has just rejected."""

    async def __call__(self, account: Account, *, refused: AccessToken | None = None) -> AccessToken:
        """Raises: AuthorizationRequired, ProviderUnavailable, StoreUnavailable, StoreCorrupt."""


@dataclass(frozen=True, slots=True)
class Services:
    """What a session needs from layers that it may not import, and what it shares with other sessions."""

    who: Who
    token_for: TokenFor
    turns: Budget
    cap: Cap
    caller_of: Callable[[Ends | None], Awaitable[Caller]] = nobody_knows
    """Whose program is at the other end."""
    asked: Callable[[str, Ends | None, AskCaller], Awaitable[None]] = _nobody_asks
    """Called when this account's person must sign in; notes for the sign-in page who wanted the mailbox."""
    stopping: Stopping = field(default_factory=Stopping)
    """Tells clients that have not logged in yet that the bridge stops."""
    caller_at_once: Callable[[Ends | None], Caller | None] = lambda _: None
    """As `caller_of`, if the answer is a matter of microseconds; None if `caller_of` has to be asked."""
    counters: Counters = field(default_factory=Counters)
    tried: Tried = _nobody_remembers
    """Called for each login that got as far as the mail server; must not block."""


def later(protocol: Protocol, reason: str) -> bytes:
    """The line sent in place of a greeting: why the client cannot be served now."""
    return f"{_LATER[protocol]} {reason}. Try again later.\r\n".encode("ascii")


def no_room(protocol: Protocol, stopping: Stopping) -> Serve:
    """Serves a mail client that no process can serve now: tells it why, and to try again later."""

    async def serve(conn: str, client: Channel) -> None:
        try:
            await client.send(later(protocol, STOPPED if stopping.has_begun else FULL))
        finally:
            await client.finish()

    return serve


class Session:
    """A mail client's connection; run() is its whole life."""

    __slots__ = ("_caller", "_client", "_conn", "_frontend", "_protocol", "_services", "_upstream", "_wrong")

    def __init__(
        self,
        conn: str,
        protocol: Protocol,
        client: Channel,
        frontend: Callable[[Channel], Frontend],
        upstream: Upstream,
        services: Services,
    ) -> None:
        self._conn = conn
        self._protocol = protocol
        self._client = client
        self._frontend = frontend
        self._upstream = upstream
        self._services = services
        self._caller: Caller | None = None
        self._wrong: Login | None = None
        """The login before this one, if it was refused for being wrong."""

    async def run(self) -> None:
        """Serve until either side ends; closes the client's channel."""
        with connection(self._conn):
            await self._run()

    async def _run(self) -> None:
        note = detail if self._client.is_check else event
        note("session.open", conn=self._conn, protocol=self._protocol.value, client=self._client.peer)
        try:
            with ExitStack() as unauthenticated:
                await self._take_place(unauthenticated)
                frontend = self._frontend(self._client)
                unauthenticated.callback(frontend.close)
                unauthenticated.enter_context(self._services.stopping.told(frontend.stop))
                for _ in range(LOGINS_PER_CONNECTION):
                    if await self._serve_once(frontend, unauthenticated):
                        return
                async with answering():
                    await self._client.send(_TOO_MANY.get(self._protocol, b""))
                raise PeerGone("too many refused logins")
        except PeerGone as gone:
            note("session.closed", conn=self._conn, reason=str(gone))
        except BridgeError as problem:
            report("session.ended", problem, conn=self._conn)
        finally:
            await self._client.finish()

    async def _take_place(self, unauthenticated: ExitStack) -> None:
        try:
            place = unauthenticated.enter_context(self._services.cap.place())
            if place.needs_caller:
                place.give_to((await self._ask_caller()).key)
        except LimitReached:
            await self._client.send(later(self._protocol, "Too many connections wait for their login"))
            raise

    async def _ask_caller(self) -> Caller:
        """Asked only when needed, and again only while no OS user is known."""
        if self._caller is None or not self._caller.user_id:
            self._caller = await caller_at(lambda: self._client.ends, self._services.caller_of)
        return self._caller

    async def _serve_once(self, frontend: Frontend, unauthenticated: ExitStack) -> bool:
        """One login; True if it was accepted and the session is over, False if it was refused."""
        login = self._marked(await frontend.login())
        is_answered = False
        try:
            account = await self._services.who(login, self._ask_caller)
            async with self._opened(account, login, frontend) as upstream:
                is_answered = True
                leftover = await frontend.accept(upstream.ready)
                self._services.counters.add(LOGINS, self._protocol.value, "yes")
                unauthenticated.close()
                await self._pass_bytes(account, upstream, leftover)
                return True
        except PeerGone:
            raise
        except asyncio.CancelledError:  # the bridge stops, and has no more time for this login
            if not is_answered:
                await self._say_later(frontend)
            raise
        except BridgeError as problem:
            report("login.refused", problem, conn=self._conn, username=login.username[:LONGEST_ADDRESS])
            self._services.counters.add(LOGINS, self._protocol.value, "later" if problem.temporary else "no")
            if isinstance(problem, AuthorizationRequired):  # before the answer: after it the client may be gone
                await self._services.asked(problem.address, self._client.ends, self._ask_caller)
            if isinstance(problem, LoginRefused):
                self._wrong = login
            await frontend.refuse(problem)
            return False

    def _marked(self, login: Login) -> Login:
        """The login, marked if it repeats the one before it, which is forgotten: no password is kept longer."""
        wrong, self._wrong = self._wrong, None
        is_same = wrong is not None and (wrong.username, wrong.password) == (login.username, login.password)
        return replace(login, is_repeated=True) if is_same else login

    async def _say_later(self, frontend: Frontend) -> None:
        with suppress(PeerGone, TimeoutError):
            async with asyncio.timeout(LAST_WORDS_SECONDS):
                await frontend.refuse(BridgeStops())

    @asynccontextmanager
    async def _opened(self, account: Account, login: Login, frontend: Frontend) -> AsyncIterator[Opened]:
        """The authenticated upstream, within the mailbox's connection budget; closed at the end."""
        most = self._upstream.endpoint(account).connections
        mailbox = (self._protocol.value, account.address)
        limited = nullcontext() if most is None else self._services.turns.turn(mailbox, most)
        clock = asyncio.get_running_loop().time
        came = clock()
        async with limited:
            # If programs gave up sooner than the queue moves, every place would go to a login whose program has left.
            # But a program that pipelined its commands and then half-closed still waits for the answers.
            may_have_left = clock() - came > SHORT_SECONDS and not frontend.has_more
            async with while_wanted(self._client) if may_have_left else nullcontext():
                opened = await self._open(account, login)
            try:
                yield opened
            finally:
                opened.channel.close()

    async def _open(self, account: Account, login: Login) -> Opened:
        """Get the token first, then dial: providers soon cut off unauthenticated connections."""
        token = await self._services.token_for(account)
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            opened = await self._open_with(account, token, login)
        except (UpstreamRefused, UpstreamUnavailable) as problem:
            self._services.tried(account, self._protocol, problem, clock() - began)
            raise
        self._services.tried(account, self._protocol, None, clock() - began)
        return opened

    async def _open_with(self, account: Account, token: AccessToken, login: Login) -> Opened:
        """Retry once, with a new token, if the token is refused."""
        try:
            return await self._upstream.open(account, token, login.client_name)
        except TokenRefused as refused:
            event("token.refused", conn=self._conn, account=account.address, reason=str(refused))
            token = await self._services.token_for(account, refused=token)
            return await self._upstream.open(account, token, login.client_name)

    async def _pass_bytes(self, account: Account, upstream: Opened, leftover: bytes) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        event("session.ready", conn=self._conn, account=account.address, upstream=upstream.channel.peer)
        traffic = Traffic()
        first = upstream.ready.leftover
        try:
            await splice(self._client, upstream.channel, traffic, to_client=first, to_upstream=leftover)
        finally:  # also if a stop cuts the session off: what it has passed is logged and counted
            event(
                "session.done",
                conn=self._conn,
                account=account.address,
                to_client=traffic.to_client,
                to_upstream=traffic.to_upstream,
                ended_by=traffic.ended_by,
                seconds=round(loop.time() - started, 1),
            )
            self._services.counters.add(BYTES, self._protocol.value, "program", by=traffic.to_client)
            self._services.counters.add(BYTES, self._protocol.value, "server", by=traffic.to_upstream)
