"""Our event loop: asyncio unchanged, plus callbacks that run directly from the selector."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import gc
import os
import selectors
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

if sys.platform != "linux":
    pytest.skip("Linux alone has it", allow_module_level=True)

from bridge.host.loop import new_event_loop
from bridge.host.loop_linux import DirectLoop, DirectSelector
from tests.host.limits import out_of_descriptors
from tests.silent import no_thread


@pytest.fixture
async def watching() -> DirectSelector:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, DirectLoop)
    return loop.watching


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    with left, right:
        yield left, right


@contextlib.asynccontextmanager
async def turns() -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """A function that lets the loop poll the kernel a few times."""

    async def some() -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    yield some


def polls(selector: DirectSelector, monkeypatch: pytest.MonkeyPatch) -> list[list[tuple[int, int]]]:
    """The results of all polls of the kernel from now on."""
    told: list[list[tuple[int, int]]] = []
    epoll = selector._epoll

    class Spy:
        def poll(self, timeout: float, most: int) -> list[tuple[int, int]]:
            found: list[tuple[int, int]] = epoll.poll(timeout, most)
            told.append(found)
            return found

        def __getattr__(self, name: str) -> Any:
            return getattr(epoll, name)

    monkeypatch.setattr(selector, "_epoll", Spy())
    return told


async def test_a_callback_is_run_while_there_is_something_and_at_the_end(
    watching: DirectSelector, pair: tuple[socket.socket, socket.socket]
) -> None:
    left, right = pair
    seen: list[int] = []
    ended = asyncio.Event()

    def readable() -> None:
        seen.append(len(left.recv(1)))
        if not seen[-1]:
            watching.unwatch(left.fileno())
            ended.set()

    watching.watch(left.fileno(), readable)
    right.send(b"abc")
    async with turns() as some:
        await some()
    assert seen == [1, 1, 1], "one octet at a time: it is told again until nothing is left"
    right.shutdown(socket.SHUT_WR)
    await asyncio.wait_for(ended.wait(), 10)
    assert seen == [1, 1, 1, 0]


async def test_who_rests_is_not_run_and_the_kernel_soon_says_nothing_more(
    watching: DirectSelector, pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    left, right = pair
    seen: list[bytes] = []
    told = polls(watching, monkeypatch)
    watching.watch(left.fileno(), lambda: seen.append(left.recv(10)))
    watching.rest(left.fileno())
    right.send(b"x")
    async with turns() as some:
        await some()
        assert [left.fileno() in dict(events) for events in told].count(True) == 1, "else the loop would spin"
        assert seen == []
        watching.watch(left.fileno(), lambda: seen.append(left.recv(10)))
        await some()
    assert seen == [b"x"], "what came meanwhile is not lost"


async def test_between_two_waits_the_kernel_hears_nothing(
    watching: DirectSelector, pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    left, right = pair
    words: list[str] = []
    epoll = watching._epoll

    class Spy:
        def __getattr__(self, name: str) -> Any:
            words.append(name)
            return getattr(epoll, name)

    monkeypatch.setattr(watching, "_epoll", Spy())
    for letter in b"abc":
        arrived = asyncio.Event()
        watching.watch(left.fileno(), arrived.set)
        right.send(bytes([letter]))
        await arrived.wait()
        watching.rest(left.fileno())
        assert left.recv(10) == bytes([letter])
    assert words.count("register") == 1
    assert "modify" not in words
    assert "unregister" not in words


async def test_unwatch_ends_it(watching: DirectSelector, pair: tuple[socket.socket, socket.socket]) -> None:
    left, right = pair
    watching.watch(left.fileno(), lambda: pytest.fail("nobody wanted to know"))
    watching.unwatch(left.fileno())
    watching.unwatch(left.fileno())
    right.send(b"x")
    async with turns() as some:
        await some()
    assert left.recv(1) == b"x"


async def test_reading_by_callback_and_writing_by_asyncio_share_a_descriptor(
    watching: DirectSelector, pair: tuple[socket.socket, socket.socket]
) -> None:
    left, right = pair
    loop = asyncio.get_running_loop()
    read: list[bytes] = []
    written = 0

    def writable() -> None:
        nonlocal written
        written += 1

    watching.watch(left.fileno(), lambda: read.append(left.recv(10)))
    loop.add_writer(left, writable)
    right.send(b"x")
    async with turns() as some:
        await some()
        assert read == [b"x"]
        assert written > 1
        loop.remove_writer(left)
        before = written
        right.send(b"y")
        await some()
        assert (read, written) == ([b"x", b"y"], before)
        loop.add_writer(left, writable)
        watching.unwatch(left.fileno())
        right.send(b"z")
        await some()
    assert read == [b"x", b"y"]
    assert written > before
    loop.remove_writer(left)


async def test_what_a_callback_raises_is_told_and_disturbs_nobody(
    watching: DirectSelector, pair: tuple[socket.socket, socket.socket]
) -> None:
    left, right = pair
    told: list[dict[str, Any]] = []
    read: list[bytes] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))

    def broken() -> None:
        left.recv(1)
        raise ZeroDivisionError("a bug of ours")

    watching.watch(left.fileno(), broken)
    watching.watch(right.fileno(), lambda: read.append(right.recv(1)))
    right.send(b"x")
    left.send(b"y")
    async with turns() as some:
        await some()
    assert [type(context["exception"]) for context in told] == [ZeroDivisionError]
    assert read == [b"y"]


async def test_what_a_callback_ends_asyncio_is_not_told_of(
    watching: DirectSelector, pair: tuple[socket.socket, socket.socket]
) -> None:
    """Both sockets are readable at the same moment. The callback runs first, whichever the kernel names first."""
    left, right = pair
    loop = asyncio.get_running_loop()
    loop.add_reader(right, lambda: pytest.fail("it had been ended"))

    def ends_the_other() -> None:
        left.recv(1)
        loop.remove_reader(right)

    watching.watch(left.fileno(), ends_the_other)
    right.send(b"x")
    left.send(b"y")
    async with turns() as some:
        await some()
    assert right.recv(1) == b"y"


@pytest.mark.parametrize("by", ["callback", "asyncio"])
async def test_a_number_that_was_closed_without_a_word_and_taken_again_is_watched(
    watching: DirectSelector, by: str
) -> None:
    old, other = socket.socketpair()
    number = old.fileno()
    watching.watch(number, lambda: pytest.fail("of the old one"))
    watching.rest(number)
    old.close()
    other.close()
    left, right = socket.socketpair()
    with left, right:
        if left.fileno() != number:  # another thread has taken the number meanwhile
            os.dup2(left.fileno(), number)
            left.detach()
            left = socket.socket(fileno=number)
        arrived = asyncio.Event()
        if by == "asyncio":
            asyncio.get_running_loop().add_reader(left, arrived.set)
        else:
            watching.unwatch(number)  # what a channel does before it watches for the first time
            watching.watch(number, arrived.set)
        right.send(b"x")
        await asyncio.wait_for(arrived.wait(), 10)
        asyncio.get_running_loop().remove_reader(left)
        watching.unwatch(number)
        left.close()


async def test_what_the_kernel_refuses_is_not_taken_for_known(
    watching: DirectSelector, pair: tuple[socket.socket, socket.socket]
) -> None:
    """The kernel refuses to watch a file, as it refuses anything at fs.epoll.max_user_watches. The descriptor's number
    is soon used by something else."""
    left, right = pair
    loop = asyncio.get_running_loop()
    with open(__file__) as file:
        number = file.fileno()
        with pytest.raises(PermissionError):
            watching.watch(number, lambda: None)
        with pytest.raises(PermissionError):
            loop.add_reader(number, lambda: None)
        os.dup2(left.fileno(), number)
        read = asyncio.Event()
        watching.watch(number, read.set)
        right.send(b"x")
        async with asyncio.timeout(10):
            await read.wait()
        assert number not in watching.get_map()
        watching.unwatch(number)


async def test_more_descriptors_than_one_look_tells_of_all_have_their_turn(watching: DirectSelector) -> None:
    with contextlib.ExitStack() as stack:
        pairs = [socket.socketpair() for _ in range(300)]
        read: set[int] = set()

        def take(sock: socket.socket) -> None:
            sock.recv(1)
            read.add(sock.fileno())

        for left, right in pairs:
            stack.enter_context(left)
            stack.enter_context(right)
            watching.watch(left.fileno(), functools.partial(take, left))
            right.send(b"x")
        async with asyncio.timeout(10):
            while len(read) < len(pairs):
                await asyncio.sleep(0)
        for left, _ in pairs:
            watching.unwatch(left.fileno())


# --- asyncio on it --------------------------------------------------------------------------------------------------


async def test_the_loop_that_the_program_runs_on_is_ours() -> None:
    assert isinstance(asyncio.get_running_loop(), DirectLoop)


async def test_that_no_visitor_can_be_taken_is_told_once_in_a_turn(caplog: pytest.LogCaptureFixture) -> None:
    """CPython 3.14 tries to accept a hundred times per turn of the loop (gh-151615)."""
    loop = asyncio.get_running_loop()
    problem = OSError(errno.EMFILE, "Too many open files")
    context = {"message": "no visitor", "exception": problem, "socket": None}
    for turn in (1, 2):
        for _ in range(3):
            loop.call_exception_handler(context)
        assert caplog.messages == [f"no visitor: {problem}"] * turn
        await asyncio.sleep(0)
        await asyncio.sleep(0)


async def test_streams_servers_timers_and_threads(tmp_path: Any) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read())
        await writer.drain()
        writer.close()

    async with await asyncio.start_unix_server(serve, tmp_path / "socket") as _:
        reader, writer = await asyncio.open_unix_connection(tmp_path / "socket")
        writer.write(b"x" * 300_000)
        writer.write_eof()
        loop = asyncio.get_running_loop()
        started = loop.time()
        assert await asyncio.to_thread(lambda: 7) == 7
        await asyncio.sleep(0.01)
        assert loop.time() - started >= 0.01
        assert await reader.read() == b"x" * 300_000
        writer.close()
        await writer.wait_closed()


async def test_what_asyncio_says_besides_of_what_it_watches_reaches_it(
    monkeypatch: pytest.MonkeyPatch, pair: tuple[socket.socket, socket.socket]
) -> None:
    """Python 3.15's transports also pass a context; without it, no connection of theirs would get any data."""
    loop: Any = asyncio.get_running_loop()
    whole, said, heard = loop.__class__.__base__._add_reader, [], asyncio.Event()

    def add_reader(its: Any, descriptor: int, callback: Callable[..., object], *args: Any, **besides: Any) -> Any:
        said.append(besides)
        return whole(its, descriptor, callback, *args)

    monkeypatch.setattr(loop.__class__.__base__, "_add_reader", add_reader)
    loop._add_reader(pair[0].fileno(), heard.set, context="of a connection")
    pair[1].send(b"x")
    await heard.wait()
    loop.remove_reader(pair[0])
    assert said == [{"context": "of a connection"}]


async def test_programs_and_signals() -> None:
    process = await asyncio.create_subprocess_exec("cat", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate(b"through a pipe and back")
    assert (process.returncode, out) == (0, b"through a pipe and back")
    came = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, came.set)
    os.kill(os.getpid(), signal.SIGUSR2)
    await asyncio.wait_for(came.wait(), 10)
    asyncio.get_running_loop().remove_signal_handler(signal.SIGUSR2)


async def test_the_selector_answers_as_the_standard_one_does(
    watching: DirectSelector, pair: tuple[socket.socket, socket.socket]
) -> None:
    left, _ = pair
    standard = selectors.DefaultSelector()
    closed = socket.socket()
    closed.close()
    for selector in (watching, standard):
        with pytest.raises(KeyError):
            selector.get_key(left)
        with pytest.raises(KeyError):
            selector.unregister(left)
        with pytest.raises(KeyError):
            selector.modify(left, selectors.EVENT_READ)
        with pytest.raises(ValueError, match=r"closed|Invalid"):
            selector.register(closed, selectors.EVENT_READ)
        key = selector.register(left, selectors.EVENT_READ, "data")
        assert selector.get_key(left.fileno()) == key == selector.get_map()[left]
        assert left.fileno() in list(selector.get_map())
        with pytest.raises(KeyError):
            selector.register(left, selectors.EVENT_WRITE)
        changed = selector.modify(left, selectors.EVENT_READ | selectors.EVENT_WRITE, "other")
        assert selector.select(0) == [(changed, selectors.EVENT_WRITE)]
        assert selector.unregister(left) == changed
        assert left.fileno() not in list(selector.get_map())
    standard.close()


def test_a_loop_that_cannot_be_made_is_one_error_and_leaves_nothing(
    recwarn: pytest.WarningsRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """asyncio's destructor closes what nobody has closed, fails at what was never made, and prints a traceback."""
    unraisable: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    gc.collect()  # what earlier tests have left would otherwise be closed by the second collection
    at_rest = set(os.listdir("/proc/self/fd"))
    with out_of_descriptors(), pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
        DirectLoop()
    gc.collect()
    assert set(os.listdir("/proc/self/fd")) == at_rest
    assert not unraisable
    assert not [str(one.message) for one in recwarn if "event loop" in str(one.message)]


def test_the_pools_end_needs_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """At a service's limit of tasks (TasksMax) the program still ends, without a traceback."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(asyncio.to_thread(threading.get_ident))
        monkeypatch.setattr(threading.Thread, "start", no_thread)
