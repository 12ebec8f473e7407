"""A mail client that sends many TLS records without content must not hold up everybody else."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.errors import PeerGone, TlsFailed
from bridge.relay.channel import RECORD_SIZE, Channel
from bridge.relay.completion import UNSENT_OCTETS, CompletionChannel
from bridge.relay.connected import open_channel
from bridge.relay.records import RecordTls
from tests.relay.key_updates import NOT_REQUESTED, REQUESTED, KeyUpdater
from tests.relay.sockets import KINDS, receive_exactly, tcp_pair

Contexts = tuple[ssl.SSLContext, ssl.SSLContext]
TOO_LONG = "packet length too long" if ssl.OPENSSL_VERSION_INFO < (3, 6) else "record layer failure"
with_openssl = pytest.mark.skipif(sys.platform == "win32", reason="OpenSSL's library by its Unix name")


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The client's socket, which blocks for ten seconds at most, and ours."""
    theirs, ours = tcp_pair()
    theirs.settimeout(10)
    with theirs, ours:
        yield theirs, ours


@pytest.fixture(params=KINDS)
async def channel(
    request: pytest.FixtureRequest, sockets: tuple[socket.socket, socket.socket]
) -> AsyncIterator[Channel]:
    channel = request.param(sockets[1], asyncio.get_running_loop(), "client")
    yield channel
    channel.close()


@pytest.fixture
async def updater(
    sockets: tuple[socket.socket, socket.socket], channel: Channel, contexts: Contexts
) -> AsyncIterator[KeyUpdater]:
    sockets[0].settimeout(None)  # OpenSSL uses the descriptor itself; the time limit is Python's alone
    updater = KeyUpdater(sockets[0])
    async with asyncio.TaskGroup() as group:
        group.create_task(channel.start_tls(contexts[0]))
        group.create_task(asyncio.to_thread(updater.shake_hands))
    yield updater
    updater.close()


async def send_all(sock: socket.socket, data: bytes) -> bool:
    """True if the peer took all of it."""
    try:
        await asyncio.to_thread(sock.sendall, data)
    except OSError:
        return False
    return True


@with_openssl
async def test_a_flood_of_key_updates_ends_the_connection(
    sockets: tuple[socket.socket, socket.socket], channel: Channel, updater: KeyUpdater
) -> None:
    """300,000 of them held everybody up for 4.6 seconds, in a single call of OpenSSL."""
    for _ in range(20_000):
        updater.update_keys(NOT_REQUESTED)
    updater.write(b"x")
    async with asyncio.TaskGroup() as group:
        group.create_task(send_all(sockets[0], updater.take()))
        with pytest.raises(PeerGone, match="with nothing in them"):
            await channel.receive()
        channel.close()


@with_openssl
async def test_new_keys_now_and_then_are_in_order(
    sockets: tuple[socket.socket, socket.socket], channel: Channel, updater: KeyUpdater
) -> None:
    for turn in range(100):
        updater.update_keys((NOT_REQUESTED, REQUESTED)[turn % 2])
        updater.write(b"x")
    assert await send_all(sockets[0], updater.take())
    assert await receive_exactly(channel, 100) == b"x" * 100
    await channel.send(b"+OK")
    assert await asyncio.to_thread(updater.read, 3) == b"+OK"


@with_openssl
async def test_answers_that_nobody_takes_are_not_kept_without_end(
    sockets: tuple[socket.socket, socket.socket], channel: Channel, updater: KeyUpdater
) -> None:
    """The client downloads without reading, sends something now and then, and asks for new keys all the time."""
    downloading = asyncio.ensure_future(channel.send(b"y" * 30_000_000))  # noqa: TID251  more than the kernel keeps
    await asyncio.sleep(0)
    for _ in range(20_000):
        updater.update_keys(REQUESTED)
        updater.write(b"x")
    sending = asyncio.ensure_future(send_all(sockets[0], updater.take()))  # noqa: TID251
    receiving = asyncio.ensure_future(receive_exactly(channel, 20_000))  # noqa: TID251
    async with asyncio.timeout(30):
        if isinstance(channel, CompletionChannel):  # it waits, and reads nothing more
            while channel._outgoing.pending <= UNSENT_OCTETS:
                await asyncio.sleep(0)
            for _ in range(100):
                await asyncio.sleep(0)
            assert channel._outgoing.pending < UNSENT_OCTETS + RECORD_SIZE
            receiving.cancel()
            await asyncio.wait([receiving])
        else:
            with pytest.raises(PeerGone, match="does not read"):
                await receiving
    assert not downloading.done()
    downloading.cancel()
    await asyncio.wait([downloading])
    channel.close()
    with contextlib.suppress(OSError):  # it may have been reset already
        sockets[0].shutdown(socket.SHUT_RDWR)
    await sending


def is_hello(said: bytes) -> bool:
    """True for a ClientHello (RFC 8446 section 4)."""
    return said[:1] == b"\x16" and said[5:6] == b"\x01"


def in_pieces(record: bytes, size: int) -> bytes:
    content = record[5:]
    pieces = [content[start : start + size] for start in range(0, len(content), size)]
    return b"".join(record[:3] + len(piece).to_bytes(2, "big") + piece for piece in pieces)


async def test_a_hello_in_more_pieces_than_anybody_makes_is_refused(
    sockets: tuple[socket.socket, socket.socket], channel: Channel, contexts: Contexts
) -> None:
    """131,000 octets in as many records: OpenSSL would read for 0.2 seconds before it found an error."""
    hello = b"\x01" + (131_000).to_bytes(3, "big") + b"\x03\x03" + bytes(131_000 - 2)
    async with asyncio.TaskGroup() as group:
        group.create_task(send_all(sockets[0], in_pieces(b"\x16\x03\x01\0\0" + hello, 1)))
        with pytest.raises(PeerGone, match="with nothing in them"):
            await channel.start_tls(contexts[0])
        channel.close()


class Client:
    """The client's side of TLS, driven by hand, so that its output can be cut into other pieces before it is sent."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, cut: Callable[[bytes], Iterable[bytes]]) -> None:
        self._sock = sock
        self._cut = cut
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")

    def tell(self) -> None:
        """Send what TLS has produced. Blocks."""
        for piece in self._cut(self._outgoing.read()):
            self._sock.sendall(piece)

    def hear(self) -> bytes:
        """What is received until the connection ends; blocks. Raises: SSLError for an end without close_notify."""
        said = b""
        while data := self._sock.recv(65536):
            self._incoming.write(data)
        self._incoming.write_eof()
        while content := self.tls.read(65536):
            said += content
        return said

    def shake_hands(self, behind: bytes = b"") -> None:
        """Blocks. `behind` is sent along with the last message of the handshake."""
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self.tell()
                self._incoming.write(self._sock.recv(65536))
            else:
                if behind:
                    self.tls.write(behind)
                return self.tell()


async def test_a_hello_in_some_pieces_is_in_order(
    sockets: tuple[socket.socket, socket.socket], channel: Channel, contexts: Contexts
) -> None:
    """Some programs send it so, because their network would not let the server's name in it pass."""
    client = Client(sockets[0], contexts[1], lambda said: [in_pieces(said, 100) if is_hello(said) else said])
    async with asyncio.TaskGroup() as group:
        group.create_task(channel.start_tls(contexts[0]))
        group.create_task(asyncio.to_thread(client.shake_hands, b"a1 NOOP\r\n"))
    assert await channel.receive() == b"a1 NOOP\r\n"


async def test_a_client_with_whom_nothing_can_be_agreed_is_told_by_an_alert(
    sockets: tuple[socket.socket, socket.socket], channel: Channel, contexts: Contexts
) -> None:
    """RFC 5246 section 7.2.2: otherwise it learns only that the connection has ended."""
    theirs = ssl.create_default_context()
    theirs.maximum_version = ssl.TLSVersion.TLSv1_2
    theirs.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")  # needs an RSA key, which the certificate does not have
    client = Client(sockets[0], theirs, lambda said: [said])

    def told() -> str:
        with pytest.raises(ssl.SSLError) as refused:
            client.shake_hands()
        return refused.value.reason or ""

    async with asyncio.TaskGroup() as group:
        telling = group.create_task(asyncio.to_thread(told))
        with pytest.raises(TlsFailed):
            await channel.start_tls(contexts[0])
    assert "ALERT" in telling.result()


def extension(kind: int, content: bytes) -> bytes:
    return kind.to_bytes(2, "big") + len(content).to_bytes(2, "big") + content


def long_hello(groups: int, shares: int) -> bytes:
    """A ClientHello of TLS 1.3 with unknown groups, and key shares for the last of them (RFC 8446 section 4.2.8)."""
    names = b"".join(number.to_bytes(2, "big") for number in range(groups - 1)) + b"\xfe\x00"
    keys = b"\xfe\x00\x00\x01x" * shares
    extensions = extension(43, b"\x02\x03\x04") + extension(13, b"\x00\x04\x08\x04\x04\x03")
    extensions += extension(10, len(names).to_bytes(2, "big") + names)
    extensions += extension(51, len(keys).to_bytes(2, "big") + keys)
    body = b"\x03\x03" + bytes(32) + b"\x00\x00\x02\x13\x01\x01\x00" + len(extensions).to_bytes(2, "big") + extensions
    return in_pieces(b"\x16\x03\x01\0\0" + b"\x01" + len(body).to_bytes(3, "big") + body, RECORD_SIZE)


async def test_a_hello_that_is_longer_than_anybodys_is_refused(
    sockets: tuple[socket.socket, socket.socket], channel: Channel, contexts: Contexts
) -> None:
    """OpenSSL 3.0 compares each of 6,400 keys with 16,000 groups for a tenth of a second, then wants another hello."""
    async with asyncio.TaskGroup() as group:
        group.create_task(send_all(sockets[0], long_hello(16_000, 6_400)))
        with pytest.raises(PeerGone, match="octets"):
            await channel.start_tls(contexts[0])
        channel.close()


async def test_a_long_hello_is_in_order(
    sockets: tuple[socket.socket, socket.socket], channel: Channel, contexts: Contexts
) -> None:
    """As with post-quantum key shares or a long session ticket."""
    client = open_channel(sockets[0].dup(), asyncio.get_running_loop(), "server")
    contexts[1].set_alpn_protocols([f"{number:0200}" for number in range(60)])
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(channel.start_tls(contexts[0]))
            group.create_task(client.start_tls(contexts[1], server_hostname="localhost"))
    finally:
        contexts[1].set_alpn_protocols([])  # all tests of the module share this context
    await client.send(b"a1 NOOP\r\n")
    assert await channel.receive() == b"a1 NOOP\r\n"
    client.close()


async def test_what_a_client_says_right_behind_its_handshake_is_no_part_of_that(
    sockets: tuple[socket.socket, socket.socket], channel: Channel, contexts: Contexts
) -> None:
    """A full record of data, sent in one piece with the last record of the handshake (TLS 1.3)."""
    sent = random.Random(5).randbytes(RECORD_SIZE)
    client = Client(sockets[0], contexts[1], lambda said: [said])
    async with asyncio.TaskGroup() as group:
        group.create_task(channel.start_tls(contexts[0]))
        group.create_task(asyncio.to_thread(client.shake_hands, sent))
    assert await receive_exactly(channel, len(sent)) == sent


@pytest.mark.parametrize("size", [1, 4, 5, 6, 1000])
async def test_what_comes_in_parts_is_put_together(
    sockets: tuple[socket.socket, socket.socket], channel: Channel, contexts: Contexts, size: int
) -> None:
    """The octets come in parts, so that a record's header is divided too."""
    client = Client(
        sockets[0], contexts[1], lambda said: (said[start : start + size] for start in range(0, len(said), size))
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(channel.start_tls(contexts[0]))
        group.create_task(asyncio.to_thread(client.shake_hands))
    sent = random.Random(size).randbytes(2 * RECORD_SIZE + 7 if size > 6 else 300)
    client.tls.write(sent[:200])
    client.tls.write(sent[200:])
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.to_thread(client.tell))
        assert await receive_exactly(channel, len(sent)) == sent


@pytest.mark.parametrize("size", [1, 3, 4, 5, 6, 7])
def test_each_part_is_put_to_the_one_before_as_it_comes(contexts: Contexts, size: int) -> None:
    """As when a thread sends more slowly than we read; close_notify comes through as well."""
    theirs, ours = tcp_pair()
    with theirs, ours:
        theirs.settimeout(10)
        ours.setblocking(False)
        tls = RecordTls(ours, contexts[0])
        place = memoryview(bytearray(RECORD_SIZE))
        is_done, heard = False, b""

        def hear() -> None:
            nonlocal is_done, heard
            with contextlib.suppress(ssl.SSLWantReadError):
                if not is_done:
                    tls.do_handshake()
                    is_done = True
                while True:
                    heard += place[: tls.read(RECORD_SIZE, place)]

        def in_parts(said: bytes) -> Iterator[bytes]:
            for start in range(0, len(said), size):
                yield said[start : start + size]
                hear()

        client = Client(theirs, contexts[1], in_parts)
        client.shake_hands()
        words = (b"a1 NOOP\r\n", random.Random(size).randbytes(2000), b"a2 LOGOUT\r\n")
        for word in words:
            client.tls.write(word)
        client.tell()
        assert heard == b"".join(words)
        tls.unwrap()
        ours.shutdown(socket.SHUT_WR)
        assert client.hear() == b""


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"EHLO a.example\r\n", "wrong version number"),
        (b"GET / HTTP/1.1\r\n", "http request"),
        (b"\x16\x03\x01\xff\xff" + bytes(100), TOO_LONG),
        (b"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10\x01\x00\x80" + bytes(34), "unsupported protocol"),
    ],
    ids=["plain", "http", "too long", "SSL 2"],
)
async def test_what_is_no_tls_is_refused_at_once_and_by_its_name(
    sockets: tuple[socket.socket, socket.socket], channel: Channel, contexts: Contexts, said: bytes, reason: str
) -> None:
    sockets[0].sendall(said)
    async with asyncio.timeout(10):
        with pytest.raises(TlsFailed) as refused:
            await channel.start_tls(contexts[0])
    assert reason in str(refused.value.__cause__).lower().replace("_", " ")


@st.composite
def records(draw: st.DrawFn) -> bytes:
    """Something like a TLS record: its length field may be wrong."""
    content = draw(st.binary(max_size=100))
    length = draw(st.sampled_from([len(content)] * 4 + [0, 5, 16_384, 18_433, 65_535]))
    return (
        bytes((draw(st.sampled_from([20, 21, 22, 23, 24, 128])), 3, draw(st.integers(0, 4))))
        + length.to_bytes(2, "big")
        + content
    )


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(st.one_of(records(), st.binary(min_size=1, max_size=50)), min_size=1, max_size=40))
def test_whatever_a_stranger_says_a_handshake_waits_or_fails(contexts: Contexts, pieces: list[bytes]) -> None:
    """After the peer's last data it has failed: nothing that came is left unread in the socket."""
    theirs, ours = tcp_pair()
    with theirs, ours:
        ours.setblocking(False)
        tls = RecordTls(ours, contexts[0])
        for piece in pieces:
            with contextlib.suppress(ConnectionError):
                theirs.sendall(piece)
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except (ssl.SSLError, ConnectionAbortedError):
                return
            raise AssertionError("shaken hands with noise")
        theirs.shutdown(socket.SHUT_WR)
        ours.setblocking(True)
        with pytest.raises((ssl.SSLError, ConnectionAbortedError)):
            tls.do_handshake()
