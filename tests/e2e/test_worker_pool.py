"""Limits shared by all workers: real worker processes and a real mail server, with the bridge's services faked."""

from __future__ import annotations

import asyncio
import imaplib
import io
import os
import select
import signal
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from bridge.config.addresses import ListenAddress
from bridge.config.diff import ConfiguredListener
from bridge.errors import LoginRefused
from bridge.host.workers import start_worker
from bridge.model import AccessToken, Account, Caller, Endpoint, Ends, Login, Protocol, TlsMode
from bridge.notices import Forgotten
from bridge.relay import listener as listener_module
from bridge.relay.limits import ConnectionCap, Turns
from bridge.relay.listener import Listener
from bridge.relay.session import AskCaller, Services
from bridge.relay.stopping import Stopping
from bridge.secret import Secret
from bridge.workers.pool import Pool
from bridge.workers.process import Process
from bridge.workers.running import LOOK_SECONDS, SILENCES
from bridge.workers.wire import WorkerSettings
from tests.clocks import ManualClock
from tests.e2e.conftest import ALICE, World
from tests.e2e.logins import to_the_end

pytestmark = pytest.mark.servers

PASSWORD = Secret(b"a local password")


class Desk:
    """Answers the workers in place of the bridge, and counts how often it is asked."""

    def __init__(self, world: World, connections: int | None) -> None:
        endpoint = Endpoint(
            "localhost", world.dovecot.imap_tls, TlsMode.IMPLICIT, str(world.authority.ca_file), connections=connections
        )
        self._account = Account(ALICE, "it", ALICE, {Protocol.IMAP: endpoint})
        self._good = self.token = _token(world.provider.issue(ALICE))
        self.refused: list[AccessToken] = []
        self.asked = 0
        self.cap = ConnectionCap()
        self.pids: list[int] = []
        """Process ids of all workers that were started."""
        self.pool: Pool | None = None
        self.listener: Listener | None = None
        self.clock = ManualClock()
        self.stopping = Stopping()

    def stop(self) -> None:
        """Stop as the bridge does."""
        assert self.listener is not None
        self.stopping.begin()
        self.listener.stop()

    async def who(self, login: Login, caller_of: AskCaller) -> Account:
        self.asked += 1
        if login.password != PASSWORD:
            raise LoginRefused("wrong")
        return self._account

    async def caller_of(self, ends: Ends | None) -> Caller:
        raise AssertionError("an ordinary login asks nobody")

    async def token_for(self, account: Account, *, refused: AccessToken | None = None) -> AccessToken:
        if refused is not None:
            self.refused.append(refused)
            return self._good
        return self.token


class Curious(Desk):
    """PendingLogins who is at the other end, as soon as the test lets it."""

    def __init__(self, world: World) -> None:
        super().__init__(world, connections=None)
        self.arrived, self.look = asyncio.Event(), asyncio.Event()
        self.seen: asyncio.Queue[Ends | None] = asyncio.Queue()

    async def who(self, login: Login, caller_of: AskCaller) -> Account:
        self.arrived.set()
        await self.look.wait()
        await caller_of()
        return await super().who(login, caller_of)

    async def caller_of(self, ends: Ends | None) -> Caller:
        self.seen.put_nowait(ends)
        return Caller("alice", "1000")


def _token(value: str, age: float = 0.0) -> AccessToken:
    return AccessToken(Secret(value), time.time() - age + 3600, time.time() - age)


class Waiting(Turns):
    """Tells the test when somebody asks for a turn."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: asyncio.Queue[None] = asyncio.Queue()

    def turn(self, key: tuple[str, str], most: int | None):  # type: ignore[no-untyped-def]
        self.asked.put_nowait(None)
        return super().turn(key, most)


@asynccontextmanager
async def serving(desk: Desk, turns: Turns) -> AsyncIterator[tuple[str, int]]:
    async def start() -> Process:
        assert start_worker is not None
        process = await start_worker()
        desk.pids.append(process.pid)
        return process

    services = Services(desk.who, desk.token_for, turns, desk.cap, desk.caller_of, stopping=desk.stopping)
    pool = Pool(2, start, services, lambda: WorkerSettings("info", "text", "", {}), desk.clock)
    desk.pool = pool
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    where = sock.getsockname()
    welcome = pool.serving(ConfiguredListener(Protocol.IMAP, ListenAddress(address="127.0.0.1:1143")), None, None)
    desk.listener = listener = Listener(Protocol.IMAP, [sock], welcome)
    async with asyncio.TaskGroup() as group:
        keeping = group.create_task(pool.run())
        accepting = group.create_task(listener.run())
        try:
            yield where
        finally:
            listener.stop()
            await accepting
            keeping.cancel()


def logged_in(where: tuple[str, int], password: str = PASSWORD.reveal().decode()) -> imaplib.IMAP4:
    session = imaplib.IMAP4(*where, timeout=60)
    try:
        session.login(ALICE, password)
    except imaplib.IMAP4.error:
        session.shutdown()
        raise
    return session


async def test_a_mailboxs_upstream_connections_are_counted_over_all_workers(world: World) -> None:
    turns = Waiting()
    async with serving(Desk(world, connections=1), turns) as where:
        first = await asyncio.to_thread(logged_in, where)
        await turns.asked.get()
        waiting = asyncio.get_running_loop().run_in_executor(None, logged_in, where)  # served by the other worker
        await turns.asked.get()
        assert not waiting.done()
        assert (await asyncio.to_thread(first.noop))[0] == "OK"
        await asyncio.to_thread(first.logout)
        second = await waiting
        assert (await asyncio.to_thread(second.noop))[0] == "OK"
        await asyncio.to_thread(second.logout)


async def test_a_client_that_gives_up_waiting_gives_its_turn_to_the_next(world: World) -> None:
    turns = Waiting()
    async with serving(Desk(world, connections=1), turns) as where:
        first = await asyncio.to_thread(logged_in, where)
        await turns.asked.get()
        with socket.create_connection(where) as impatient:
            impatient.sendall(f'1 LOGIN {ALICE} "{PASSWORD.reveal().decode()}"\r\n'.encode())
            await turns.asked.get()
        await asyncio.to_thread(first.logout)
        third = await asyncio.to_thread(logged_in, where)
        assert (await asyncio.to_thread(third.noop))[0] == "OK"
        await asyncio.to_thread(third.logout)


async def test_a_login_is_asked_about_once_and_a_wrong_one_each_time(world: World) -> None:
    desk = Desk(world, connections=None)
    async with serving(desk, Turns()) as where:
        for _ in range(6):
            await asyncio.to_thread((await asyncio.to_thread(logged_in, where)).logout)
        assert desk.asked <= 2  # once for each worker
        before = desk.asked
        for _ in range(4):
            with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
                await asyncio.to_thread(logged_in, where, "another one")
        assert desk.asked == before + 4


async def test_a_token_that_the_mail_server_refuses_is_replaced_also_where_the_login_is_remembered(
    world: World,
) -> None:
    desk = Desk(world, connections=None)
    desk.token = stale = _token("CANARY-nobodys")
    async with serving(desk, Turns()) as where:
        for number in range(1, 5):
            session = await asyncio.to_thread(logged_in, where)
            assert (await asyncio.to_thread(session.noop))[0] == "OK"
            await asyncio.to_thread(session.logout)
            assert desk.refused == [stale] * number


async def test_a_login_is_asked_about_again_once_the_bridge_has_told_of_its_account(world: World) -> None:
    desk = Desk(world, connections=None)
    async with serving(desk, Turns()) as where:
        for notice, is_about_it in ((Forgotten("bob@example.com"), False), (Forgotten(ALICE), True)):
            for _ in range(4):
                await asyncio.to_thread((await asyncio.to_thread(logged_in, where)).logout)
            before = desk.asked
            assert desk.pool is not None
            desk.pool.take(notice)
            await asyncio.to_thread((await asyncio.to_thread(logged_in, where)).logout)
            assert (desk.asked > before) is is_about_it


async def test_who_is_at_the_other_end_is_looked_up_there_and_one_who_has_left_is_nobody(world: World) -> None:
    """Otherwise another client that has his port by then would be taken for him."""
    desk = Curious(world)
    async with serving(desk, Turns()) as where:
        for has_left in (False, True):
            desk.arrived.clear()
            desk.look.clear()
            with socket.create_connection(where, timeout=60) as sock:
                name = sock.getsockname()
                sock.sendall(f'1 LOGIN {ALICE} "{PASSWORD.reveal().decode()}"\r\n'.encode())
                await desk.arrived.wait()
                if has_left:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close() sends RST
                    sock.close()
                desk.look.set()
                assert await desk.seen.get() == (None if has_left else Ends(name, where))


async def test_what_hung_on_the_caller_is_asked_about_each_time(world: World) -> None:
    desk = Curious(world)
    desk.look.set()
    async with serving(desk, Turns()) as where:
        for _ in range(4):
            await asyncio.to_thread((await asyncio.to_thread(logged_in, where)).logout)
        assert desk.asked == 4


async def test_a_token_that_is_about_to_end_is_asked_for_again_each_time(world: World) -> None:
    """While the provider cannot be reached, the bridge gives out a token with less than half of its life left."""
    desk = Desk(world, connections=None)
    desk.token = _token(desk.token.value.reveal(), age=2000)
    async with serving(desk, Turns()) as where:
        for _ in range(4):
            await asyncio.to_thread((await asyncio.to_thread(logged_in, where)).logout)
        assert desk.asked == 4


async def greeted(where: tuple[str, int], count: int) -> list[socket.socket]:
    """Mail clients that do not log in."""
    clients = [await asyncio.to_thread(socket.create_connection, where, 60) for _ in range(count)]
    for client in clients:
        assert (await asyncio.to_thread(client.recv, 200)).startswith(b"* OK")
    return clients


async def turns_until(is_true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not is_true():
            await asyncio.sleep(0.01)


async def test_what_a_killed_worker_had_is_given_back_and_its_clients_hear_the_end(world: World) -> None:
    desk = Desk(world, connections=None)
    async with serving(desk, Turns()) as where:
        clients = await greeted(where, 6)
        assert desk.cap.count == 6
        assert desk.listener is not None
        os.kill(desk.pids[0], signal.SIGKILL)
        await turns_until(lambda: desk.cap.count == 3)
        await turns_until(lambda: desk.listener is not None and desk.listener.sessions == 3)

        def readable() -> list[socket.socket]:
            return select.select(clients, [], [], 0)[0]

        await turns_until(lambda: len(readable()) == 3)  # a dying process closes its link before its other descriptors
        assert [client.recv(1) for client in readable()] == [b""] * 3, "our own descriptors are closed, too"
        for client in clients:
            client.close()
        await turns_until(lambda: desk.cap.count == 0 and desk.listener is not None and desk.listener.sessions == 0)


async def looks(desk: Desk, times: int, silent: int) -> None:
    """The bridge asks its workers so many times whether they are alive; all but the worker `silent` always answer."""
    assert desk.pool is not None
    others = [worker for worker in desk.pool._workers if worker.process.pid != silent]

    def have_answered() -> bool:
        return not any(worker.silences for worker in others)

    await turns_until(have_answered)
    for _ in range(times):
        await desk.clock.until_asleep(2)
        desk.clock.advance(LOOK_SECONDS)
        await desk.clock.until_asleep(2)
        await turns_until(have_answered)


async def test_a_worker_that_stands_still_gets_no_more_clients_and_is_replaced(world: World, log: io.StringIO) -> None:
    desk = Desk(world, connections=None)
    async with serving(desk, Turns()) as where:
        clients = await greeted(where, 2)  # one at each
        still, other = desk.pids
        os.kill(still, signal.SIGSTOP)
        await looks(desk, 2, silent=still)
        clients += await greeted(where, 3)  # all by the other worker, since the stopped one cannot greet
        await looks(desk, SILENCES - 3, silent=still)
        assert "worker.stands_still" not in log.getvalue()
        await desk.clock.until_asleep(2)
        desk.clock.advance(LOOK_SECONDS)
        await turns_until(lambda: len(desk.pids) == 3)
        assert f'"pid": {still}, "event": "worker.stands_still"' in log.getvalue()
        ended = [client for client in clients if select.select([client], [], [], 0)[0]]
        assert [client.recv(1) for client in ended] == [b""], "those of the other one go on"
        os.kill(other, 0)
        await asyncio.to_thread((await asyncio.to_thread(logged_in, where)).logout)
        for client in clients:
            client.close()


async def test_a_worker_that_stood_still_for_a_while_goes_on_where_it_was(world: World, log: io.StringIO) -> None:
    desk = Desk(world, connections=None)
    async with serving(desk, Turns()) as where:
        clients = await greeted(where, 2)
        still = desk.pids[0]
        for _ in range(2):  # a silence that has ended does not count towards the next one
            os.kill(still, signal.SIGSTOP)
            await looks(desk, SILENCES - 1, silent=still)
            os.kill(still, signal.SIGCONT)
            await looks(desk, 1, silent=0)
        for client in clients:
            await asyncio.to_thread(client.sendall, b"1 NOOP\r\n")
            assert (await asyncio.to_thread(client.recv, 200)).startswith(b"1 OK")
            client.close()
        assert len(desk.pids) == 2
        assert "worker.stands_still" not in log.getvalue()


async def test_a_worker_that_serves_nobody_is_left_in_peace(world: World, log: io.StringIO) -> None:
    desk = Desk(world, connections=None)
    async with serving(desk, Turns()) as where:
        await asyncio.to_thread((await asyncio.to_thread(logged_in, where)).logout)
        assert desk.listener is not None
        listener = desk.listener
        await turns_until(lambda: listener.sessions == 0)
        for pid in desk.pids:
            os.kill(pid, signal.SIGSTOP)
        await looks(desk, SILENCES + 1, silent=0)
        for pid in desk.pids:
            os.kill(pid, signal.SIGCONT)
        await asyncio.to_thread((await asyncio.to_thread(logged_in, where)).logout)
        assert len(desk.pids) == 2
        assert "worker.stands_still" not in log.getvalue()


LATER = b"* BYE [UNAVAILABLE] mail-bridge is being stopped. Try again later.\r\n"


async def test_clients_that_say_nothing_are_sent_away_when_the_bridge_stops(world: World) -> None:
    desk = Desk(world, connections=None)
    async with serving(desk, Turns()) as where:
        clients = await greeted(where, 4)
        desk.stop()
        for client in clients:
            with client:
                assert await asyncio.to_thread(to_the_end, client) == LATER
        await turns_until(lambda: desk.cap.count == 0)


async def test_a_login_that_takes_longer_than_the_stop_is_told_to_come_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener_module, "DRAIN_SECONDS", 0.01)
    desk = Curious(world)
    async with serving(desk, Turns()) as where:
        (client,) = await greeted(where, 1)
        with client:
            client.sendall(f'1 LOGIN {ALICE} "{PASSWORD.reveal().decode()}"\r\n'.encode())
            await desk.arrived.wait()
            desk.stop()
            assert await asyncio.to_thread(to_the_end, client) == LATER
