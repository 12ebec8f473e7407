"""Connected sockets and handshakes for the tests of the relay."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import ssl
import struct
import sys
from typing import Final

from bridge.relay.channel import Channel
from bridge.relay.completion import CompletionChannel
from bridge.relay.readiness import ReadinessChannel

KINDS: Final[list[type[ReadinessChannel] | type[CompletionChannel]]] = (
    [ReadinessChannel, CompletionChannel] if sys.platform != "win32" else [CompletionChannel]
)
"""The channels that this system's event loops can drive, its own first. On Windows the loop has no readiness events."""

SETTLED_SECONDS: Final = 0.05
"""How long to wait for data in transit on a busy machine's loopback: on arrival it frees room in the send buffer."""


def close_with_reset(sock: socket.socket) -> None:
    """End the connection with RST, as when a program is killed or a firewall gives up on it."""
    linger = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    sock.close()


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        left = socket.create_connection(server.getsockname())
        right, _ = server.accept()
    for sock in (left, right):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # otherwise a reset loses the last small piece
    return left, right


async def shake_hands(
    channels: tuple[Channel, Channel], contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> tuple[Channel, Channel]:
    left, right = channels
    async with asyncio.TaskGroup() as group:
        group.create_task(left.start_tls(contexts[1], server_hostname="localhost"))
        group.create_task(right.start_tls(contexts[0]))
    return left, right


def shaken_in_memory(
    client: ssl.SSLContext, server: ssl.SSLContext, name: str, session: ssl.SSLSession | None = None
) -> ssl.SSLObject:
    """The client's side of a handshake in memory, which may resume a session. Raises: ssl.SSLError."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(to_server, to_client, server_side=True)
    theirs = client.wrap_bio(to_client, to_server, server_hostname=name, session=session)
    for _ in range(4):
        for side in (theirs, ours):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return theirs


async def receive_exactly(channel: Channel, count: int) -> bytes:
    received = bytearray()
    while len(received) < count:
        data = await channel.receive()
        assert data, "end of file too early"
        received += data
    return bytes(received)


def fill(channel: Channel) -> None:
    """Send until the kernel takes not one more octet, because nobody reads."""
    raw: socket.socket = channel._socket  # type: ignore[attr-defined]  # each kind has one
    while _took_some(raw):
        select.select([], [raw], [], SETTLED_SECONDS)


def _took_some(raw: socket.socket) -> bool:
    took = False
    for size in (65536, 1):
        with contextlib.suppress(BlockingIOError):
            while True:
                raw.send(b"x" * size)
                took = True
    return took
