"""The bridge's side of its workers; the test holds the workers' ends of the links."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any

import pytest

from bridge import shortage
from bridge.advice.diagnosis import Diagnosis
from bridge.clock import Clock, SystemClock
from bridge.config.addresses import ListenAddress
from bridge.config.diff import ConfiguredListener
from bridge.control.wire import encode_error
from bridge.errors import BridgeError, StoreUnavailable, UpstreamRefused, UpstreamUnavailable
from bridge.host.workers import UnixPassage
from bridge.model import AccessToken, Account, Caller, Ends, Login, Protocol
from bridge.observe.metrics import LOGINS
from bridge.relay.accepting import GROUP
from bridge.relay.balancers import Balancers
from bridge.relay.limits import ConnectionCap, Turns
from bridge.relay.listener import Listener
from bridge.relay.session import AskCaller, Services
from bridge.relay.welcome import CallerOf, nobody_knows
from bridge.secret import Secret
from bridge.workers import pool as module
from bridge.workers.clients import Client
from bridge.workers.link import HANDED, Passage
from bridge.workers.logins import CALLER_SECONDS
from bridge.workers.pool import Pool
from bridge.workers.process import Process
from bridge.workers.running import RunningWorker
from bridge.workers.wire import Port, WorkerSettings, pack, unpack
from tests.clocks import ManualClock
from tests.relay.slow_system import GONE, SlowSystem
from tests.relay.sockets import close_with_reset
from tests.turns import until as until_within

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no workers")

until = partial(until_within, seconds=60)
"""A busy machine may have to start a worker first."""

ACCOUNT = Account("alice@example.com", "it", "alice@example.com", {})
LOGIN = Login(Protocol.IMAP, ACCOUNT.address, Secret(b"CANARY-password"))
TOKEN = AccessToken(Secret("CANARY-token"), 7200.0, 3600.0)
BOB, CAROL = Caller("bob", "1001"), Caller("carol", "1002")


class Worker:
    """A process.Process without a real process."""

    pid = 1

    def __init__(self) -> None:
        ours, self.theirs = socket.socketpair()
        self.theirs.setblocking(False)
        self.passage: Passage = UnixPassage(ours)
        self._unread: list[list[Any]] = []

    async def wait(self) -> str:
        return "by the test"

    def kill(self) -> None:
        pass

    def say(self, *message: object) -> None:
        self.theirs.sendall(json.dumps(message).encode() + b"\n")

    async def handed(self) -> str:
        """The id of the next connection that the bridge hands over."""
        return str((await self.told(HANDED))[1])

    async def told(self, *kinds: str) -> list[Any]:
        """The next message of one of these kinds; others before it are dropped."""
        while True:
            while self._unread:
                if (message := self._unread.pop(0))[0] in kinds:
                    return list(message)
            data = await asyncio.get_running_loop().sock_recv(self.theirs, 65536)
            self._unread += itertools.chain.from_iterable(map(_messages, data.splitlines()))


def _messages(line: bytes) -> list[list[Any]]:
    """The message of a line, or one for each socket if several were sent together."""
    kind, *rest = json.loads(line)
    return [[HANDED, *words] for words in rest] if kind == HANDED else [[kind, *rest]]


class Bench:
    """A pool of two workers, and a port."""

    def __init__(
        self,
        cap: ConnectionCap | None = None,
        services: Services | None = None,
        clock: Clock | None = None,
        balancers: Balancers | None = None,
        *,
        is_paced: bool = False,
    ) -> None:
        self.cap = cap or ConnectionCap()
        self.started: list[Worker] = []
        self.services = services or Services(never, never, Turns(), self.cap)
        pool = Pool(2, self._start, self.services, settings, clock or SystemClock())
        sock = socket.create_server(("127.0.0.1", 0))
        sock.setblocking(False)
        self.where = sock.getsockname()
        configured = ConfiguredListener(Protocol.IMAP, ListenAddress(address="127.0.0.1:1143"))
        welcome = pool.serving(configured, None, balancers)
        order: dict[str, Any] = {"gather": pool.gather, "pace": pool.pace} if is_paced else {}
        self.listener = Listener(Protocol.IMAP, [sock], welcome, **order)
        self.pool = pool

    async def _start(self) -> Process:
        worker = Worker()
        self.started.append(worker)
        return worker


async def never(*_: Any, **__: Any) -> Any:
    raise AssertionError


def settings() -> WorkerSettings:
    return WorkerSettings("info", "text", "", {})


@asynccontextmanager
async def serving(
    cap: ConnectionCap | None = None,
    caller_of: CallerOf = nobody_knows,
    *,
    services: Services | None = None,
    clock: Clock | None = None,
    balancers: Balancers | None = None,
    is_paced: bool = False,
) -> AsyncIterator[Bench]:
    """`services` replaces the two parameters before it. `is_paced`: clients are gathered as in the bridge."""
    cap = cap or ConnectionCap()
    bench = Bench(cap, services or Services(never, never, Turns(), cap, caller_of), clock, balancers, is_paced=is_paced)
    async with asyncio.TaskGroup() as group:
        keeping = group.create_task(bench.pool.run())
        group.create_task(bench.listener.run())
        while len(bench.started) < 2:
            await asyncio.sleep(0)
        for worker in bench.started:
            worker.say("ready", 1024)
        try:
            yield bench
        finally:
            bench.listener.stop()
            for worker in bench.started:
                worker.theirs.close()
            keeping.cancel()


@asynccontextmanager
async def crowded(count: int) -> AsyncIterator[Bench]:
    """So many clients have come at once; none of them leaves."""
    async with serving(is_paced=True) as bench:
        with ExitStack() as clients:
            for _ in range(count):
                clients.enter_context(socket.create_connection(bench.where))
            yield bench


async def test_a_mail_client_has_its_place_until_its_worker_says_that_it_is_in() -> None:
    async with serving() as bench:
        first, second = bench.started
        with socket.create_connection(bench.where), socket.create_connection(bench.where):
            one, other = await first.handed(), await second.handed()
            assert (bench.cap.count, bench.listener.sessions) == (2, 2)
            first.say("news", [one], [], {}, [])
            await until(lambda: bench.cap.count == 1)
            assert bench.listener.sessions == 2
            second.say("news", [], [other], {}, [])  # this session ends without having logged in
            await until(lambda: (bench.cap.count, bench.listener.sessions) == (0, 1))
            first.say("news", [one], [one, "imap-unknown"], {}, [])
            await until(lambda: bench.listener.sessions == 0)


async def test_what_workers_have_counted_is_one_sum() -> None:
    yes = LOGINS.sample("imap", "yes")
    async with serving() as bench:
        for worker, count in zip(bench.started, (2, 40), strict=True):
            worker.say("news", [], [], {yes: count}, [])
        await until(lambda: bench.services.counters[yes] == 42)


@pytest.mark.parametrize("said", [{"CANARY": 1}, {LOGINS.sample("imap", "yes"): -1}])
async def test_a_worker_that_counts_what_there_is_not_makes_no_sense(said: dict[str, int], log: io.StringIO) -> None:
    async with serving() as bench:
        bench.started[0].say("news", [], [], said, [])
        await until(lambda: "worker.misunderstood" in log.getvalue())
        assert bench.services.counters.take() == {}
    assert "CANARY" not in log.getvalue()


BUSY = UpstreamUnavailable("localhost refuses", diagnosis=Diagnosis.of("mail.busy", "NO busy"))
REFUSED = UpstreamRefused("no", text="NO", diagnosis=Diagnosis.of("mail.full", "NO", mailbox=ACCOUNT.address))


@asynccontextmanager
async def hearing_answers() -> AsyncIterator[tuple[Worker, list[Any]]]:
    """A worker that knows Alice's account, and what the bridge learns of her mail servers."""
    heard: list[Any] = []

    async def who(_: Login, __: AskCaller) -> Account:
        return ACCOUNT

    async def token_for(account: Account, *, refused: AccessToken | None = None) -> AccessToken:
        return TOKEN

    services = Services(who, token_for, Turns(), ConnectionCap(), tried=lambda *about: heard.append(about))
    async with serving(services=services) as bench:
        worker = bench.started[0]
        with socket.create_connection(bench.where):
            worker.say("ask", 1, "login", await worker.handed(), pack(LOGIN))
            await worker.told("answer")
            yield worker, heard


async def test_what_mail_servers_answered_is_told_as_it_was() -> None:
    answers = (None, BUSY, REFUSED)
    async with hearing_answers() as (worker, heard):
        said = [[ACCOUNT.address, "imap", problem and encode_error(problem), 1.5] for problem in answers]
        worker.say("news", [], [], {}, said)
        await until(lambda: len(heard) == 3)
    assert [(*about[:2], about[3]) for about in heard] == [(ACCOUNT, Protocol.IMAP, 1.5)] * 3
    assert [(type(about[2]), getattr(about[2], "diagnosis", None)) for about in heard] == [
        (type(answer), getattr(answer, "diagnosis", None)) for answer in answers
    ]


@pytest.mark.parametrize(
    "answer",
    [
        ["CANARY@example.com", "imap", None, 1.0],
        [ACCOUNT.address, "CANARY", None, 1.0],
        [ACCOUNT.address, "imap", None, -1.0],
        [ACCOUNT.address, "imap", None, float("nan")],
        [ACCOUNT.address, "imap", None, "CANARY"],
        [ACCOUNT.address, "imap", None],
        [ACCOUNT.address, "imap", "CANARY", 1.0],
        [ACCOUNT.address, "imap", {"error": "CANARY"}, 1.0],
        [ACCOUNT.address, "imap", encode_error(StoreUnavailable("CANARY")), 1.0],
        "CANARY",
    ],
)
async def test_a_worker_that_tells_what_no_mail_server_answered_makes_no_sense(answer: Any, log: io.StringIO) -> None:
    async with hearing_answers() as (worker, heard):
        worker.say("news", [], [], {}, [answer])
        await until(lambda: "worker.misunderstood" in log.getvalue())
        assert heard == []
    assert "CANARY" not in log.getvalue()


async def test_who_comes_when_all_workers_are_up_holds_a_place_too() -> None:
    async with serving(ConnectionCap(most=20)) as bench:
        with ExitStack() as crm:
            for count in range(1, 9):
                crm.enter_context(socket.create_connection(bench.where))
                await bench.started[(count - 1) % 2].handed()
                assert bench.cap.count == count


async def test_of_a_crowd_the_next_are_handed_over_when_a_worker_has_begun_the_last() -> None:
    """Otherwise all would wait in the workers, in their order, and callers could not take turns."""
    async with crowded(100) as bench:
        first, second = bench.started
        assert await first.told("here?") == await second.told("here?") == ["here?"]
        begun = bench.listener.sessions
        assert begun <= 3 * GROUP
        for worker in (first, second, first):
            worker.say("here")
            assert await worker.told("here?") == ["here?"]
            begun += GROUP
            assert bench.listener.sessions == begun
        assert await first.handed(), "it has the next ones at hand while it begins the others"
        assert begun < 100


async def test_if_the_workers_die_a_crowd_goes_on_to_the_one_that_follows() -> None:
    async with crowded(100) as bench:
        first, second = bench.started
        await first.told("here?")
        await second.told("here?")
        left = 100 - bench.listener.sessions
        for worker in (first, second):
            worker.theirs.close()
        await until(lambda: len(bench.started) > 2)
        third = bench.started[2]
        third.say("ready", 1024)
        while left:
            if await third.told(HANDED, "here?") == ["here?"]:
                third.say("here")
            else:
                left -= 1


async def test_where_no_worker_is_left_to_answer_a_crowd_goes_on_by_itself() -> None:
    """Each of it waits for a worker then, START_SECONDS at most, and is told to come later."""
    async with serving() as bench:
        for worker in bench.started[:2]:
            worker.theirs.close()
        await until(lambda: len(bench.started) > 3)  # they are not ready, and say nothing
        gone_on = asyncio.Event()
        bench.pool.pace(gone_on.set)
        async with asyncio.timeout(60):
            await gone_on.wait()


async def test_a_worker_that_owes_an_answer_is_not_asked_again() -> None:
    """Each answer lets all ports go on, and each would ask again: the questions would double each time."""
    async with serving() as bench:
        first, second = bench.started
        await until(lambda: all(worker.room for worker in bench.pool._workers))
        gone_on: list[str] = []
        for port in ("imap", "pop3", "smtp"):
            bench.pool.pace(partial(gone_on.append, port))
        bench.pool.forget("the end")
        for worker in (first, second):
            assert await worker.told("here?", "forget") == ["here?"]
            assert await worker.told("here?", "forget") == ["forget", "the end"]
        assert not gone_on
        first.say("here")
        await until(lambda: gone_on == ["imap", "pop3", "smtp"])


async def test_behind_a_balancer_the_bridge_reads_the_header_and_takes_its_word_for_whose_it_is() -> None:
    """The worker gets the connection after the header was read, and is not asked whose it is."""
    asked = list[Ends | None]()

    async def caller_of(ends: Ends | None) -> Caller:
        asked.append(ends)
        return Caller(host="192.0.2.7")

    async def who(_: Login, caller: AskCaller) -> Account:
        await caller()
        raise BridgeError("enough")

    services = Services(who, never, Turns(), ConnectionCap(), caller_of)
    async with serving(services=services, balancers=Balancers(["127.0.0.1"])) as bench:
        for worker in bench.started:
            with socket.create_connection(bench.where) as crm:
                crm.sendall(b"PROXY TCP4 192.0.2.7 192.0.2.1 40001 143\r\na1 NOOP\r\n")
                _, conn, _, peer, named, *_ = await worker.told(HANDED)
                assert (peer, named) == (f"127.0.0.1:{crm.getsockname()[1]}", "192.0.2.7:40001")
                worker.say("ask", 1, "login", conn, pack(LOGIN))
                await worker.told("problem")
        assert asked == [Ends(("192.0.2.7", 40001), ("", 0))] * 2
        with socket.create_connection(bench.where) as stranger:
            stranger.setblocking(False)
            said = b""
            with suppress(ConnectionError):  # its data after the first octets is not read, so it may be reset
                await asyncio.get_running_loop().sock_sendall(stranger, b"a1 LOGIN alice@example.com CANARY\r\n")
                said = await asyncio.get_running_loop().sock_recv(stranger, 1000)
            assert said == b""


async def test_a_balancer_that_resets_its_connection_before_the_header_is_no_bug(log: io.StringIO) -> None:
    """As it does to see whether the port is open."""
    async with serving(balancers=Balancers(["127.0.0.1"])) as bench:
        close_with_reset(socket.create_connection(bench.where))
        await until(lambda: "session." in log.getvalue())
    assert "session.gone" in log.getvalue()


async def test_whose_a_client_is_may_take_its_time_and_no_more_clients_than_there_are_places_are_asked_about() -> None:
    """A caller whose share is used up is refused by a worker, and does not hold a place meanwhile."""
    asked, answer = asyncio.Semaphore(0), asyncio.Event()

    async def caller_of(ends: Ends | None) -> Caller:
        asked.release()
        await answer.wait()
        return BOB

    async with serving(ConnectionCap(most=4, share=1), caller_of) as bench:
        with ExitStack() as crm:
            for _ in range(4):
                crm.enter_context(socket.create_connection(bench.where))
            first, second = bench.started
            for worker in (first, second):
                await worker.handed()
            for _ in range(2):
                await asked.acquire()
            assert bench.cap.count == 4
            fifth = crm.enter_context(socket.create_connection(bench.where))
            *_, no_place, _ = await first.told(HANDED)
            assert no_place == "4 connections wait for their login"
            assert asked.locked(), "nobody was asked about the fifth"
            fifth.close()
            answer.set()
            told = [(await worker.told(HANDED))[-2:] for worker in (second, first)]
            assert sorted(told) == [["", BOB.key], ["2 connections wait for their login, 1 more of user 1001", BOB.key]]
            await until(lambda: bench.cap.count == 3)


async def test_once_a_login_hung_on_whose_it_is_each_client_comes_with_that() -> None:
    """It lasts for a while: the same login of the same caller need not be asked about again."""
    it_matters = True

    async def who(_: Login, caller_of: AskCaller) -> Account:
        if it_matters:
            await caller_of()
        return ACCOUNT

    async def token_for(account: Account, *, refused: AccessToken | None = None) -> AccessToken:
        return TOKEN

    async def caller_of(_: Ends | None) -> Caller:
        return BOB

    clock = ManualClock()
    services = Services(who, token_for, Turns(), ConnectionCap(), caller_of, caller_at_once=lambda _: CAROL)
    async with serving(services=services, clock=clock) as bench:
        with ExitStack() as crm:

            async def login(worker: Worker) -> tuple[str, str | None]:
                """The caller that the worker is told, and the one for whom the login is right."""
                crm.enter_context(socket.create_connection(bench.where))
                _, conn, *_, whose = await worker.told(HANDED)
                worker.say("ask", 1, "login", conn, pack(LOGIN))
                return whose, (await worker.told("answer"))[-1][-1]

            first, second = bench.started
            assert await login(first) == ("", BOB.key), "nobody was asked about before"
            assert await login(second) == (CAROL.key, CAROL.key), "whose it is was known from the hand-over on"
            it_matters = False
            assert await login(first) == (CAROL.key, ""), "the same for all"
            clock.advance(CALLER_SECONDS + 1)
            assert await login(second) == ("", "")


async def test_whose_a_client_is_is_asked_again_until_a_user_is_known() -> None:
    nobody = Caller(unknown="the system did not answer")
    answers, found = [nobody, BOB], list[Caller]()

    async def caller_of(_: Ends | None) -> Caller:
        return answers.pop(0)

    async def who(_: Login, caller: AskCaller) -> Account:
        found.append(await caller())
        raise BridgeError("enough")

    async with serving(services=Services(who, never, Turns(), ConnectionCap(), caller_of)) as bench:
        with socket.create_connection(bench.where):
            worker = bench.started[0]
            conn = await worker.handed()
            for number in (1, 2, 3):
                worker.say("ask", number, "login", conn, pack(LOGIN))
                await worker.told("problem")
    assert found == [nobody, BOB, BOB]


async def test_who_has_gone_before_the_system_answers_is_not_whoever_has_his_port_since() -> None:
    system, found = SlowSystem(CAROL), list[Caller]()

    async def who(_: Login, caller: AskCaller) -> Account:
        found.append(await caller())
        raise BridgeError("enough")

    async with serving(services=Services(who, never, Turns(), ConnectionCap(), system.caller_of)) as bench:
        crm = socket.create_connection(bench.where)
        conn = await bench.started[0].handed()
        bench.started[0].say("ask", 1, "login", conn, pack(LOGIN))
        await system.asked.wait()
        close_with_reset(crm)
        system.answer.set()
        await until(lambda: bool(found))
    assert found == [GONE]


async def test_workers_forget_a_port_that_is_closed_and_those_to_come_do_not_hear_of_it() -> None:
    async with serving() as bench:
        first, second = bench.started
        its_own = unpack(Port, (await first.told("port"))[1]).number
        ports = list[int]()
        for number in (1144, 1145):
            configured = ConfiguredListener(Protocol.IMAP, ListenAddress(address=f"127.0.0.1:{number}"))
            welcome = bench.pool.serving(configured, None, None)
            bench.pool.closed(welcome)
            opened, closed = await first.told("port"), await first.told("closed")
            ports.append(unpack(Port, opened[1]).number)
            assert closed[1:] == ports[-1:]
        bench.pool.serving(configured, None, None)
        ports.append(unpack(Port, (await first.told("port"))[1]).number)
        assert len({its_own, *ports}) == 4, "no worker takes one for another"
        second.theirs.close()
        await until(lambda: len(bench.started) == 3)
        third = bench.started[2]
        told = [unpack(Port, (await third.told("port"))[1]).number for _ in range(2)]
        assert told == [its_own, ports[-1]]


async def test_whom_no_worker_could_take_is_told_to_come_again_and_frees_its_place() -> None:
    async with serving() as bench:
        with socket.create_connection(bench.where) as crm:
            crm.setblocking(False)
            conn = await bench.started[0].handed()
            bench.started[0].say("lost", conn)
            said = await asyncio.get_running_loop().sock_recv(crm, 1000)
            assert said == b"* BYE [UNAVAILABLE] Too many connections. Try again later.\r\n"
            assert await asyncio.get_running_loop().sock_recv(crm, 1000) == b""
            await until(lambda: (bench.cap.count, bench.listener.sessions) == (0, 0))


@pytest.mark.parametrize("origin", [Ends(("192.0.2.7", 40001), ("", 0)), None])
def test_behind_a_balancer_the_socket_tells_nothing_of_the_client(origin: Ends | None) -> None:
    """Otherwise it would pass for a program of the user who runs the balancer on this machine."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as crm:
        accepted, peer = server.accept()
        with accepted:
            direct = Client("imap-1", 1, "", accepted)
            assert direct.ends == Ends(peer, server.getsockname()) == Ends(crm.getsockname(), crm.getpeername())
            assert Client("imap-1", 1, "", accepted, is_direct=False, origin=origin).ends == origin


async def test_who_comes_in_the_moment_of_a_workers_end_goes_to_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker's end is known, but the pool has not removed it yet."""
    clients: list[socket.socket] = []
    lose = RunningWorker.lose

    def and_somebody_comes(worker: RunningWorker) -> None:
        lose(worker)
        if not clients:
            clients.append(socket.create_connection(bench.where))

    monkeypatch.setattr(RunningWorker, "lose", and_somebody_comes)
    async with serving() as bench:
        first, second = bench.started
        with socket.create_connection(bench.where), socket.create_connection(bench.where):
            await first.handed()
            await second.handed()
            first.theirs.close()
            async with asyncio.timeout(60):
                await second.handed()
            clients[0].close()


async def test_a_worker_that_makes_no_sense_is_left_and_its_sessions_end() -> None:
    async with serving() as bench:
        first, second = bench.started
        with socket.create_connection(bench.where) as client, socket.create_connection(bench.where):
            await first.handed()
            await second.handed()
            first.say("news", [["no name"]], [], {}, [])
            await until(lambda: (bench.cap.count, bench.listener.sessions) == (1, 1))
            client.setblocking(False)
            assert await asyncio.get_running_loop().sock_recv(client, 1) == b""


async def test_a_worker_that_dies_gives_back_its_mailboxes_turns_and_another_is_started() -> None:
    """Otherwise the mailbox would stay full, and the pool would wait for the end of this turn for ever."""
    async with serving() as bench, asyncio.timeout(60):
        first, second = bench.started
        first.say("ask", 1, "turn", "imap", ACCOUNT.address, 1)
        await first.told("answer")
        second.say("ask", 1, "turn", "imap", ACCOUNT.address, 1)
        first.theirs.close()
        await second.told("answer")
        await until(lambda: len(bench.started) == 3)


@pytest.mark.parametrize("is_updated", [True, False])
async def test_a_worker_that_dies_is_an_updates_only_after_one_and_before_it_is_ready(
    monkeypatch: pytest.MonkeyPatch, log: io.StringIO, is_updated: bool
) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.0)
    if is_updated:
        monkeypatch.setattr(shortage, "_STARTED_FROM", None)
    async with serving() as bench:
        bench.started[0].theirs.close()
        await until(lambda: len(bench.started) == 3)
        assert "worker.not_started" not in log.getvalue(), "it was ready"
        bench.started[2].theirs.close()
        await until(lambda: len(bench.started) == 4)
    assert ("worker.not_started" in log.getvalue()) is is_updated


@pytest.mark.parametrize("is_there", [True, False])
async def test_a_worker_gets_no_token_where_nobody_has_logged_in(is_there: bool) -> None:
    """Not even if somebody has taken over the worker."""
    async with serving() as bench:
        first, _ = bench.started
        with socket.create_connection(bench.where):
            conn = await first.handed()
            first.say(
                "ask", 7, "token", conn if is_there else "imap-unknown", pack(AccessToken(Secret("old"), 2.0, 1.0))
            )
            kind, number, problem = await first.told("answer", "problem")
            assert (kind, number, problem["error"]) == ("problem", 7, "PeerGone")
            assert problem["text"] == ("nobody has logged in there" if is_there else "that client has gone")


async def run_until(enough: asyncio.Event, pool: Pool) -> None:
    async with asyncio.TaskGroup() as group:
        keeping = group.create_task(pool.run())
        await enough.wait()
        keeping.cancel()


async def test_a_worker_that_does_not_start_is_tried_less_and_less(
    monkeypatch: pytest.MonkeyPatch, log: io.StringIO
) -> None:
    sleep, pauses, enough = asyncio.sleep, list[float](), asyncio.Event()

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 9:
            enough.set()
        await sleep(0)

    async def start() -> Process:
        raise BridgeError("no process more")

    monkeypatch.setattr(asyncio, "sleep", pause)
    pool = Pool(1, start, Services(never, never, Turns(), ConnectionCap()), settings, SystemClock())
    await run_until(enough, pool)
    assert pauses[:9] == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert log.getvalue().count("no process more") >= 9


async def test_a_worker_that_has_served_for_a_while_is_started_again_at_once(
    monkeypatch: pytest.MonkeyPatch, log: io.StringIO
) -> None:
    """However often that is: something that kills each worker it reaches must not keep all of them away. A worker whose
    start takes long and then fails has not served."""
    sleep, loop = asyncio.sleep, asyncio.get_running_loop()
    pauses, enough = list[float](), asyncio.Event()
    lives = [(0.0, True), (6.0, False), (0.0, True), (6.0, True), (6.0, True), (4.0, True), (0.0, False)]
    passed, ready = 0.0, 0

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    async def live(worker: Worker, seconds: float, *, is_ready: bool) -> None:
        nonlocal passed, ready
        if is_ready:
            ready += 1
            worker.say("ready", 100)
            while log.getvalue().count("worker.up") < ready:
                await sleep(0)
        passed += seconds
        worker.theirs.close()

    async def start() -> Process:
        if not lives:
            enough.set()
            await asyncio.Event().wait()
        worker, (seconds, is_ready) = Worker(), lives.pop(0)
        group.create_task(live(worker, seconds, is_ready=is_ready))
        return worker

    time = loop.time
    monkeypatch.setattr(loop, "time", lambda: time() + passed)
    monkeypatch.setattr(asyncio, "sleep", pause)
    pool = Pool(1, start, Services(never, never, Turns(), ConnectionCap()), settings, ManualClock())
    async with asyncio.TaskGroup() as group:
        await run_until(enough, pool)
    assert pauses == [0.5, 1, 2, 0.5, 0.5, 1, 2]


async def test_a_worker_that_asks_what_nobody_knows_is_left() -> None:
    async with serving() as bench:
        first, _ = bench.started
        with socket.create_connection(bench.where):
            conn = await first.handed()
            first.say("ask", 1, "grant", conn)
            await until(lambda: bench.listener.sessions == 0)


async def test_who_waits_for_a_worker_is_sent_away_at_a_stop(log: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither made to wait for the five seconds that sessions have and then cut off without a word, nor told "full"."""
    monkeypatch.setattr("bridge.relay.listener.DRAIN_SECONDS", 3600)
    bench = Bench()
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        keeping = group.create_task(bench.pool.run())
        group.create_task(bench.listener.run())
        while len(bench.started) < 2:
            await asyncio.sleep(0)
        with socket.create_connection(bench.where) as crm:
            crm.setblocking(False)
            await until(lambda: bench.listener.sessions == 1)
            bench.services.stopping.begin()
            bench.listener.stop()
            said = await asyncio.get_running_loop().sock_recv(crm, 1000)
            assert said == b"* BYE [UNAVAILABLE] mail-bridge is being stopped. Try again later.\r\n"
        for worker in bench.started:
            worker.theirs.close()
        keeping.cancel()
    assert bench.cap.count == 0
    assert "worker.missing" not in log.getvalue()
