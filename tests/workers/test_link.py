"""The link between a bridge and a worker: messages and sockets over a real Unix socket."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any, cast

import pytest

from bridge.host.workers import UnixPassage
from bridge.workers import link
from bridge.workers.link import Link
from tests.host.limits import out_of_descriptors

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no workers")


class Counted(UnixPassage):
    """Records how many sockets each call sends, and receives only as many as `descriptors` allows."""

    descriptors: int | None = None

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.calls: list[int] = []

    def send(self, data: bytes, handed: Sequence[socket.socket]) -> int:
        self.calls.append(len(handed))
        return super().send(data, handed)

    def receive(self) -> tuple[bytes, list[socket.socket | None], bool]:
        if self.descriptors is None:
            return super().receive()
        with out_of_descriptors(left=self.descriptors):
            return super().receive()


class Peer:
    """One end of a link, and what it has received."""

    def __init__(self, sock: socket.socket) -> None:
        self.descriptor = sock.fileno()
        self.heard: asyncio.Queue[tuple[list[Any], socket.socket | None]] = asyncio.Queue()
        self.gone = asyncio.Event()
        self.happened: list[int] = []
        self.passage = Counted(sock)
        self.link = Link(self.passage, lambda *message: self.heard.put_nowait(message), self.gone.set, self._news)

    def happens(self, number: int) -> None:
        """Something that the other end is to be told, but not urgently."""
        self.happened.append(number)
        self.link.announce_news()

    def is_watched(self) -> bool:
        """Whether the loop still watches its descriptor. Stops watching it."""
        loop = asyncio.get_running_loop()
        return any([loop.remove_reader(self.descriptor), loop.remove_writer(self.descriptor)])

    def _news(self) -> tuple[str, list[int]] | None:
        happened, self.happened = self.happened, []
        return ("news", happened) if happened else None


@contextmanager
def peers() -> Iterator[tuple[Peer, Peer]]:
    one, other = map(Peer, socket.socketpair())
    try:
        yield one, other
    finally:
        one.link.close()
        other.link.close()


async def test_messages_and_sockets_arrive_in_order_and_each_socket_with_its_own() -> None:
    with peers() as (one, other), ExitStack() as stack:
        listening = socket.create_server(("127.0.0.1", 0))
        with listening:
            for number in range(300):
                if number % 3:
                    one.link.send("word", number, "é" * number)
                else:
                    client = socket.create_connection(listening.getsockname())
                    accepted, address = listening.accept()
                    one.link.hand_over(stack.enter_context(accepted), str(number), f'é"{address[1]}')
                    client.close()
            for number in range(300):
                message, handed = await other.heard.get()
                assert int(message[1]) == number
                assert (handed is not None) is (number % 3 == 0)
                if handed is not None:
                    assert f'é"{handed.getpeername()[1]}' == message[2]
                    handed.close()


@contextmanager
def clients(count: int) -> Iterator[list[socket.socket]]:
    """Accepted connections, each from another mail program."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        found = []
        for _ in range(count):
            stack.enter_context(socket.create_connection(listening.getsockname()))
            found.append(stack.enter_context(listening.accept()[0]))
        yield found


async def heard_sockets(peer: Peer, count: int) -> list[tuple[str, str]]:
    """The next messages with sockets: the word of each, and its socket's peer, or "" if the socket was lost."""
    found = []
    for _ in range(count):
        (kind, word), handed = await peer.heard.get()
        assert kind == link.HANDED
        with handed or nullcontext():
            found.append((word, name_of(handed) if handed is not None else ""))
    return found


def name_of(sock: socket.socket) -> str:
    host, port = sock.getpeername()
    return f"{host}:{port}"


async def test_sockets_of_one_turn_go_out_together_a_few_at_once() -> None:
    """So that the other process is woken only once for them."""
    most = link.HANDED_AT_ONCE
    with peers() as (one, other), clients(most + 2) as handed:
        names = [name_of(sock) for sock in handed]
        one.link.send("before")
        for number, sock in enumerate(handed):
            one.link.hand_over(sock, str(number))
        one.link.send("behind")
        assert (await other.heard.get())[0] == ["before"]
        assert await heard_sockets(other, most + 2) == [(str(number), name) for number, name in enumerate(names)]
        assert (await other.heard.get())[0] == ["behind"]
        assert one.passage.calls == [0, most, 2, 0]


async def test_what_comes_takes_no_more_memory_than_it_has_octets() -> None:
    """A message that was read into a large object and then cut to size left a hole in the heap, which small long-lived
    objects then kept open: in a soak test the bridge grew by 45 KiB a minute, with nothing more in use."""
    one, other = socket.socketpair()
    with closing(UnixPassage(one)) as sending, closing(UnixPassage(other)) as receiving:
        sending.send(b"[1]\n", [])
        receiving.receive()
        sending.send(b"[2]\n", [one])
        tracemalloc.start()
        try:
            data, sockets, _ = receiving.receive()
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        for sock in sockets:
            assert sock is not None
            sock.close()
    assert (data, len(sockets)) == (b"[2]\n", 1)
    assert most < 8192


async def test_whoever_there_is_no_descriptor_for_costs_nobody_else_his_socket() -> None:
    with peers() as (one, other), clients(8) as handed:
        names = [name_of(sock) for sock in handed]
        other.passage.descriptors = 2
        for number, sock in enumerate(handed[:5]):
            one.link.hand_over(sock, str(number))
        first = await heard_sockets(other, 5)
        assert first == [("0", names[0]), ("1", names[1]), ("2", ""), ("3", ""), ("4", "")]
        other.passage.descriptors = 0
        one.link.hand_over(handed[5], "5")
        assert await heard_sockets(other, 1) == [("5", "")]
        other.passage.descriptors = None
        for number, sock in enumerate(handed[6:], 6):
            one.link.hand_over(sock, str(number))
        assert await heard_sockets(other, 2) == [("6", names[6]), ("7", names[7])]


@pytest.mark.parametrize("end", ["enough of them", "a message", "a socket", "the end"])
async def test_news_wait_for_whatever_goes_out_next_or_for_enough_of_them(
    end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "SOON_SECONDS", 3600)
    numbers = list(range(link.SOON_MESSAGES - 1))
    with peers() as (one, other), socket.socket() as sock:
        for number in numbers:
            one.happens(number)
        for _ in range(5):  # turns of the loop
            await asyncio.sleep(0)
        assert other.heard.empty()
        match end:
            case "enough of them":
                one.happens(len(numbers))
                numbers.append(len(numbers))
            case "a message":
                one.link.send("word")
            case "a socket":
                one.link.hand_over(sock)
            case _:
                one.link.close()
        heard = [await other.heard.get()]
        if end in {"a message", "a socket"}:
            heard.append(await other.heard.get())
        assert [message for message, _ in heard if message[0] == "news"] == [["news", numbers]]
        assert other.heard.empty()
        assert one.happened == []
        for _, handed in heard:
            if handed is not None:
                handed.close()


async def test_news_go_out_by_themselves_soon_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "SOON_SECONDS", 0.01)
    with peers() as (one, other):
        for number in range(3):
            one.happens(number)
            assert (await other.heard.get())[0] == ["news", [number]]
        one.link.send("word")
        assert (await other.heard.get())[0] == ["word"]


async def test_what_the_system_does_not_know_for_a_socket_costs_nobody_else_the_link(tmp_path: Path) -> None:
    """A worker has thousands of sessions, which would all end with the link."""
    with peers() as (one, other), (tmp_path / "file").open("wb") as file:
        one.link.hand_over(cast(socket.socket, file), "1")
        one.link.send("behind")
        assert [await other.heard.get() for _ in range(2)] == [([link.HANDED, "1"], None), (["behind"], None)]
        at_rest = len(os.listdir("/dev/fd"))
        one.link.hand_over(cast(socket.socket, file), "2")
        assert await other.heard.get() == ([link.HANDED, "2"], None)
        assert len(os.listdir("/dev/fd")) == at_rest


class Short(UnixPassage):
    """A system that fails three times for lack of something."""

    left = 3
    error = errno.ENOBUFS

    def send(self, data: bytes, handed: Sequence[socket.socket]) -> int:
        if self.left:
            self.left -= 1
            raise OSError(self.error, os.strerror(self.error))
        return super().send(data, handed)


@pytest.mark.parametrize("error", [errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS])
async def test_what_the_system_has_no_room_for_is_sent_later(error: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Short, "error", error)
    monkeypatch.setattr(link, "SOON_SECONDS", 0.01)
    ours, theirs = socket.socketpair()
    other = Peer(theirs)
    one = Link(Short(ours), lambda *_: None, lambda: None)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        one.send("before")
        one.hand_over(listening, "1")
        one.send("behind")
        heard = [await other.heard.get() for _ in range(3)]
        assert [message[0] for message, _ in heard] == ["before", link.HANDED, "behind"]
        handed = heard[1][1]
        assert handed is not None
        with handed:
            assert handed.getsockname() == listening.getsockname()
    one.close()
    other.link.close()


async def test_more_than_the_kernel_takes_waits_and_arrives_whole() -> None:
    with peers() as (one, other):
        for number in range(200):
            one.link.send("word", number, "x" * 20_000)
            other.link.send("word", number, "y" * 20_000)
        for number in range(200):
            assert (await other.heard.get())[0] == ["word", number, "x" * 20_000]
            assert (await one.heard.get())[0] == ["word", number, "y" * 20_000]
        loop = asyncio.get_running_loop()
        assert not any(loop.remove_writer(peer.descriptor) for peer in (one, other)), "nothing is left to send"


async def test_the_end_is_noticed_and_what_was_said_before_it_is_heard() -> None:
    with peers() as (one, other):
        one.link.send("last")
        one.link.close()
        await other.gone.wait()
        assert (await other.heard.get())[0] == ["last"]
        assert not one.is_watched(), "the next who gets that number would not be looked after"
        assert not other.is_watched()
        other.link.send("too late")
        with socket.socket() as accepted:
            one.link.hand_over(accepted)
            assert accepted.fileno() != -1, "it is whose it was"


@pytest.mark.parametrize(
    "data", [b"no json\n", b"[]\n", b"7\n", b'["client"]\n', b'["client",["1"]]\n', b'["client",7]\n', b"\xff\n"]
)
async def test_what_makes_no_sense_ends_the_link(data: bytes) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        peer = Peer(ours)
        theirs.sendall(b'["good"]\n' + data + b'["behind it"]\n')
        await peer.gone.wait()
        assert not peer.is_watched(), "what else it has to say is not heard"
        assert (await peer.heard.get())[0] == ["good"]
        assert peer.heard.empty()
        peer.link.close()
