"""The console is loaded for its first visitor: those who wait meanwhile are answered, the loop goes on, and a failure
stays small."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import os
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from bridge.host.sockets import bind
from bridge.relay.limits import console_cap
from bridge.secret import Secret
from bridge.ui.web import console_sockets
from bridge.ui.web.console_sockets import ConsoleSockets, answering_once_asked
from tests.consoles import Console
from tests.fakes_control import FakeControl
from tests.host.limits import out_of_descriptors
from tests.relay.sockets import tcp_pair
from tests.silent import no_thread
from tests.ui.web.conftest import TOKEN

Site = AbstractAsyncContextManager[None]


class Lazy:
    """A port of this machine, and a console for it that loads as slowly as a test wants."""

    def __init__(self, control: FakeControl) -> None:
        (sock,) = bind("127.0.0.1", 0, what="console")
        self.port: int = sock.getsockname()[1]
        self.sockets = ConsoleSockets([sock])
        self.may_load = threading.Event()
        self.may_load.set()
        self.is_loading = threading.Event()
        self.loaded_in: list[threading.Thread] = []
        self.problems: list[Exception] = []
        """The exception for each attempt that shall fail."""
        self._control = control

    def load(self) -> Site:
        self.is_loading.set()
        self.may_load.wait()
        self.loaded_in.append(threading.current_thread())
        if self.problems:
            raise self.problems.pop(0)
        hosts = frozenset({f"127.0.0.1:{self.port}"})
        return Console(self._control, admin_token=Secret(TOKEN), places=console_cap(), hosts=hosts).serving(
            self.sockets
        )

    async def come(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def ask(self) -> bytes:
        """One visitor, who sends a request at once. Returns: the whole answer; nothing after a reset."""
        reader, writer = await self.come()
        writer.write(self.request)
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""
        finally:
            writer.close()

    @property
    def request(self) -> bytes:
        return f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nConnection: close\r\n\r\n".encode()


@pytest.fixture
def lazy(control: FakeControl) -> Lazy:
    return Lazy(control)


@asynccontextmanager
async def opened(lazy: Lazy) -> AsyncIterator[None]:
    async with answering_once_asked(lazy.sockets, lazy.load):
        try:
            yield
        finally:
            lazy.may_load.set()  # otherwise a failing test would hang


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0.005)


async def test_nothing_is_loaded_until_somebody_comes_and_then_once(lazy: Lazy) -> None:
    async with opened(lazy):
        assert lazy.loaded_in == []
        for _ in range(2):
            assert (await lazy.ask()).startswith(b"HTTP/1.1 200 ")
        assert len(lazy.loaded_in) == 1
    with pytest.raises(ConnectionRefusedError):
        await lazy.come()


async def test_who_comes_while_it_is_loaded_is_answered_and_the_loop_goes_on(lazy: Lazy) -> None:
    lazy.may_load.clear()
    async with opened(lazy), asyncio.TaskGroup() as group:
        asking = [group.create_task(lazy.ask()) for _ in range(5)]
        reader, writer = await lazy.come()
        writer.write(lazy.request[:20])
        gone = (await lazy.come())[1]
        gone.write(lazy.request)
        gone.close()
        await until(lazy.is_loading.is_set)  # this loop runs on while the other thread waits
        assert not any(visitor.done() for visitor in asking)
        lazy.may_load.set()
        answers = await asyncio.gather(*asking)
        writer.write(lazy.request[20:])
        answers.append(await reader.read())
        writer.close()
    assert [(answer[:13], b"</html>" in answer) for answer in answers] == [(b"HTTP/1.1 200 ", True)] * 6
    assert [thread is threading.main_thread() for thread in lazy.loaded_in] == [False]


@pytest.mark.parametrize(("is_loaded", "is_over"), [(True, False), (False, True), (True, True)])
async def test_who_was_taken_just_before_it_is_loaded_or_over_does_not_wait_for_ever(
    lazy: Lazy, is_loaded: bool, is_over: bool
) -> None:
    """The event loop asks for a protocol in one turn, and calls its connection_made() in the next."""
    ours, accepted = tcp_pair()
    reader, writer = await asyncio.open_connection(sock=ours)
    writer.write(lazy.request)
    async with opened(lazy):
        late = lazy.sockets.greeted()
        if is_loaded:
            assert (await lazy.ask()).startswith(b"HTTP/1.1 200 ")
        if not is_over:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: late, accepted)
            async with asyncio.timeout(20):
                assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
    if is_over:
        await asyncio.get_running_loop().connect_accepted_socket(lambda: late, accepted)
        async with asyncio.timeout(20):
            with contextlib.suppress(ConnectionResetError):  # its request is no longer read
                assert await reader.read() == b""
    writer.close()


async def test_what_cannot_be_loaded_is_logged_and_tried_again_for_the_next(lazy: Lazy, log: io.StringIO) -> None:
    lazy.problems = [ImportError("no module named CANARY"), OSError("the disk is gone")]
    async with opened(lazy):
        assert await lazy.ask() == b""
        assert await lazy.ask() == b""
        assert (await lazy.ask()).startswith(b"HTTP/1.1 200 ")
    assert log.getvalue().count("console.cannot_load") == 2


async def test_without_a_thread_to_load_it_in_that_is_logged_in_a_line(
    lazy: Lazy, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(lazy):
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", no_thread)
            assert await lazy.ask() == b""
        assert (await lazy.ask()).startswith(b"HTTP/1.1 200 ")
    assert log.getvalue().count("console.cannot_load") == 1
    assert "start new thread" in log.getvalue()
    assert "Traceback" not in log.getvalue()


async def test_without_a_descriptor_for_a_part_of_it_that_is_logged_in_a_line(lazy: Lazy, log: io.StringIO) -> None:
    """For one of Python's own files (OSError), and for a shared library that the system loads (ImportError)."""
    words = os.strerror(errno.EMFILE)
    lazy.problems = [OSError(errno.EMFILE, words), ImportError(f"x.so: cannot open shared object file: {words}")]
    async with opened(lazy):
        assert await lazy.ask() == b""
        assert await lazy.ask() == b""
    assert log.getvalue().count("console.cannot_load") == 2
    assert log.getvalue().count(words) == 2
    assert "Traceback" not in log.getvalue()


class Refused(asyncio.Protocol):
    """Fails as aiohttp's protocol does where the system refuses to set keepalive for a visitor that has gone."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


async def test_a_visitor_that_cannot_be_let_in_ends_nothing_but_its_connection() -> None:
    (sock,) = bind("127.0.0.1", 0, what="console")
    place, led = sock.getsockname(), ConsoleSockets([sock])

    @asynccontextmanager
    async def site() -> AsyncIterator[None]:
        led.lead_to(site, Refused)
        try:
            yield
        finally:
            led.close(site)

    async with answering_once_asked(led, site):
        reader, writer = await asyncio.open_connection(*place)
        writer.write(b"GET / HTTP/1.1\r\n")
        async with asyncio.timeout(20):
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
        writer.close()


async def test_only_so_many_wait_until_it_is_loaded_and_who_leaves_makes_room(
    lazy: Lazy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console_sockets, "VISITORS", 2)
    lazy.may_load.clear()
    async with opened(lazy), asyncio.TaskGroup() as group:
        asking = group.create_task(lazy.ask())
        await until(lazy.is_loading.is_set)
        gone = (await lazy.come())[1]
        while await lazy.ask() != b"":  # until both places are taken
            pass
        waiting = lazy.sockets._owner
        assert isinstance(waiting, console_sockets._LazySite)
        gone.close()
        await until(lambda: len(waiting._visitors) == 1)
        second = group.create_task(lazy.ask())
        await until(lambda: len(waiting._visitors) == 2)
        lazy.may_load.set()
    for answer in (asking.result(), second.result()):
        assert answer.startswith(b"HTTP/1.1 200 ")


async def test_who_says_more_than_any_browser_before_it_is_loaded_is_sent_away(
    lazy: Lazy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console_sockets, "FIRST_WORDS", 1024)
    lazy.may_load.clear()
    async with opened(lazy):
        reader, writer = await lazy.come()
        writer.write(b"GET /" + b"x" * 1024)
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
        lazy.may_load.set()
        assert (await lazy.ask()).startswith(b"HTTP/1.1 200 ")


async def test_who_says_much_at_a_time_before_it_is_loaded_is_heard_out_afterwards(
    lazy: Lazy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a provider's long form: until the console is loaded, only the first piece is read."""
    monkeypatch.setattr(console_sockets, "FIRST_WORDS", 1024)
    request = lazy.request.removesuffix(b"\r\n") + b"X: " + b"x" * 2000 + b"\r\n\r\n"
    lazy.may_load.clear()
    async with opened(lazy):
        reader, writer = await lazy.come()
        writer.write(request[:1024])
        await until(lazy.is_loading.is_set)
        waiting = lazy.sockets._owner
        assert isinstance(waiting, console_sockets._LazySite)
        await until(lambda: [len(visitor._first) for visitor in waiting._visitors] == [1024])
        writer.write(request[1024:])
        for _ in range(5):
            await asyncio.sleep(0)
        lazy.may_load.set()
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on descriptors")
async def test_without_a_descriptor_a_visitor_waits_and_the_log_hears_of_it_once(
    lazy: Lazy, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asyncio.constants, "ACCEPT_RETRY_DELAY", 0.2)
    async with opened(lazy):
        with socket.socket() as visitor:
            with out_of_descriptors():
                visitor.connect(("127.0.0.1", lazy.port))
                await until(lambda: "Too many open files" in log.getvalue())
                for _ in range(20):  # turns of the loop
                    await asyncio.sleep(0)
                assert log.getvalue().count("Too many open files") == 1
                assert "Traceback" not in log.getvalue()
            visitor.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(visitor, lazy.request)
            async with asyncio.timeout(10):
                assert (await loop.sock_recv(visitor, 100)).startswith(b"HTTP/1.1 200")


async def test_where_nobody_has_come_leaving_waits_for_nobody(lazy: Lazy) -> None:
    async with asyncio.timeout(20), opened(lazy):
        for _ in range(5):
            await asyncio.sleep(0)
    assert lazy.loaded_in == []


async def test_who_has_led_the_sockets_elsewhere_does_not_close_them(lazy: Lazy) -> None:
    """The set-up ends some time after the bridge that it configured has taken over its sockets."""
    async with contextlib.AsyncExitStack() as second:
        async with contextlib.AsyncExitStack() as first:
            for stack in (first, second):
                await stack.enter_async_context(lazy.load())
        assert (await lazy.ask()).startswith(b"HTTP/1.1 200 ")
    with pytest.raises(ConnectionRefusedError):
        await lazy.come()


async def test_sockets_that_lead_nowhere_yet_are_closed_by_whoever_gives_up(lazy: Lazy) -> None:
    lazy.sockets.close(object())
    with pytest.raises(ConnectionRefusedError):
        await lazy.come()


async def test_leaving_while_it_is_loaded_ends_those_who_wait(lazy: Lazy) -> None:
    lazy.may_load.clear()
    async with opened(lazy):
        reader, writer = await lazy.come()
        await until(lazy.is_loading.is_set)
    assert await reader.read() == b""
    writer.close()


async def test_leaving_with_a_visitor_who_came_in_the_same_moment_loads_nothing(lazy: Lazy) -> None:
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, ours)
    async with answering_once_asked(lazy.sockets, lazy.load):
        await asyncio.sleep(0)  # until the task that waits for visitors runs
        visitor = lazy.sockets.greeted()
        transport.set_protocol(visitor)
        visitor.connection_made(transport)
    theirs.setblocking(False)
    assert await loop.sock_recv(theirs, 100) == b""
    theirs.close()
    assert lazy.loaded_in == []


async def test_what_goes_wrong_beside_it_comes_out_as_it_is(lazy: Lazy) -> None:
    with pytest.raises(ZeroDivisionError):
        async with opened(lazy):
            raise ZeroDivisionError
    with pytest.raises(ConnectionRefusedError):
        await lazy.come()
