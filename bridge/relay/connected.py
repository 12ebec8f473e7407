"""A connected socket to the channel that this loop can drive."""

from __future__ import annotations

import asyncio
import contextlib
import socket

from bridge.relay.channel import Channel
from bridge.relay.completion import CompletionChannel
from bridge.relay.readiness import ReadinessChannel


def open_channel(sock: socket.socket, loop: asyncio.AbstractEventLoop, peer: str = "") -> Channel:
    """Wrap a connected socket in the best channel that this loop can drive, tuned for a mail session.

    TCP_NODELAY: without it a small FETCH waits 44 ms for Nagle. Keepalive: a peer that vanished (sleep, lost Wi-Fi)
    is noticed within minutes although mail sessions may be silent for half an hour.
    """
    with contextlib.suppress(OSError):  # a socket pair in a test has neither
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, seconds in (("TCP_KEEPIDLE", 120), ("TCP_KEEPINTVL", 30), ("TCP_KEEPCNT", 4)):
            if (option := getattr(socket, name, None)) is not None:
                sock.setsockopt(socket.IPPROTO_TCP, option, seconds)
    kind = ReadinessChannel if _has_add_reader(loop) else CompletionChannel
    return kind(sock, loop, peer)


def _has_add_reader(loop: asyncio.AbstractEventLoop) -> bool:
    """Proactor loops inherit an add_reader that raises NotImplementedError."""
    return type(loop).add_reader is not asyncio.AbstractEventLoop.add_reader
