"""How a listening socket accepts clients, on loops that watch descriptors and on loops that cannot."""

from __future__ import annotations

import asyncio
import errno
import gc
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from typing import Any

import pytest

from bridge.relay import accepting
from bridge.relay.accepting import GROUP, WAITING, clients_of
from tests.host.limits import out_of_descriptors
from tests.relay.sockets import close_with_reset

WAYS = ["watches", "gathers", "does not watch"]


@pytest.fixture(params=WAYS if sys.platform != "win32" else WAYS[-1:])
def loop_that(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accepting, "has_add_reader", lambda _: request.param != "does not watch")
    if request.param == "gathers":
        monkeypatch.setattr(accepting, "_InTurns", partial(accepting._Gathering, gather=0.01))


@asynccontextmanager
async def accepted(
    kind: type[socket.socket] = socket.socket,
) -> AsyncIterator[tuple[tuple[str, int], asyncio.Queue[socket.socket], asyncio.Queue[OSError]]]:
    clients: asyncio.Queue[socket.socket] = asyncio.Queue()
    troubles: asyncio.Queue[OSError] = asyncio.Queue()

    def take(client: socket.socket, address: Any) -> None:
        assert client.getpeername() == address
        clients.put_nowait(client)

    with kind(fileno=socket.create_server(("127.0.0.1", 0)).detach()) as sock:
        sock.setblocking(False)
        async with clients_of(sock, take, troubles.put_nowait):
            yield sock.getsockname(), clients, troubles


@pytest.mark.usefixtures("loop_that")
async def test_each_client_is_taken_once_and_does_not_block() -> None:
    async with accepted() as (where, clients, _):
        with ExitStack() as stack:
            ours = [stack.enter_context(socket.create_connection(where)) for _ in range(20)]
            theirs = [stack.enter_context(await clients.get()) for _ in ours]
            assert {client.getpeername() for client in theirs} == {client.getsockname() for client in ours}
            assert not any(client.getblocking() for client in theirs)
        assert clients.empty()


@pytest.mark.usefixtures("loop_that")
@pytest.mark.skipif(sys.platform == "win32", reason="no limit on descriptors")
async def test_where_no_descriptor_is_left_it_says_so_and_takes_the_client_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(accepting, "PAUSE_SECONDS", 0.01)
    async with accepted() as (where, clients, troubles):
        with socket.create_connection(where) as ours:
            with out_of_descriptors():
                assert "open files" in str(await troubles.get())
                assert clients.empty()
            with await clients.get() as theirs:
                assert theirs.getpeername() == ours.getsockname()


@pytest.mark.usefixtures("loop_that")
@pytest.mark.skipif(sys.platform == "win32", reason="no limit on descriptors")
async def test_meanwhile_it_does_not_try_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accepting, "PAUSE_SECONDS", 3600)
    async with accepted() as (where, clients, troubles):
        with socket.create_connection(where), out_of_descriptors():
            await troubles.get()
            for _ in range(20):  # turns of the loop
                await asyncio.sleep(0)
            assert troubles.empty()
            assert clients.empty()


class WindowsError(OSError):
    """An error as Windows raises it: errno is EINVAL, and only `winerror` tells the cause."""

    def __init__(self, winerror: int) -> None:
        super().__init__(errno.EINVAL, "what Windows says")
        self.winerror = winerror


@pytest.mark.parametrize(
    "problem", [WindowsError(64), OSError(errno.ENOTCONN, "gone"), ConnectionResetError(errno.ECONNRESET, "gone")]
)
async def test_what_windows_says_of_one_who_has_left_delays_nobody(
    problem: OSError, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _is_taken_after(problem, monkeypatch)


async def test_what_windows_says_of_a_copy_of_a_known_socket_delays_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    await _is_taken_after(WindowsError(87), monkeypatch)


async def _is_taken_after(problem: OSError, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    problems, sock_accept = [problem], loop.sock_accept

    async def accept(sock: socket.socket) -> tuple[socket.socket, Any]:
        if problems:
            raise problems.pop()
        return await sock_accept(sock)

    monkeypatch.setattr(accepting, "has_add_reader", lambda _: False)
    monkeypatch.setattr(accepting, "PAUSE_SECONDS", 3600)
    monkeypatch.setattr(loop, "sock_accept", accept)
    async with accepted() as (where, clients, troubles):
        with socket.create_connection(where) as ours:
            async with asyncio.timeout(10):
                with await clients.get() as theirs:
                    assert theirs.getpeername() == ours.getsockname()
        assert troubles.empty()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # asyncio leaves it open on Windows
async def test_one_who_has_left_before_being_taken_delays_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same with a client that really leaves; Windows and Wine each report this in their own way."""
    monkeypatch.setattr(accepting, "PAUSE_SECONDS", 3600)
    clients: asyncio.Queue[socket.socket] = asyncio.Queue()
    troubles: list[OSError] = []
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        close_with_reset(socket.create_connection(sock.getsockname()))
        async with clients_of(sock, lambda client, _: clients.put_nowait(client), troubles.append):
            with socket.create_connection(sock.getsockname()) as ours:
                async with asyncio.timeout(10):
                    while not _is_of(await clients.get(), ours):
                        pass
    assert not troubles
    gc.collect()


class OfXnu(socket.socket):
    """For a client that has left, it returns a socket without an address, as macOS does; others report ECONNABORTED."""

    def accept(self) -> tuple[socket.socket, Any]:
        client, address = super().accept()
        try:
            client.getpeername()
        except OSError:
            return client, None
        return client, address


@pytest.mark.skipif(sys.platform == "win32", reason="nothing is watched there")
@pytest.mark.parametrize("gather", [0.0, 1.0])
async def test_one_who_comes_without_an_address_has_left(monkeypatch: pytest.MonkeyPatch, gather: float) -> None:
    """Also in the middle of a crowd."""
    loop, taken, troubles, ours = asyncio.get_running_loop(), list[int](), list[OSError](), list[socket.socket]()
    tracebacks = list[Any]()
    loop.set_exception_handler(lambda _, context: tracebacks.append(context))
    seconds = 1000.0

    async def come(*, is_gone: bool = False) -> None:
        nonlocal seconds
        ours.append(stack.enter_context(socket.create_connection(sock.getsockname())))
        if is_gone:
            close_with_reset(ours.pop())
        seconds += 0.6
        for _ in range(10):  # turns of the loop
            await asyncio.sleep(0)

    with ExitStack() as stack:
        sock = stack.enter_context(OfXnu(fileno=socket.create_server(("127.0.0.1", 0)).detach()))
        sock.setblocking(False)
        stack.enter_context(pytest.MonkeyPatch.context()).setattr(loop, "time", lambda: seconds)

        def take(client: socket.socket, address: Any) -> None:
            client.close()
            taken.append(address[1])  # as Listener does: an address of None would be an error

        async with clients_of(sock, take, troubles.append, gather):
            for is_gone in (True, False, False, True, True, False, True, False):
                await come(is_gone=is_gone)
            for _ in range(3):
                await come()
        assert taken == [client.getsockname()[1] for client in ours][: len(taken)]
        assert len(taken) >= len(ours) - 1, "the last may be waited for"
        assert not troubles
        assert not tracebacks


async def test_a_copy_of_a_socket_takes_clients_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when Ports opens a port anew in the same place; Windows and Wine then report an error every time."""
    monkeypatch.setattr(accepting, "PAUSE_SECONDS", 3600)
    clients: asyncio.Queue[socket.socket] = asyncio.Queue()
    troubles: list[OSError] = []

    async def take_one(listening: socket.socket) -> None:
        listening.setblocking(False)
        async with clients_of(listening, lambda client, _: clients.put_nowait(client), troubles.append):
            with socket.create_connection(listening.getsockname()) as ours:
                async with asyncio.timeout(10):
                    assert _is_of(await clients.get(), ours)

    with socket.create_server(("127.0.0.1", 0)) as sock:
        await take_one(sock)
        with sock.dup() as copy:
            await take_one(copy)
    assert not troubles


def _is_of(theirs: socket.socket, ours: socket.socket) -> bool:
    with theirs:
        try:
            return bool(theirs.getpeername() == ours.getsockname())
        except OSError:
            return False


class Scarce(socket.socket):
    """A listening socket of a process that can hold only `left` more descriptors."""

    left = 1000

    def accept(self) -> tuple[socket.socket, Any]:
        if not self.left:
            raise OSError(errno.EMFILE, "no descriptor is left")
        accepted = super().accept()
        self.left -= 1
        return accepted


class NoneLeft(Scarce):
    left = 0


@pytest.mark.usefixtures("loop_that")
@pytest.mark.skipif(sys.platform == "win32", reason="no limit on descriptors")
async def test_a_port_that_closes_while_it_waits_for_a_descriptor_is_not_looked_at_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(accepting, "PAUSE_SECONDS", 0.0)
    bugs: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: bugs.append(context))
    async with accepted(NoneLeft) as (where, _, troubles):
        with socket.create_connection(where):
            await troubles.get()
    for _ in range(10):  # turns of the loop
        await asyncio.sleep(0)
    assert not bugs


class Gathering:
    """A port whose clients are gathered for a second; the test says what time it is, and how far its workers are."""

    def __init__(self, sock: Scarce, stack: ExitStack) -> None:
        self.sock = sock
        self.taken: list[socket.socket] = []
        self.troubles: list[OSError] = []
        self.seconds = 1000.0
        self.paced: list[Callable[[], None]] = []
        self.mine: Any = None
        """The address of a client that is not the others' caller."""
        self._stack = stack

    async def come(self, count: int, after: float = 0.0) -> int:
        """So many connect, `after` seconds have passed. Returns: how many have been taken since the beginning."""
        self.seconds += after
        for _ in range(count):
            self._stack.enter_context(socket.create_connection(self.sock.getsockname()))
        for _ in range(10):  # turns of the loop
            await asyncio.sleep(0)
        return len(self.taken)


@asynccontextmanager
async def gathering() -> AsyncIterator[Gathering]:
    with ExitStack() as stack:
        sock = stack.enter_context(Scarce(fileno=socket.create_server(("127.0.0.1", 0), backlog=256).detach()))
        sock.setblocking(False)
        it = Gathering(sock, stack)
        time = stack.enter_context(pytest.MonkeyPatch.context())
        time.setattr(asyncio.get_running_loop(), "time", lambda: it.seconds)

        def whose(client: socket.socket) -> str:
            return "mine" if client.getpeername() == it.mine else "another"

        def take(client: socket.socket, _: Any) -> None:
            it.taken.append(client)

        async with clients_of(sock, take, it.troubles.append, gather=1.0, whose=whose, pace=it.paced.append):
            yield it
        for client in it.taken:
            client.close()


@pytest.mark.skipif(sys.platform == "win32", reason="nothing is gathered there")
@pytest.mark.parametrize("left", [0, 1, 1000])
async def test_a_group_is_taken_together_but_for_the_first_and_then_it_is_as_before(
    monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    monkeypatch.setattr(accepting, "PAUSE_SECONDS", 100.0)
    async with gathering() as it:
        assert await it.come(1) == 1, "the first does not wait"
        assert await it.come(1, after=2) == 2, "nor who comes alone"
        assert await it.come(1) == 3, "nor the one by whom it is seen that it is a group"
        assert await it.come(12) == 3
        if left < 8:
            it.sock.left = left
            for _ in range(3):
                assert await it.come(0, after=1.1) == 3 + left
            assert len(it.troubles) == 1, "it does not try again and again"
            it.sock.left = 1000
            assert await it.come(0, after=100) == 5 + left, "as a group begins"
        assert await it.come(0, after=1.1) == 15
        assert await it.come(0, after=1.1) == 15
        assert await it.come(1, after=1.1) == 16, "afterwards it is watched again"
        assert not it.paced, "nobody who has handed over so few is asked how far they are"


@pytest.mark.skipif(sys.platform == "win32", reason="nothing is gathered there")
async def test_of_more_than_a_group_no_more_are_begun_than_are_under_way() -> None:
    """Or they would wait in the workers' queues, where nobody takes turns."""
    async with gathering() as it:
        assert await it.come(40) == 2
        assert await it.come(0, after=1.1) == 2 + GROUP
        assert await it.come(100) == 2 + GROUP
        assert len(it.paced) == 1, "whoever sets the pace is asked once for each group"
        for count in range(2, 9):
            it.paced.pop()()
            assert await it.come(0) == 2 + count * GROUP
        it.paced.pop()()
        assert await it.come(0) == 140
        assert not it.paced
        assert await it.come(1, after=2) == 140, "there may be more of them"
        it.paced.pop()()
        assert await it.come(0) == 141
        assert await it.come(1, after=2) == 142, "afterwards it is as before"
        assert not it.troubles


@pytest.mark.skipif(sys.platform == "win32", reason="nothing is gathered there")
async def test_a_port_that_is_closed_while_a_crowd_waits_is_not_watched_again() -> None:
    """Its number may be another socket's by the time when a worker has begun the last of the crowd."""
    async with gathering() as it:
        await it.come(150)
        assert await it.come(0, after=1.1) == 2 + GROUP
    assert len(it.taken) == 2 + GROUP + WAITING, "the rest is left to the kernel"
    it.paced.pop()()


@pytest.mark.skipif(sys.platform == "win32", reason="nothing is gathered there")
async def test_of_more_than_a_group_callers_take_turns() -> None:
    async with gathering() as it:
        await it.come(50)
        await it.come(0, after=1.1)
        with socket.create_connection(it.sock.getsockname()) as mine:
            it.mine = mine.getsockname()
            assert await it.come(0) == 2 + GROUP
            it.paced.pop()()
            assert await it.come(0) == 2 + 2 * GROUP
            assert it.mine in [client.getpeername() for client in it.taken]


@pytest.mark.skipif(sys.platform == "win32", reason="nothing is gathered there")
async def test_while_a_crowd_waits_those_who_have_hung_up_make_room_for_others() -> None:
    async with gathering() as it:
        await it.come(3)
        with ExitStack() as gone:
            for _ in range(GROUP + 150):
                gone.enter_context(socket.create_connection(it.sock.getsockname()))
        await it.come(0, after=1.1)
        for _ in range(3):
            await it.come(0)
        with socket.create_connection(it.sock.getsockname()) as mine:
            await it.come(0)
            before = len(it.taken)
            it.paced.pop()()
            await it.come(0)
            assert [client.getpeername() for client in it.taken[before:]] == [mine.getsockname()]


@pytest.mark.usefixtures("loop_that")
async def test_nobody_is_taken_after_the_end() -> None:
    async with accepted() as (where, clients, _):
        with socket.create_connection(where):
            (await clients.get()).close()
    assert clients.empty()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(where)


async def test_who_connects_in_the_moment_of_the_end_is_left_to_whoever_listens_next() -> None:
    taken: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        async with clients_of(sock, lambda client, _: taken.append(client), lambda _: None):
            waiting = socket.create_connection(sock.getsockname())
        for _ in range(5):  # turns of the loop
            await asyncio.sleep(0)
        assert taken == []
        with waiting, sock.accept()[0] as client:
            assert client.getpeername() == waiting.getsockname()
