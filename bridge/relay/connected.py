"""Wraps a connected socket in the channel that this loop can drive."""

from __future__ import annotations

import asyncio
import contextlib
import socket

from bridge.relay.channel import Channel
from bridge.relay.completion import CompletionChannel
from bridge.relay.readiness import ReadinessChannel

KEEPALIVE = {"TCP_KEEPIDLE": 120, "TCP_KEEPALIVE": 120, "TCP_KEEPINTVL": 30, "TCP_KEEPCNT": 4}
"""Under each system's names: macOS says TCP_KEEPALIVE where others say TCP_KEEPIDLE. 240 s in all."""
UNACKNOWLEDGED_SECONDS = 240
"""Keepalive probes are sent only while no data is unacknowledged. Without this limit, Linux would go on retransmitting
data to a vanished server for a quarter of an hour."""


def open_channel(
    sock: socket.socket, loop: asyncio.AbstractEventLoop, peer: str = "", *, is_upstream: bool = False
) -> Channel:
    """Wrap a connected socket in the best channel that this loop can drive, tuned for a mail session.

    TCP_NODELAY: without it a small FETCH waits 44 ms for Nagle. Keepalive: a peer that vanished (sleep, lost Wi-Fi)
    is noticed within minutes although mail sessions may be silent for half an hour. An upstream is also given up if it
    acknowledges nothing; a mail client may read as slowly as it likes, and mostly runs on this machine.
    """
    with contextlib.suppress(OSError):  # a socket pair in a test has none of these
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEPALIVE.items():
            if (option := getattr(socket, name, None)) is not None:
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
        if is_upstream and (option := getattr(socket, "TCP_USER_TIMEOUT", None)) is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, UNACKNOWLEDGED_SECONDS * 1000)
    kind = ReadinessChannel if has_add_reader(loop) else CompletionChannel
    return kind(sock, loop, peer)


def has_add_reader(loop: asyncio.AbstractEventLoop) -> bool:
    """Proactor loops inherit an add_reader that raises NotImplementedError."""
    return type(loop).add_reader is not asyncio.AbstractEventLoop.add_reader
