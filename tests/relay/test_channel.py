"""The channel contract, tested with both implementations."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import random
import select
import socket
import ssl
import sys
import warnings
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trustme

from bridge.errors import PeerGone, TlsFailed
from bridge.relay.channel import Channel
from bridge.relay.connected import open_channel
from bridge.relay.readiness import ReadinessChannel
from tests.relay.sockets import KINDS, close_with_reset, receive_exactly, shake_hands, tcp_pair
from tests.turns import until


def pair(kind: Callable[..., Channel]) -> tuple[Channel, Channel]:
    left, right = tcp_pair()
    loop = asyncio.get_running_loop()
    return kind(left, loop, "left"), kind(right, loop, "right")


@pytest.fixture(params=KINDS)
async def channels(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Channel, Channel]]:
    left, right = pair(request.param)
    yield left, right
    left.close()
    right.close()


@pytest.mark.parametrize("with_tls", [False, True])
async def test_bytes_arrive_in_order_and_complete(
    channels: tuple[Channel, Channel], contexts: tuple[ssl.SSLContext, ssl.SSLContext], with_tls: bool
) -> None:
    left, right = await shake_hands(channels, contexts) if with_tls else channels
    sent = random.Random(1).randbytes(3_000_001)
    async with asyncio.TaskGroup() as group:
        group.create_task(left.send(sent))
        received = group.create_task(receive_exactly(right, len(sent)))
    assert hashlib.sha256(received.result()).digest() == hashlib.sha256(sent).digest()


@pytest.mark.parametrize("with_tls", [False, True])
async def test_both_directions_work_at_once(
    channels: tuple[Channel, Channel], contexts: tuple[ssl.SSLContext, ssl.SSLContext], with_tls: bool
) -> None:
    left, right = await shake_hands(channels, contexts) if with_tls else channels
    one, two = random.Random(2).randbytes(700_000), random.Random(3).randbytes(900_000)
    async with asyncio.TaskGroup() as group:
        group.create_task(left.send(one))
        group.create_task(right.send(two))
        at_right = group.create_task(receive_exactly(right, len(one)))
        at_left = group.create_task(receive_exactly(left, len(two)))
    assert at_right.result() == one
    assert at_left.result() == two


@pytest.mark.parametrize("with_tls", [False, True])
async def test_a_peer_that_takes_nothing_is_still_heard(
    channels: tuple[Channel, Channel], contexts: tuple[ssl.SSLContext, ssl.SSLContext], with_tls: bool
) -> None:
    """As when a server refuses a message before it has all come, or answers before it reads on."""
    left, right = await shake_hands(channels, contexts) if with_tls else channels
    sending = asyncio.ensure_future(left.send(b"x" * 32_000_000))  # noqa: TID251  more than the kernel keeps
    await asyncio.sleep(0)
    await right.send(b"552 5.3.4 too big")
    async with asyncio.timeout(10):
        assert await receive_exactly(left, 17) == b"552 5.3.4 too big"
    assert not sending.done()
    sending.cancel()
    await asyncio.wait([sending])
    if isinstance(left, ReadinessChannel):
        descriptor = left._socket.fileno()
        assert not asyncio.get_running_loop().remove_writer(descriptor), "the loop would call without end"


@pytest.mark.parametrize("with_tls", [False, True])
async def test_close_gives_end_of_file_after_the_last_byte(
    channels: tuple[Channel, Channel], contexts: tuple[ssl.SSLContext, ssl.SSLContext], with_tls: bool
) -> None:
    left, right = await shake_hands(channels, contexts) if with_tls else channels
    await left.send(b"last words")
    left.close()
    assert await receive_exactly(right, 10) == b"last words"
    assert await right.receive() == b""
    assert await right.receive() == b"", "end of file stays end of file"


async def test_the_end_of_tls_is_said_before_that_of_the_connection(
    channels: tuple[Channel, Channel], contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    """RFC 8446 section 6.1: without close_notify, OpenSSL 3 reports an unexpected end to the mail client."""
    left, right = await shake_hands(channels, contexts)
    async with asyncio.TaskGroup() as group:
        group.create_task(left.finish())
        assert await right.receive_first(1000) != b"", "close_notify"
        right.close()


async def test_fin_without_close_notify_is_end_of_file_and_loses_nothing(
    channels: tuple[Channel, Channel], contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    left, right = await shake_hands(channels, contexts)
    sent = random.Random(4).randbytes(200_000)
    async with asyncio.TaskGroup() as group:
        group.create_task(left.send(sent))
        received = group.create_task(receive_exactly(right, len(sent)))
    left._socket.shutdown(socket.SHUT_WR)  # type: ignore[attr-defined]  # a peer that is rude on purpose
    assert received.result() == sent
    assert await right.receive() == b""


async def test_a_reset_is_peer_gone(channels: tuple[Channel, Channel]) -> None:
    left, right = channels
    close_with_reset(left._socket)  # type: ignore[attr-defined]  # on purpose
    with pytest.raises(PeerGone):
        await right.receive()


@pytest.mark.parametrize("end", ["a reset: we read", "a reset: we write", "a FIN: we write", "a reset: we close"])
@pytest.mark.parametrize("kind", KINDS)
async def test_what_ends_one_connection_is_no_error_of_another(
    kind: Callable[..., Channel], contexts: tuple[ssl.SSLContext, ssl.SSLContext], end: str
) -> None:
    """OpenSSL has one error queue per thread, and CPython leaves errors in it (from OpenSSL 3.4 on)."""
    ours, theirs = await shake_hands(pair(kind), contexts)
    left, right = await shake_hands(pair(kind), contexts)
    for here, there in ((ours, theirs), (left, right)):
        await there.send(b"+OK\r\n")
        assert await receive_exactly(here, 5) == b"+OK\r\n", "with the session tickets, which would empty the queue"
    leave = close_with_reset if "reset" in end else socket.socket.close
    leave(left._socket)  # type: ignore[attr-defined]  # rude on purpose
    if "read" in end:
        with contextlib.suppress(PeerGone):  # some Python versions raise, others report end of file
            await right.receive()
    if "write" in end:
        with pytest.raises(PeerGone):
            for _ in range(100):
                await right.send(b"* BYE\r\n")
    right.close()
    for here, there in ((ours, theirs), (theirs, ours)):
        async with asyncio.TaskGroup() as group:
            received = group.create_task(receive_exactly(here, 5))
            await asyncio.sleep(0)  # let it look first, and find nothing
            await there.send(b"+OK\r\n")
        assert received.result() == b"+OK\r\n"
    for channel in (ours, theirs, left):
        channel.close()


async def test_a_reset_behind_our_last_words_is_no_trouble(channels: tuple[Channel, Channel]) -> None:
    left, right = channels
    async with asyncio.TaskGroup() as group:
        group.create_task(left.finish())
        assert await right.receive() == b""
        close_with_reset(right._socket)  # type: ignore[attr-defined]  # on purpose
    assert left._socket.fileno() == -1  # type: ignore[attr-defined]  # released


@pytest.mark.parametrize("with_tls", [False, True])
async def test_who_has_left_is_seen_without_receiving(
    channels: tuple[Channel, Channel], contexts: tuple[ssl.SSLContext, ssl.SSLContext], with_tls: bool
) -> None:
    left, right = await shake_hands(channels, contexts) if with_tls else channels
    assert not right.has_left
    for words in (b"one more", b" thing"):  # with TLS, two records, which one channel reads together
        await left.send(words)
    left._socket.shutdown(socket.SHUT_WR)  # type: ignore[attr-defined]  # of TLS, too, without its farewell
    while not select.select([right._socket], [], [], 0)[0]:  # type: ignore[attr-defined]
        pass
    received = b""
    while received != b"one more thing":
        assert not right.has_left, "that is still to be received"
        received += await right.receive()
    await until(lambda: right.has_left)
    assert await right.receive() == b"", "and the end was not taken"


async def test_who_was_reset_has_left(channels: tuple[Channel, Channel]) -> None:
    left, right = channels
    close_with_reset(left._socket)  # type: ignore[attr-defined]  # on purpose
    await until(lambda: right.has_left)


async def test_a_broken_record_is_peer_gone(
    channels: tuple[Channel, Channel], port_contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    """Although a local port accepts a FIN without close_notify as the end."""
    left, right = await shake_hands(channels, port_contexts)
    raw: socket.socket = left._socket  # type: ignore[attr-defined]  # on purpose
    socket.socket.sendall(raw, b"\x17\x03\x03\x00\x40" + bytes(64))  # past the SSLSocket's own sendall()
    socket.socket.shutdown(raw, socket.SHUT_WR)
    with pytest.raises(PeerGone):
        await right.receive()


@pytest.mark.parametrize("kind", KINDS)
async def test_sending_to_a_closed_peer_is_peer_gone(kind: Callable[..., Channel]) -> None:
    left, right = pair(kind)
    left.close()
    with pytest.raises(PeerGone):
        for _ in range(100):
            await right.send(b"x" * 100_000)
    right.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_an_unknown_ca_and_a_wrong_name_are_tls_failed_with_a_reason(kind: Callable[..., Channel]) -> None:
    ca, other = trustme.CA(), trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("mail.example.test").configure_cert(server)
    cases = [(other, "mail.example.test", "unable to get local issuer"), (ca, "localhost", "Hostname mismatch")]
    for trusted, name, words in cases:
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusted.configure_trust(client)
        left, right = pair(kind)

        async def answer(channel: Channel = right) -> None:
            with pytest.raises((TlsFailed, PeerGone)):  # TLS 1.3: the server may be done before the alert comes
                await channel.start_tls(server)
                while await channel.receive():
                    pass
                raise PeerGone("closed")

        async with asyncio.TaskGroup() as group:
            group.create_task(answer())
            with pytest.raises(TlsFailed, match=words):
                await left.start_tls(client, server_hostname=name)
            left.close()
        right.close()


async def test_plaintext_behind_starttls_breaks_the_handshake_and_is_never_taken_for_tls(
    channels: tuple[Channel, Channel], contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    left, right = channels
    await right.send(b"220 go ahead\r\n")
    assert await receive_exactly(left, 14) == b"220 go ahead\r\n"
    await right.send(b"250 INJECTED\r\n")
    with pytest.raises((TlsFailed, PeerGone)):
        await left.start_tls(contexts[1], server_hostname="localhost")


class ResetsFirst(ssl.SSLContext):
    """Resets the connection between our last look at it and Python's own."""

    peer: socket.socket

    def wrap_socket(self, *args: Any, **options: Any) -> ssl.SSLSocket:
        close_with_reset(self.peer)
        return super().wrap_socket(*args, **options)


@pytest.mark.skipif(sys.platform == "win32", reason="asyncio's own TLS has no look at the connection")
async def test_a_reset_in_the_moment_in_which_tls_begins_leaves_no_socket() -> None:
    """By then Python has made an SSLSocket of ours, which it does not close."""
    left, right = tcp_pair()
    context = ResetsFirst(ssl.PROTOCOL_TLS_CLIENT)
    context.peer = right
    channel = ReadinessChannel(left, asyncio.get_running_loop(), "left")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(PeerGone):
            await channel.start_tls(context, server_hostname="localhost")
        gc.collect()
    assert not caught, caught[0].message
    channel.close()


async def test_tls_on_a_connection_whose_reset_has_been_told_is_none(
    channels: tuple[Channel, Channel], contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    """Python would take the socket for one that is not connected yet."""
    left, right = channels
    close_with_reset(right._socket)  # type: ignore[attr-defined]
    with pytest.raises(PeerGone):
        await left.receive()
    with pytest.raises(PeerGone):
        await left.start_tls(contexts[1], server_hostname="localhost")


async def test_a_client_hello_that_comes_early_is_not_lost(
    channels: tuple[Channel, Channel], contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    left, right = channels
    async with asyncio.TaskGroup() as group:
        group.create_task(left.start_tls(contexts[1], server_hostname="localhost"))
        while not select_readable(right):
            await asyncio.sleep(0)
        group.create_task(right.start_tls(contexts[0]))
    await left.send(b"over TLS")
    assert await receive_exactly(right, 8) == b"over TLS"


def select_readable(channel: Channel) -> bool:
    try:
        return bool(channel._socket.recv(1, socket.MSG_PEEK))  # type: ignore[attr-defined]
    except BlockingIOError:
        return False


async def test_a_session_can_be_resumed(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    session: ssl.SSLSession | None = None
    reused = []
    for _ in range(2):
        left, right = pair(KINDS[0])
        async with asyncio.TaskGroup() as group:
            group.create_task(left.start_tls(contexts[1], server_hostname="localhost", session=session))
            group.create_task(right.start_tls(contexts[0]))
        await right.send(b"hello")  # the session ticket comes with the first data
        await receive_exactly(left, 5)
        assert left.tls is not None
        session = left.tls.session
        reused.append(left.tls.session_reused)
        left.close()
        right.close()
    assert reused == [False, True]


@pytest.mark.parametrize("with_tls", [False, True])
async def test_finish_lets_the_peer_read_the_last_words_although_it_is_still_sending(
    channels: tuple[Channel, Channel], contexts: tuple[ssl.SSLContext, ssl.SSLContext], with_tls: bool
) -> None:
    left, right = await shake_hands(channels, contexts) if with_tls else channels
    await left.send(b"x" * 20_000)
    await right.send(b"421 too much\r\n")
    async with asyncio.TaskGroup() as group:
        group.create_task(right.finish())
        for _ in range(10):  # after a reset its sends would fail, and it would not read our answer
            await asyncio.sleep(0)
            await left.send(b"x" * 1000)
        assert await receive_exactly(left, 14) == b"421 too much\r\n"
        left.close()


async def test_a_cancelled_receive_leaves_the_channel_usable(channels: tuple[Channel, Channel]) -> None:
    left, right = channels
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await right.receive()
    await left.send(b"still here")
    assert await receive_exactly(right, 10) == b"still here"


async def test_open_channel_picks_what_this_loop_drives_and_turns_nagle_off() -> None:
    left, right = tcp_pair()
    with right:
        channel = open_channel(left, asyncio.get_running_loop())
        assert isinstance(channel, KINDS[0])
        assert left.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert left.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        channel.close()
        channel.close()


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux shows what it will do")
async def test_a_vanished_peer_is_given_up_within_minutes_and_a_client_that_reads_slowly_is_not() -> None:
    for is_upstream, unacknowledged in ((True, 240_000), (False, 0)):
        left, right = tcp_pair()
        with right:
            channel = open_channel(left, asyncio.get_running_loop(), is_upstream=is_upstream)
            idle, interval, probes = (
                left.getsockopt(socket.IPPROTO_TCP, option)
                for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            )
            assert idle + interval * probes == 240
            assert left.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == unacknowledged
            channel.close()
