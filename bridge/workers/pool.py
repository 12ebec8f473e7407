"""The bridge's side of its workers: starts them, hands mail clients over, answers their questions, counts.

The bridge keeps everything of which there must be only one: ports, configuration, local passwords, tokens, store,
console, budgets of upstream connections. It also finds out who a mail client is: whose program, by its connection, or
what a balancer says. A worker gets a mail client's socket and, for its login, the account and an access token; the
bridge does not take a worker's word for whom it serves.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any

from bridge.clock import Clock
from bridge.config.diff import ConfiguredListener
from bridge.control.wire import decode_error, encode_error
from bridge.errors import (
    AuthorizationRequired,
    BridgeError,
    LimitReached,
    PeerGone,
    UpstreamRefused,
    UpstreamUnavailable,
)
from bridge.model import AccessToken, Caller, Login, Protocol, TlsMode
from bridge.notices import ListenerUp, Notice
from bridge.observe.logs import event, trouble
from bridge.observe.supervisor import tell_of_end
from bridge.relay.balancers import Balancers
from bridge.relay.session import FULL, Services, later, no_room
from bridge.relay.tls import ListenerCertificate
from bridge.relay.welcome import Served, Service, Welcome, caller_at, supervised
from bridge.shortage import is_replaced, not_loaded
from bridge.workers.clients import Client, Places
from bridge.workers.link import Link
from bridge.workers.logins import CALLER_SECONDS
from bridge.workers.process import Process, StartWorker
from bridge.workers.running import RunningWorker
from bridge.workers.wire import Port, WorkerSettings, pack, unpack

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds before a worker that has died is started again; doubled each time."""
SETTLED_SECONDS = 5.0
"""After a worker has served for this long, its pause is FIRST_PAUSE again. The pauses keep a worker that cannot live
from occupying a core with its starts, for which this is enough; but a client that can kill any worker that serves it
must not be able to keep all of them away for LONGEST_PAUSE."""
START_SECONDS = 15.0
"""How long a mail client waits for a worker to be ready: at the start, or if all have died at once."""


class Pool:
    """All workers of one bridge."""

    gather = 0.004
    """Seconds that a mail client may wait so that several are handed over together, see accepting.clients_of(): a small
    part of a login's time."""

    def __init__(
        self, count: int, start: StartWorker, services: Services, settings: Callable[[], WorkerSettings], clock: Clock
    ) -> None:
        """`services`: as for a session in this process. `settings` is called whenever its result may have changed."""
        self._clock = clock
        self._count = count
        self._start = start
        self._services = services
        self._settings = settings
        self._workers: list[RunningWorker] = []
        self._ports: dict[Welcome, Port] = {}
        """The ports in use, by the Welcome that serves their mail clients."""
        self._numbers = itertools.count()
        self._has_started = False
        self._whose_until = -1.0
        """Until then, by the monotonic clock, each mail client is handed over together with its caller, because some
        login depended on the caller."""
        self._paced: list[Callable[[], None]] = []
        """Who waits, see pace()."""
        self._changed = asyncio.Event()
        """Set and replaced whenever a worker is ready, or has died, and when the bridge stops."""

    # --- life ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep all workers running until cancelled; then they end, and with them the sessions that are left."""
        with self._services.stopping.told(self._tell_of_the_stop):
            async with asyncio.TaskGroup() as group:
                for number in range(1, self._count + 1):
                    group.create_task(self._keep(number))

    def take(self, notice: Notice) -> None:
        """For the bus. The account's token or local password may have changed: workers must forget its logins."""
        if (address := getattr(notice, "address", "")) and not isinstance(notice, ListenerUp):
            self.forget(address)

    def forget(self, address: str) -> None:
        """Make the workers forget this account's logins."""
        for worker in self._workers:
            worker.link.send("forget", address)

    def renew_certificates(self) -> None:
        """Tell the workers that some port has a new certificate."""
        for worker in self._workers:
            worker.link.send("renewed")

    def tell(self) -> None:
        """Tell the workers the new `settings`."""
        for worker in self._workers:
            worker.link.send("settings", pack(self._settings()))

    def _tell_of_the_stop(self) -> None:
        for worker in self._workers:
            worker.link.send("stopping")
        self._announce_change()  # so that nobody waits for a worker any more

    async def _keep(self, number: int) -> None:
        """One worker, started again whenever it dies."""
        pause = FIRST_PAUSE
        while True:
            served = 0.0
            try:
                process = await self._start()
                served = await self._run_one(number, process)
            except BridgeError as problem:
                trouble("worker.not_started", worker=number, reason=str(problem))
            pause = FIRST_PAUSE if served > SETTLED_SECONDS else pause
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _run_one(self, number: int, process: Process) -> float:
        """Run a worker until it ends, or this is cancelled. Returns: for how many seconds it was ready to serve."""
        async with asyncio.TaskGroup() as group:
            worker = RunningWorker(number, process, group)
            worker.link = Link(process.passage, lambda message, _: self._take(worker, message), worker.lose)
            self._workers.append(worker)
            for port in self._ports.values():
                worker.link.send("port", pack(port))
            worker.link.send("settings", pack(self._settings()))
            if self._services.stopping.has_begun:
                worker.link.send("stopping")
            watching = group.create_task(worker.watch(self._clock))
            try:
                await worker.gone.wait()
            finally:
                watching.cancel()
                self._workers.remove(worker)
                sessions = worker.give_up()
                how = await worker.ended()
                self._announce_change()
            trouble("worker.died", worker=number, pid=process.pid, how=how, sessions=sessions)
            if not worker.seconds_ready and is_replaced():
                trouble("worker.not_started", worker=number, reason=str(not_loaded(how)))
        return worker.seconds_ready

    # --- mail clients -------------------------------------------------------------------------------------------

    def serving(
        self, listener: ConfiguredListener, certificate: ListenerCertificate | None, balancers: Balancers | None
    ) -> Welcome:
        """How the mail clients of a port are served until closed(): by a worker, including TLS. The PROXY headers of
        `balancers` are read here."""
        files = certificate.files if certificate is not None else ("", "")
        port = Port(next(self._numbers), listener.protocol, listener.address.tls, *files)
        context = certificate.context if certificate is not None and port.tls is TlsMode.IMPLICIT else None
        send_away = partial(Service, no_room(port.protocol, self._services.stopping), context=context)
        words = later(port.protocol, FULL) if context is None else b""

        def welcome(conn: str, client: socket.socket, peer: str) -> Coroutine[Any, Any, None] | Served:
            visitor = Client(conn, port.number, peer, client, words)
            if balancers is None and (worker := self._worker_at_once()) is not None:
                visitor.hold(self._services.cap.place())
                if self._clock.monotonic() < self._whose_until:
                    visitor.caller = self._services.caller_at_once(visitor.ends)
                worker.hand_over(visitor)
                return visitor
            return self._welcome(visitor, balancers, send_away)

        self._ports[welcome] = port
        for worker in self._workers:
            worker.link.send("port", pack(port))
        return welcome

    def pace(self, go_on: Callable[[], None]) -> None:
        """See accepting.Pace: `go_on` is called when some worker has begun the sessions that it was given. Only where
        many clients wait, since an answer wakes the bridge. A worker that lags behind is passed over by and by, because
        its clients become more than the others'."""
        if not (ready := self._ready()):
            asyncio.get_running_loop().call_soon(go_on)
            return
        self._paced.append(go_on)
        for worker in ready:
            worker.ask()

    def _go_on(self) -> None:
        paced, self._paced = self._paced, []
        for go_on in paced:
            go_on()

    def closed(self, welcome: Welcome) -> None:
        """The port of this Welcome was closed, and its last session is over."""
        number = self._ports.pop(welcome).number
        for worker in self._workers:
            worker.link.send("closed", number)

    def _worker_at_once(self) -> RunningWorker | None:
        """A worker for the next mail client; None if a worker has to be awaited or the caller identified, which takes a
        task."""
        if not self._has_started or self._services.cap.is_busy:
            return None
        worker = self._emptiest()
        return worker if worker is not None and not worker.is_full else None

    async def _welcome(
        self, client: Client, balancers: Balancers | None, send_away: Callable[[Places], Service]
    ) -> None:
        """See Welcome; `send_away` serves clients that no worker can."""
        conn, peer = client.conn, client.peer
        with supervised(conn, lambda: peer), ExitStack() as ours:
            ours.callback(client.release)
            if balancers is not None:
                client.is_direct = False
                client.named, client.origin = await balancers.introduced(conn, peer, partial(_receive, client.held))
            client.no_place = await self._place(client)
            if (worker := await self._free_worker(conn)) is not None:
                ours.pop_all()
                worker.hand_over(client)
                await client.over()
            else:
                await send_away(Places(client.no_place))(conn, client.held, client.named or peer)

    async def _free_worker(self, conn: str) -> RunningWorker | None:
        """The worker with the fewest sessions; None if none has room."""
        if not self._has_started:
            await self._until_ready(self._count)  # wait for all, so that the first clients are spread, too
            self._has_started = True
        if not self._ready():
            await self._until_ready(1)
        worker = self._emptiest()
        if worker is None or worker.is_full:
            if not self._services.stopping.has_begun:
                trouble("worker.full" if worker else "worker.missing", conn=conn)
            return None
        return worker

    async def _place(self, client: Client) -> str:
        """Take a place for the client. Returns: empty, or why there is none, which a worker then tells the client in
        its protocol."""
        try:
            place = client.hold(self._services.cap.place())
            if place.needs_caller:
                place.give_to((await self._caller(client)).key)
        except LimitReached as limit:
            client.give_back()  # at once, because the client may take its time to leave
            return str(limit)
        return ""

    async def _caller(self, client: Client) -> Caller:
        """Whose program it is. The system is asked, never the worker; and again only while no OS user is known."""
        if client.caller is None or not client.caller.user_id:
            client.caller = await caller_at(lambda: client.ends, self._services.caller_of)
        return client.caller

    # --- what workers say ---------------------------------------------------------------------------------------

    def _take(self, worker: RunningWorker, message: list[Any]) -> None:
        match message:
            case ["news", list(entered), list(over), dict(counts), list(tried)]:
                worker.told(entered, over)
                self._services.counters.add_all(counts)
                for answer in tried:
                    self._hear(worker, answer)
            case ["ask", int(number), str(what), *arguments]:
                answering = worker.group.create_task(self._answer(worker, number, what, arguments))
                worker.requests[number] = answering
                # By a callback, not by the task itself, which may be cancelled before it has begun.
                answering.add_done_callback(lambda _: worker.requests.pop(number, None))
            case ["cancel", int(number)]:
                if (request := worker.requests.get(number)) is not None:
                    request.cancel()
            case ["lost", str(conn)]:
                if (client := worker.clients.pop(conn, None)) is not None:
                    client.send_away()
                    client.end()
            case ["here"]:
                worker.answered()
                self._go_on()
            case ["ready", int(descriptors)]:
                worker.ready(descriptors)
                event("worker.up", worker=worker.number, pid=worker.process.pid, room=worker.room)
                self._announce_change()
            case _:
                raise ValueError

    def _hear(self, worker: RunningWorker, answer: Any) -> None:
        """Take a mail server's answer to a login. Raises: LookupError, ValueError for what no mail server can have
        answered."""
        match answer:
            case [str(address), str(protocol), None, float(seconds)] if seconds >= 0:
                problem = None
            case [str(address), str(protocol), dict(told), float(seconds)] if seconds >= 0:
                problem = decode_error(told)
            case _:
                raise ValueError
        if not isinstance(problem, UpstreamRefused | UpstreamUnavailable | None):
            raise ValueError
        self._services.tried(worker.accounts[address], Protocol(protocol), problem, seconds)

    async def _answer(self, worker: RunningWorker, number: int, what: str, arguments: list[Any]) -> None:
        try:
            match what, arguments:
                case "login", [str(conn), login]:
                    worker.link.send("answer", number, await self._login(worker, conn, unpack(Login, login)))
                case "token", [str(conn), refused]:
                    worker.link.send("answer", number, await self._token(worker, conn, unpack(AccessToken, refused)))
                case "turn", [str(protocol), str(address), int(most)]:
                    async with self._services.turns.turn((protocol, address), most):
                        worker.link.send("answer", number, None)
                        await asyncio.Event().wait()  # until cancelled: by the worker, or because it has died
                case _:
                    worker.link.close()
                    worker.lose()
        except BridgeError as problem:
            worker.link.send("problem", number, encode_error(problem))
        except Exception as bug:  # noqa: BLE001  a supervisor: a bug ends one session, not the worker
            tell_of_end("session", bug, worker=worker.number)
            worker.link.send("problem", number, encode_error(PeerGone("a bug; see the log")))

    async def _login(self, worker: RunningWorker, conn: str, login: Login) -> Any:
        """Address and token together, and for whose programs the same login will have the same answer for a while:
        empty for all; a Caller.key if the answer depended on the caller (`os_user`, or wrong guesses before); None if
        it depended on a caller that is not known.
        """
        client = worker.client_of(conn)
        whose: str | None = ""

        async def caller_of() -> Caller:
            nonlocal whose
            caller = await self._caller(client)
            whose = caller.key or None
            return caller

        async with self._noted(client):
            account = await self._services.who(login, caller_of)
            token = await self._services.token_for(account)
        client.account = account
        if whose:
            self._whose_until = self._clock.monotonic() + CALLER_SECONDS
        if worker.accounts.get(account.address) != account:
            worker.accounts[account.address] = account
            worker.link.send("account", pack(account))
        return [account.address, pack(token), whose]

    async def _token(self, worker: RunningWorker, conn: str, refused: AccessToken) -> Any:
        client = worker.client_of(conn)
        if client.account is None:
            raise PeerGone("nobody has logged in there")
        async with self._noted(client):
            return pack(await self._services.token_for(client.account, refused=refused))

    @asynccontextmanager
    async def _noted(self, client: Client) -> AsyncIterator[None]:
        """Note for the sign-in page who wanted the mailbox, before the worker gets its answer: after that the client
        may be gone."""
        try:
            yield
        except AuthorizationRequired as wanted:
            await self._services.asked(wanted.address, client.ends, lambda: self._caller(client))
            raise

    # --- small things -------------------------------------------------------------------------------------------

    def _ready(self) -> list[RunningWorker]:
        return [worker for worker in self._workers if worker.room]

    def _emptiest(self) -> RunningWorker | None:
        emptiest = None
        for worker in self._workers:
            if worker.room and (emptiest is None or worker.burden < emptiest.burden):
                emptiest = worker
        return emptiest

    async def _until_ready(self, count: int) -> None:
        """Wait until this many workers are ready, for START_SECONDS at most, and not once the bridge stops."""
        with suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS):
                while len(self._ready()) < count and not self._services.stopping.has_begun:
                    await self._changed.wait()

    def _announce_change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
        self._go_on()


async def _receive(client: socket.socket, most: int) -> bytes:
    """See balancers.Receive."""
    try:
        return await asyncio.get_running_loop().sock_recv(client, most)
    except OSError as problem:
        raise PeerGone(str(problem)) from problem
