"""A worker: serves the mail clients that the bridge hands over, and ends with the bridge.

It knows no configuration and no grant. It asks the bridge for what a session needs: one question for a login that it
has not seen lately, and one if the mailbox's upstream connections are limited. It knows whose program a mail client is
only if the bridge says so.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from bridge.clock import SystemClock
from bridge.control.wire import decode_error, encode_error
from bridge.errors import BridgeError, ConfigError, ProviderUnavailable
from bridge.model import AccessToken, Account, Login, Protocol, TlsMode
from bridge.observe import logs
from bridge.observe.log_file import log_file
from bridge.observe.metrics import Counters
from bridge.relay.limits import Place
from bridge.relay.reception import Reception
from bridge.relay.session import AskCaller, Services
from bridge.relay.stopping import Stopping
from bridge.relay.welcome import Service
from bridge.workers.certificates import PortCertificate
from bridge.workers.clients import Places
from bridge.workers.link import Link, Passage
from bridge.workers.logins import RecentLogins
from bridge.workers.wire import Misunderstood, Port, WorkerSettings, pack, unpack


async def work(passage: Passage, descriptors: int) -> None:
    """Serve until the bridge closes its end of `passage`. `descriptors`: how many this process may have."""
    async with asyncio.TaskGroup() as group:
        worker = _Worker(passage, group)
        worker.link.send("ready", descriptors)
        await worker.gone.wait()
        worker.link.close()
        worker.end_sessions()


@dataclass(frozen=True, slots=True)
class _Client:
    """A mail client that the bridge has handed over."""

    conn: str
    port: Port
    named: str
    """Its address, for the log; behind a balancer, the one that the balancer gives."""
    no_place: str
    """Why the client is to be sent away; empty if it is not."""
    whose: str
    """The Caller.key; empty if the bridge has not identified the caller."""
    is_check: bool
    """See Channel."""


Read = Callable[[Any], Any]
"""Turns a raw answer into its value. Called as soon as the answer comes: by the time the task that asked wakes up, a
later message may have changed what the answer refers to."""


@dataclass(frozen=True, slots=True)
class _Question:
    """A question to the bridge that has no answer yet."""

    answer: asyncio.Future[Any]
    read: Read


class _Worker:
    """All that this worker's process serves and remembers."""

    def __init__(self, passage: Passage, group: asyncio.TaskGroup) -> None:
        self.gone = asyncio.Event()
        self.logins = RecentLogins(SystemClock())
        self.accounts: dict[str, Account] = {}
        """By address: accounts for which a login was accepted."""
        self.link = Link(passage, self._take, self.gone.set, self._news)
        self._entered: list[str] = []
        """News for the bridge: mail clients that have logged in."""
        self._over: list[str] = []
        """News: mail clients that have gone."""
        self._counters = Counters()
        """News: what was counted."""
        self._tried: list[tuple[str, str, dict[str, Any] | None, float]] = []
        """News: what mail servers answered to logins. The account's address, the protocol, the problem or None, and
        when the login began, by the loop's clock."""
        self._group = group
        self._loop = asyncio.get_running_loop()
        self._reception = Reception(lambda protocol: self._settings.endpoints.get(protocol, ()))
        self._ports: dict[int, Port] = {}
        self._certificates: dict[int, PortCertificate] = {}
        self._looks: set[asyncio.Task[None]] = set()
        """Looks at certificate files that are under way."""
        self._sessions: dict[str, asyncio.Task[None]] = {}
        self._settings = WorkerSettings("info", "text", "", {})
        self._numbers = itertools.count(1)
        self._questions: dict[int, _Question] = {}
        self._stopping = Stopping()

    def end_sessions(self) -> None:
        """End the sessions, which had their time while the bridge drained; the group waits while they close their
        sockets properly."""
        for session in self._sessions.values():
            if not session.cancelling():  # otherwise it is ending already
                session.cancel()
        for look in self._looks:
            look.cancel()

    # --- what the bridge says -----------------------------------------------------------------------------------

    def _take(self, message: list[Any], handed: socket.socket | None) -> None:
        match message:
            case ["client", str(conn), str(port), str(peer), str(named), str(no_place), str(whose)]:
                client = _Client(conn, self._ports[int(port)], named or peer, no_place, whose, is_check=named == peer)
                self._begin(client, peer, handed)
            case ["end", str(conn)]:
                if (session := self._sessions.get(conn)) is not None:
                    session.cancel()
            case ["answer", int(number), value]:
                if (question := self._questions.get(number)) is not None and not question.answer.done():
                    question.answer.set_result(question.read(value))
            case ["problem", int(number), dict(problem)]:
                if (question := self._questions.get(number)) is not None and not question.answer.done():
                    question.answer.set_exception(decode_error(problem))
            case ["account", account]:
                told = unpack(Account, account)
                self.accounts[told.address] = told
            case ["forget", str(address)]:
                self.logins.forget(address)
            case ["port", port]:
                opened = unpack(Port, port)
                self._ports[opened.number] = opened
            case ["closed", int(number)]:
                self._ports.pop(number, None)
                self._certificates.pop(number, None)
            case ["here?"]:
                self.link.send("here")
            case ["stopping"]:
                self._stopping.begin()
            case ["renewed"]:
                for certificate in self._certificates.values():
                    look = self._group.create_task(certificate.look())
                    self._looks.add(look)
                    look.add_done_callback(self._looks.discard)
            case ["settings", settings]:
                self._behave(unpack(WorkerSettings, settings))
            case _:
                raise Misunderstood

    def _behave(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self.logins.forget()
        stream = None
        with suppress(OSError):  # the bridge has just opened the same file; if we cannot, standard error has to do
            stream = log_file(Path(settings.log_file), renames=False) if settings.log_file else None
        logs.configure(cast(logs.Level, settings.log_level), cast(logs.Style, settings.log_format), stream)

    def _begin(self, client: _Client, peer: str, handed: socket.socket | None) -> None:
        conn = client.conn
        if handed is None or _peer_of(handed) not in {peer, ""}:
            # No descriptor was left for the socket; or, which must never happen, it is another client's.
            logs.trouble("worker.no_socket", conn=conn)
            if handed is not None:
                handed.close()
            self.link.send("lost", conn)
            return
        session = self._group.create_task(self._serve(client, handed), name=conn)
        self._sessions[conn] = session
        session.add_done_callback(lambda _: self._note_end(conn))

    def note_login(self, conn: str) -> None:
        """The client has logged in, or its session is about to end: it no longer needs a place among the
        unauthenticated."""
        self._entered.append(conn)
        self.link.announce_news()

    def _note_end(self, conn: str) -> None:
        del self._sessions[conn]
        if conn in self._entered:  # a short session, all of it since the last news
            self._entered.remove(conn)
        self._over.append(conn)
        self.link.announce_news()

    def note_answer(self, account: Account, protocol: Protocol, problem: BridgeError | None, seconds: float) -> None:
        """See session.Tried. A success is reported together with the news of the login, which comes next. Nothing is
        reported for an account from before a reload, because the bridge would take it for the new one of that
        address."""
        if self.accounts.get(account.address) != account:
            return
        began = self._loop.time() - seconds
        told = encode_error(problem) if problem is not None else None
        self._tried.append((account.address, protocol.value, told, began))
        if problem is not None:
            self.link.announce_news()

    def _news(self) -> tuple[Any, ...]:
        now = self._loop.time()
        tried = [[*about, now - began] for *about, began in self._tried]
        news = "news", self._entered, self._over, self._counters.take(), tried
        self._entered, self._over, self._tried = [], [], []
        return news

    async def _serve(self, client: _Client, handed: socket.socket) -> None:
        with ExitStack() as undo:
            undo.callback(handed.close)
            try:
                service = await self._service(client)
            except ConfigError as problem:  # files that were good when the bridge opened the port
                logs.trouble("session.no_tls", conn=client.conn, reason=str(problem))
                return
            undo.pop_all()
        await service(client.conn, handed, client.named)

    async def _service(self, client: _Client) -> Service:
        port, questions = client.port, _Questions(self, client)
        if port.tls is not None and port.number not in self._certificates:
            self._certificates[port.number] = PortCertificate(port)
        context = await self._certificates[port.number].context() if port.tls is not None else None
        services = Services(
            questions.who,
            questions.token_for,
            questions,
            questions,
            stopping=self._stopping,
            counters=self._counters,
            tried=questions.tried,
        )
        is_implicit = port.tls is TlsMode.IMPLICIT
        serve = self._reception.serving(port.protocol, None if is_implicit else context, services)
        places = Places(client.no_place)
        return Service(serve, places, context if is_implicit else None, is_check=client.is_check)

    # --- what this process asks ---------------------------------------------------------------------------------

    @asynccontextmanager
    async def asking(self, what: str, *arguments: Any, read: Read = lambda said: said) -> AsyncIterator[Any]:
        """Ask the bridge. Gives the answer, converted by `read`; leaving ends a turn, or withdraws an unanswered
        question. Raises: the bridge's BridgeError."""
        number = next(self._numbers)
        question = self._questions[number] = _Question(asyncio.get_running_loop().create_future(), read)
        self.link.send("ask", number, what, *arguments)
        is_answered = False
        try:
            answer = await question.answer
            is_answered = what != "turn"  # a turn is held until it is given back
            yield answer
        finally:
            del self._questions[number]
            if not is_answered:
                self.link.send("cancel", number)

    def granted(self, said: Any) -> tuple[Account, AccessToken, Any]:
        """The answer to a login: the account as the bridge has just told it, the token, and for which callers it
        holds."""
        address, token, whose = said
        return self.accounts[address], unpack(AccessToken, token), whose


class _Questions(Places):
    """One session's questions to the bridge, in place of the services that a session in the bridge itself has."""

    def __init__(self, worker: _Worker, client: _Client) -> None:
        super().__init__(client.no_place)
        self._worker = worker
        self._conn = client.conn
        self._whose = client.whose
        self._login: Login | None = None
        self._token: AccessToken | None = None
        self._good_for: str | None = None
        """For which callers the answer holds (`whose` in RecentLogins.add()); None if the bridge must be asked each
        time."""
        self._asked_in: int | None = None
        """RecentLogins.generation when the bridge was asked; None if it was not, because the login was remembered."""

    async def who(self, login: Login, caller_of: AskCaller) -> Account:
        """See session.Who. The answer includes the token. `caller_of` is not used: the bridge knows the connection, and
        asks the system itself."""
        self._login = login
        recent = self._worker.logins.find(login, self._whose)
        self._asked_in = None
        account, self._token = recent or await self._ask(login)
        return account

    async def token_for(self, account: Account, *, refused: AccessToken | None = None) -> AccessToken:
        """See session.TokenFor."""
        assert self._token is not None and self._login is not None  # noqa: S101, PT018  who() comes first
        if refused is None:
            return self._token
        self._worker.logins.forget(account.address)
        if self._asked_in is None:  # the bridge gives a new token only after a login that it has checked itself
            asked_again, _ = await self._ask(self._login)
            if asked_again.provider != account.provider:  # the new provider's token is not for this session's server
                raise ProviderUnavailable(f"{account.address} has been given to another provider meanwhile")
        async with self._worker.asking("token", self._conn, pack(refused)) as token:
            self._token = unpack(AccessToken, token)
            return self._token

    async def _ask(self, login: Login) -> tuple[Account, AccessToken]:
        self._asked_in = self._worker.logins.generation
        read = self._worker.granted
        async with self._worker.asking("login", self._conn, pack(login), read=read) as (account, token, whose):
            self._good_for = whose if isinstance(whose, str) else None
            return account, token

    def tried(self, account: Account, protocol: Protocol, problem: BridgeError | None, seconds: float) -> None:
        """See session.Tried. Only a login that has opened the mailbox is remembered: after a failure the bridge is
        asked about the next one, and hears of its result, whichever worker serves it. Of remembered logins the bridge
        hears only if they fail."""
        if problem is not None or self._asked_in is not None:
            self._worker.note_answer(account, protocol, problem, seconds)
        if problem is None and self._asked_in is not None and self._good_for is not None:
            assert self._login is not None and self._token is not None  # noqa: S101, PT018  who() comes first
            logins = self._worker.logins
            logins.add(self._login, self._good_for, account, self._token, asked_in=self._asked_in)

    @asynccontextmanager
    async def turn(self, key: tuple[str, str], most: int | None) -> AsyncIterator[None]:
        """See limits.Turns. The bridge counts for all workers together; without a limit it is not asked."""
        if most is None:
            yield
            return
        async with self._worker.asking("turn", *key, most):
            yield

    def place(self) -> AbstractContextManager[Place]:
        """See limits.Cap. The session's place ends with its login; leaving the handshake's place before does not end
        it."""
        return _Held(super().place(), self._worker, self._conn)


class _Held:
    """A session's place among the unauthenticated, until its login."""

    __slots__ = ("_conn", "_place", "_worker")

    def __init__(self, place: AbstractContextManager[Place], worker: _Worker, conn: str) -> None:
        self._place = place
        self._worker = worker
        self._conn = conn

    def __enter__(self) -> Place:
        return self._place.__enter__()

    def __exit__(self, *_: object) -> None:
        self._worker.note_login(self._conn)


def _peer_of(sock: socket.socket) -> str:
    """The peer's address in relay.listener's form; empty if the client has left already."""
    with suppress(OSError):
        host, port = sock.getpeername()[:2]
        return f"{host}:{port}"
    return ""
