"""The splice passes bytes both ways, over both kinds of channel."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import itertools
import math
import random
import select
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.errors import PeerGone
from bridge.relay import readiness as readiness_module
from bridge.relay import splice as splice_module
from bridge.relay.channel import RECORD_SIZE, Channel
from bridge.relay.readiness import PIECE, ReadinessChannel
from bridge.relay.splice import Traffic, splice
from tests.relay.later import Later
from tests.relay.sockets import KINDS, close_with_reset, fill, receive_exactly, shake_hands, tcp_pair
from tests.turns import until

Contexts = tuple[ssl.SSLContext, ssl.SSLContext]
TLS_VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


@dataclass(frozen=True)
class MailProgram:
    """How a mail program is connected, and how it half-closes."""

    version: ssl.TLSVersion | None
    says_so: bool = False

    def half_close(self, channel: Channel) -> None:
        if self.says_so:
            channel._shut_for_sending()
        else:
            socket.socket.shutdown(channel._socket, socket.SHUT_WR)  # type: ignore[attr-defined]  # past an SSLSocket's

    def __str__(self) -> str:
        return f"{self.version.name if self.version else 'plain'}, {'close_notify' if self.says_so else 'FIN'}"


MAIL_PROGRAMS = [
    MailProgram(None),
    *(MailProgram(version, says_so) for version in TLS_VERSIONS for says_so in (False, True)),
]


class Scene:
    """A mail client, the bridge's two channels, and an upstream behind TLS."""

    def __init__(self, kind: Callable[..., Channel]) -> None:
        loop = asyncio.get_running_loop()
        a, b = tcp_pair()
        c, d = tcp_pair()
        self.client, self.client_side = KINDS[0](a, loop, "client"), kind(b, loop, "client side")
        self.upstream_side, self.upstream = kind(c, loop, "upstream side"), KINDS[0](d, loop, "upstream")
        self.traffic = Traffic()

    async def with_tls(self, contexts: Contexts) -> Scene:
        await shake_hands((self.upstream_side, self.upstream), contexts)
        return self

    async def with_client(self, client: MailProgram, contexts: Contexts) -> Scene:
        if client.version is not None:
            port, program = contexts
            program.maximum_version = client.version
            await shake_hands((self.client, self.client_side), (port, program))
        return self

    async def splice(self, to_client: bytes = b"", to_upstream: bytes = b"", idle_seconds: float = 60) -> Traffic:
        all_three = self.client_side, self.upstream_side, self.traffic
        try:
            await splice(*all_three, to_client=to_client, to_upstream=to_upstream, idle_seconds=idle_seconds)
            return self.traffic
        finally:
            self.client_side.close()
            self.upstream_side.close()

    def close(self) -> None:
        for channel in (self.client, self.client_side, self.upstream_side, self.upstream):
            channel.close()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Callable[..., Channel]:
    found: Callable[..., Channel] = request.param
    return found


@pytest.fixture
async def scene(kind: Callable[..., Channel], contexts: Contexts) -> AsyncIterator[Scene]:
    scene = await Scene(kind).with_tls(contexts)
    yield scene
    scene.close()


async def test_bytes_pass_both_ways_complete_and_in_order(scene: Scene) -> None:
    down, up = random.Random(5).randbytes(2_000_000), random.Random(6).randbytes(1_500_000)
    async with asyncio.TaskGroup() as group:
        session = group.create_task(scene.splice(b"first down", b"first up"))
        group.create_task(scene.upstream.send(down))
        group.create_task(scene.client.send(up))
        at_client = group.create_task(receive_exactly(scene.client, len(down) + 10))
        at_upstream = group.create_task(receive_exactly(scene.upstream, len(up) + 8))
        await asyncio.wait((at_client, at_upstream))
        scene.upstream.close()
    assert at_client.result() == b"first down" + down
    assert at_upstream.result() == b"first up" + up
    assert session.result() == Traffic(len(down) + 10, len(up) + 8, "upstream")


async def test_the_last_bytes_of_an_upstream_that_closes_at_once_arrive(scene: Scene) -> None:
    sent = random.Random(7).randbytes(600_000)

    async def send_and_go() -> None:
        await scene.upstream.send(sent)
        scene.upstream._socket.shutdown(socket.SHUT_WR)  # FIN without close_notify, as many mail servers do

    async with asyncio.TaskGroup() as group:
        session = group.create_task(scene.splice())
        group.create_task(send_and_go())
        at_client = group.create_task(receive_exactly(scene.client, len(sent)))
    assert at_client.result() == sent
    assert session.result().ended_by == "upstream"


@pytest.mark.parametrize("client", MAIL_PROGRAMS, ids=str)
async def test_a_client_that_half_closes_still_gets_the_answer(
    scene: Scene, client: MailProgram, port_contexts: Contexts
) -> None:
    await scene.with_client(client, port_contexts)
    async with asyncio.TaskGroup() as group:
        session = group.create_task(scene.splice())
        await scene.client.send(b"QUIT\r\n")
        client.half_close(scene.client)
        assert await receive_exactly(scene.upstream, 6) == b"QUIT\r\n"
        await scene.upstream.send(b"221 bye\r\n")
        scene.upstream.close()
        assert await receive_exactly(scene.client, 9) == b"221 bye\r\n"
    assert session.result().to_client == 9


@pytest.mark.parametrize("client", MAIL_PROGRAMS, ids=str)
async def test_a_client_that_half_closes_gets_the_whole_download_at_its_own_pace(
    scene: Scene, client: MailProgram, port_contexts: Contexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script pipes in its commands, FETCH and LOGOUT, and reads the answers: Dovecot too sends all of them."""
    monkeypatch.setattr(splice_module, "HALF_CLOSE_SECONDS", 0.2)
    await scene.with_client(client, port_contexts)
    sent = random.Random(8).randbytes(1 << 20) * 24  # more than the kernel keeps

    async def answer() -> None:
        assert await receive_exactly(scene.upstream, 7) == b"FETCH\r\n"
        with contextlib.suppress(PeerGone):
            await scene.upstream.send(sent)
        scene.upstream.close()

    async with asyncio.TaskGroup() as group:
        session = group.create_task(scene.splice())
        group.create_task(answer())
        await scene.client.send(b"FETCH\r\n")
        client.half_close(scene.client)
        await asyncio.wait([session], timeout=3 * splice_module.HALF_CLOSE_SECONDS)  # the client reads nothing
        assert await receive_to_the_end(scene.client) == sent
    assert session.result().to_client == len(sent)


@pytest.mark.parametrize("client", MAIL_PROGRAMS, ids=str)
async def test_a_client_that_half_closes_and_gets_no_answer_is_let_go(
    scene: Scene, client: MailProgram, port_contexts: Contexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splice_module, "HALF_CLOSE_SECONDS", 0.05)
    await scene.with_client(client, port_contexts)
    async with asyncio.TaskGroup() as group:
        session = group.create_task(scene.splice(to_client=b"+OK\r\n"))
        client.half_close(scene.client)
        assert await receive_to_the_end(scene.client) == b"+OK\r\n"
    assert session.result().ended_by == "client"


async def test_a_client_that_is_reset_ends_the_session_at_once(scene: Scene) -> None:
    async with asyncio.TaskGroup() as group:
        session = group.create_task(scene.splice())
        await scene.client.send(b"x")
        await receive_exactly(scene.upstream, 1)
        close_with_reset(scene.client._socket)
        assert await scene.upstream.receive() == b""
    assert session.result().ended_by == "client lost"
    scene.upstream.close()


async def test_a_client_that_has_gone_behind_its_last_word_ends_the_session(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full close looks like a half-close until a reset answers the upstream's data."""
    monkeypatch.setattr(splice_module, "HALF_CLOSE_SECONDS", 3600.0)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        session = group.create_task(scene.splice())
        await scene.client.send(b"x")
        scene.client._socket.close()
        assert await receive_exactly(scene.upstream, 1) == b"x"
        if isinstance(scene.client_side, ReadinessChannel):
            await until(lambda: not scene.client_side._is_watched)  # type: ignore[attr-defined]
        monkeypatch.setattr(splice_module, "HALF_CLOSE_SECONDS", 0.05)
        with contextlib.suppress(PeerGone):
            while not session.done():
                await scene.upstream.send(b"*")
                await asyncio.sleep(0)
    assert session.result().ended_by in {"client", "client lost"}
    scene.upstream.close()


async def test_a_client_that_is_lost_while_the_upstream_takes_nothing_of_it_ends_the_session(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client is not read meanwhile, so its end shows only when the upstream's data is sent to it."""
    monkeypatch.setattr(splice_module, "HALF_CLOSE_SECONDS", 0.05)
    sent = 0

    async def flood() -> None:
        nonlocal sent
        while True:
            await scene.client.send(b"x" * 65536)
            sent += 65536

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        session = group.create_task(scene.splice())
        flooding = group.create_task(flood())
        await until_it_stands_still(lambda: sent)
        flooding.cancel()
        await asyncio.wait([flooding])
        close_with_reset(scene.client._socket)
        with contextlib.suppress(PeerGone):
            while not session.done():
                await scene.upstream.send(b"*")
                await asyncio.sleep(0)
    assert session.result().ended_by == "client lost"
    scene.upstream.close()


async def test_an_upstream_that_is_reset_ends_the_session_at_once(scene: Scene) -> None:
    async with asyncio.TaskGroup() as group:
        session = group.create_task(scene.splice())
        await scene.client.send(b"x")
        await receive_exactly(scene.upstream, 1)
        close_with_reset(scene.upstream._socket)
        assert await scene.client.receive() == b""
    assert session.result().ended_by in {"upstream lost", "upstream"}  # OpenSSL may report a reset as the end
    scene.client.close()


@pytest.mark.parametrize("size", [1, RECORD_SIZE, 3 * RECORD_SIZE + 1])
async def test_what_came_before_a_reset_is_passed_on(scene: Scene, size: int) -> None:
    """After a full record the channel reads once more in the same piece, and that read meets the reset."""
    sent = random.Random(size).randbytes(size)
    await scene.upstream.send(sent)
    close_with_reset(scene.upstream._socket)
    async with asyncio.TaskGroup() as group:
        session = group.create_task(scene.splice())
        assert await receive_to_the_end(scene.client) == sent
    assert session.result().to_client == size
    scene.client.close()


def say_goodbye(server: ReadinessChannel) -> None:
    assert server._records is not None
    server._records.unwrap()  # but no FIN


def break_a_record(server: ReadinessChannel) -> None:
    server._socket.sendall(b"\x17\x03\x03\x00\x40" + bytes(64))  # bypasses TLS


@pytest.mark.skipif(sys.platform == "win32", reason="there each record is asked for by itself")
@pytest.mark.parametrize("is_full", [True, False])
@pytest.mark.parametrize(("end", "ended_by"), [(say_goodbye, "upstream"), (break_a_record, "upstream lost")])
async def test_an_end_that_was_read_behind_the_last_records_ends_the_session(
    contexts: Contexts,
    monkeypatch: pytest.MonkeyPatch,
    end: Callable[[ReadinessChannel], None],
    ended_by: str,
    is_full: bool,
) -> None:
    """No FIN follows, because the server waits for our close_notify: the loop has nothing left to report."""
    monkeypatch.setattr(readiness_module, "BURST_SECONDS", math.inf)  # reads all that is there in one go
    scene, sent = await Scene(KINDS[0]).with_tls(contexts), random.Random(10).randbytes(2 * RECORD_SIZE)
    if is_full:
        fill(scene.client_side)
    await scene.upstream.send(sent)
    near, far = scene.upstream_side.tls, scene.upstream
    assert isinstance(near, ssl.SSLSocket)
    assert isinstance(far, ReadinessChannel)
    end(far)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        session = group.create_task(scene.splice())
        await until(lambda: not select.select([near], [], [], 0)[0])
        assert (await receive_to_the_end(scene.client)).endswith(sent)
    assert session.result() == Traffic(len(sent), 0, ended_by)
    scene.close()


@pytest.mark.skipif(sys.platform == "win32", reason="there each record is asked for by itself")
@pytest.mark.parametrize("version", TLS_VERSIONS)
async def test_a_client_whose_end_was_read_behind_its_last_records_is_let_go(
    contexts: Contexts,
    port_contexts: Contexts,
    monkeypatch: pytest.MonkeyPatch,
    version: ssl.TLSVersion,
) -> None:
    """No FIN follows, because the client waits for our close_notify."""
    monkeypatch.setattr(readiness_module, "BURST_SECONDS", math.inf)  # reads all that is there in one go
    monkeypatch.setattr(splice_module, "HALF_CLOSE_SECONDS", 0.05)
    scene = await (await Scene(KINDS[0]).with_tls(contexts)).with_client(MailProgram(version), port_contexts)
    sent = random.Random(11).randbytes(2 * RECORD_SIZE)
    await scene.client.send(sent)
    program = scene.client.tls
    assert isinstance(program, ssl.SSLSocket)
    with contextlib.suppress(ssl.SSLWantReadError):
        program.unwrap()
    ours = scene.client_side
    assert isinstance(ours, ReadinessChannel)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        session = group.create_task(scene.splice())
        await until(lambda: not select.select([ours._socket], [], [], 0)[0])
        assert await receive_to_the_end(scene.upstream) == sent
    assert session.result() == Traffic(0, len(sent), "client")
    scene.close()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_tls", [True, False])
async def test_the_last_words_of_an_upstream_that_takes_no_more_reach_the_client(
    kind: Callable[..., Channel], contexts: Contexts, is_tls: bool
) -> None:
    """A server says why it hangs up, and closes with data unread, while the client is sending more."""
    scene = Scene(kind)
    if is_tls:
        await scene.with_tls(contexts)
    words = b"421 4.4.2 that took too long\r\n"
    await scene.upstream.send(words)
    close_with_reset(scene.upstream._socket)
    async with asyncio.TaskGroup() as group:
        session = group.create_task(scene.splice(to_upstream=b"x" * 100_000))
        await scene.client.send(b"x" * 100_000)
        assert await receive_to_the_end(scene.client) == words
    assert session.result().ended_by in {"upstream lost", "upstream"}
    scene.client.close()


async def test_what_a_client_sent_before_it_was_lost_reaches_the_upstream(scene: Scene) -> None:
    """A program that sends and exits without reading the answers."""
    await scene.client.send(b".\r\nQUIT\r\n")
    close_with_reset(scene.client._socket)
    async with asyncio.TaskGroup() as group:
        session = group.create_task(scene.splice(to_client=b"250 2.0.0 queued\r\n"))
        assert await receive_to_the_end(scene.upstream) == b".\r\nQUIT\r\n"
    assert session.result().ended_by in {"client lost", "client"}
    scene.upstream.close()


async def receive_to_the_end(channel: Channel) -> bytes:
    received = bytearray()
    with contextlib.suppress(PeerGone):
        while data := await channel.receive():
            received += data
    return bytes(received)


async def test_a_session_ends_when_nothing_passes_and_not_before(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    later = Later(monkeypatch)
    async with asyncio.TaskGroup() as group:
        session = group.create_task(scene.splice(idle_seconds=600))
        for _ in range(10):  # the server's "* OK Still here", which comes every few minutes in IDLE, and as much back
            await scene.upstream.send(b"*")
            await receive_exactly(scene.client, 1)
            await scene.client.send(b".")
            await receive_exactly(scene.upstream, 1)
            assert not session.done()
            await later.by(500)
        for _ in range(2):
            await later.by(600)
        assert await scene.client.receive() == b""
    assert session.result() == Traffic(10, 10, "idle")


def test_an_imap_client_in_idle_is_no_idle_session() -> None:
    assert splice_module.IDLE_SECONDS > 30 * 60  # RFC 2177, RFC 9051 section 5.4


async def test_a_mail_program_that_is_lost_in_the_middle_of_a_message_ends_the_session(scene: Scene) -> None:
    """What the client has not read is dropped, and the upstream is read no further."""
    sent = asyncio.Event()

    async def flood() -> None:
        with contextlib.suppress(PeerGone):
            while True:
                await scene.upstream.send(b"x" * 65536)
                sent.set()

    async with asyncio.TaskGroup() as group:
        session = group.create_task(scene.splice())
        flooding = group.create_task(flood())
        while True:  # until nothing more can be sent
            sent.clear()
            try:
                async with asyncio.timeout(0.2):
                    await sent.wait()
            except TimeoutError:
                break
        assert not session.done()
        close_with_reset(scene.client._socket)
        await flooding
    assert session.result().ended_by == "client lost"
    scene.upstream.close()


async def test_a_slow_reader_stops_its_writer(scene: Scene) -> None:
    """What is sent while nobody reads fills kernel buffers, which are bounded; then the sender has to wait."""
    sent = 0

    async def flood() -> None:
        nonlocal sent
        while True:
            await scene.upstream.send(b"x" * 65536)
            sent += 65536

    async with asyncio.TaskGroup() as group:
        session = group.create_task(scene.splice())
        flooding = group.create_task(flood())
        await until_it_stands_still(lambda: sent)
        held = sent
        assert held < 64 * 1024 * 1024, "the flood ended in somebody's memory"
        data = await receive_exactly(scene.client, held)
        assert set(data) == {ord("x")}
        await until(lambda: sent > held)
        flooding.cancel()
        session.cancel()


@pytest.mark.skipif(sys.platform == "win32", reason="there the bytes are kept by tasks, whose errors end them")
@pytest.mark.parametrize(
    ("problem", "is_kept", "before"),
    [
        (MemoryError(), False, 0),
        (MemoryError(), True, 0),
        (OSError(errno.ENOMEM, "epoll_ctl"), True, 0),
        (OSError(errno.ENOMEM, "epoll_ctl"), True, 20_000_000),
    ],
    ids=["no memory", "no memory to watch", "not watched", "not watched at the start"],
)
async def test_a_session_for_whose_bytes_there_is_no_memory_ends(
    contexts: Contexts, monkeypatch: pytest.MonkeyPatch, problem: Exception, is_kept: bool, before: int
) -> None:
    """What was read and cannot be kept is lost; if the session went on, later data would be taken for what follows."""
    scene = await Scene(KINDS[0]).with_tls(contexts)
    sent = random.Random(9).randbytes(20_000_000)

    def no_memory(*_: object) -> bytes:
        monkeypatch.undo()  # only once: a moment later there is memory again
        raise problem

    if not is_kept:
        monkeypatch.setattr(splice_module, "bytes", no_memory, raising=False)
    else:
        loop, number = asyncio.get_running_loop(), scene.upstream_side._descriptor  # type: ignore[attr-defined]
        watch = loop.add_writer
        monkeypatch.setattr(loop, "add_writer", lambda fd, *call: (no_memory if fd == number else watch)(fd, *call))
    async with asyncio.TaskGroup() as group:
        session = group.create_task(ended(scene.splice(to_upstream=sent[:before])))
        sending = group.create_task(ended(scene.client.send(sent[before:])))
        await asyncio.wait((session,), timeout=10)
        received = await receive_to_the_end(scene.upstream) if session.done() else b""
        sending.cancel()
        session.cancel()
    failed = session.result()
    if isinstance(problem, OSError):
        assert isinstance(failed, PeerGone)
        failed = failed.__cause__
    assert failed is problem
    assert sent.startswith(received)
    scene.close()


async def ended(work: Coroutine[Any, Any, object]) -> BaseException | None:
    """The error by which it ended, or None."""
    try:
        await work
    except (PeerGone, MemoryError, OSError) as problem:
        return problem
    return None


async def until_it_stands_still(number: Callable[[], int]) -> None:
    """Until `number` has not changed for 2,000 turns of the loop."""
    seen, turns = number(), 0
    while turns < 2000:
        await asyncio.sleep(0)
        turns = turns + 1 if number() == seen else 0
        seen = number()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_busy_session_gives_way_to_others(kind: Callable[..., Channel]) -> None:
    """One turn of the loop moves one piece for each direction, not all there is."""

    class Counting(kind):  # type: ignore[misc, valid-type]
        passed = 0

        async def send(self, data: bytes) -> None:
            self.passed += len(data)
            await super().send(data)

        def try_send(self, data: memoryview) -> int:
            sent: int = super().try_send(data)
            self.passed += sent
            return sent

    scene = Scene(Counting)
    fill(scene.upstream)
    session = asyncio.ensure_future(scene.splice())  # noqa: TID251  to be cancelled from outside
    passed = [0]
    async with asyncio.timeout(20):
        while passed[-1] < 4 * PIECE:
            await asyncio.sleep(0)
            passed.append(scene.client_side.passed)  # type: ignore[attr-defined]
    assert max(after - before for before, after in itertools.pairwise(passed)) <= PIECE
    session.cancel()
    await asyncio.wait([session])
    scene.close()


@pytest.mark.skipif(sys.platform == "win32", reason="there nobody tells of it again and again")
async def test_whose_end_was_read_is_asked_no_more(contexts: Contexts, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end stays readable, so the loop would spin until the session ends."""
    monkeypatch.setattr(splice_module, "HALF_CLOSE_SECONDS", 0.05)
    reads = 0

    class Counting(ReadinessChannel):
        def try_receive(self) -> tuple[memoryview, bool]:
            nonlocal reads
            reads += 1
            return super().try_receive()

    scene = await Scene(Counting).with_tls(contexts)
    async with asyncio.TaskGroup() as group:
        session = group.create_task(scene.splice())
        scene.client._shut_for_sending()
    assert session.result().ended_by == "client"
    assert reads <= 6, "the two of the handshake's tickets among them"
    scene.close()


@pytest.mark.skipif(sys.platform == "win32", reason="there the bytes are kept by tasks")
async def test_a_session_that_has_ended_leaves_nothing_to_timers_and_the_collector(
    contexts: Contexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise they would keep both channels with their TLS for half an hour or until the next garbage collection."""
    monkeypatch.setattr(splice_module, "HALF_CLOSE_SECONDS", 3600.0)
    scene = await Scene(ReadinessChannel).with_tls(contexts)
    gc.disable()
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(scene.splice())
            await scene.client.send(b"QUIT\r\n")
            await receive_exactly(scene.upstream, 6)
            scene.client._shut_for_sending()
            await until(lambda: not scene.client_side._is_watched)  # type: ignore[attr-defined]
            scene.upstream.close()
        assert not ways_from(scene.client_side, scene.upstream_side)
    finally:
        gc.enable()
    scene.close()


@pytest.mark.skipif(sys.platform == "win32", reason="there the bytes are kept by tasks")
async def test_what_a_slow_reader_has_taken_at_last_is_held_no_more(contexts: Contexts) -> None:
    scene, sent = await Scene(ReadinessChannel).with_tls(contexts), b"x" * 100_000
    fill(scene.client_side)
    async with asyncio.TaskGroup() as group:
        session = group.create_task(scene.splice())
        await scene.upstream.send(sent)
        await until(lambda: not scene.upstream_side._is_watched)  # type: ignore[attr-defined]
        reading = group.create_task(receive_to_the_end(scene.client))
        await until(lambda: scene.upstream_side._is_watched)  # type: ignore[attr-defined]
        held = [len(way._pending.obj) for way in ways_from(scene.upstream_side)]  # type: ignore[arg-type]  # bytes
        scene.upstream.close()
    assert reading.result().endswith(sent)
    assert session.result().to_client == len(sent)
    assert held == [0]
    scene.close()


def ways_from(*sources: Channel) -> list[splice_module._Direction]:
    """The directions in memory with one of these sources, whoever holds them."""
    ways = [held for held in gc.get_objects() if isinstance(held, splice_module._Direction)]
    return [way for way in ways if way.source in sources]


async def test_a_cancelled_splice_leaves_its_count_and_nothing_else(scene: Scene) -> None:
    session = asyncio.ensure_future(scene.splice(b"hello"))  # noqa: TID251  to be cancelled from outside
    await scene.client.send(b"x")
    await receive_exactly(scene.upstream, 1)
    assert await receive_exactly(scene.client, 5) == b"hello"
    session.cancel()
    with pytest.raises(asyncio.CancelledError):
        await session
    assert scene.traffic == Traffic(5, 1, "bridge")
    assert await scene.client.receive() == b""
    assert await scene.upstream.receive() == b""
    scene.close()
    gc.collect()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    down=st.lists(st.binary(min_size=1, max_size=40_000), max_size=6),
    up=st.lists(st.binary(min_size=1, max_size=40_000), max_size=6),
    kind=st.sampled_from(KINDS),
)
def test_any_pieces_keep_their_order_and_lose_nothing(
    contexts: Contexts,
    down: list[bytes],
    up: list[bytes],
    kind: Callable[..., Channel],
) -> None:
    async def play() -> tuple[bytes, bytes]:
        scene = await Scene(kind).with_tls(contexts)

        async def send_all(channel: Channel, pieces: list[bytes]) -> None:
            for piece in pieces:
                await channel.send(piece)

        async with asyncio.TaskGroup() as group:
            session = group.create_task(scene.splice())
            group.create_task(send_all(scene.upstream, down))
            group.create_task(send_all(scene.client, up))
            at_client = group.create_task(receive_exactly(scene.client, sum(map(len, down))))
            at_upstream = group.create_task(receive_exactly(scene.upstream, sum(map(len, up))))
            await asyncio.wait((at_client, at_upstream))
            session.cancel()
        scene.close()
        return at_client.result(), at_upstream.result()

    assert asyncio.run(play()) == (b"".join(down), b"".join(up))
