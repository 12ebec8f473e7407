"""TCP to a host: races its addresses of both families (RFC 8305), because a network may silently drop one family."""

from __future__ import annotations

import os
import selectors
import socket
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import zip_longest

import aiohappyeyeballs

NEXT_ADDRESS_SECONDS = 0.25
"""Head start of one address before the next is tried in parallel (RFC 8305 section 5)."""

AddressInfo = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[str, int] | tuple[str, int, int, int]]
"""As getaddrinfo gives it."""


def look_up(host: str, port: int) -> Sequence[AddressInfo]:
    """Ask the operating system, which uses the hosts file, DNS and whatever else it is configured for. Blocks. Raises:
    OSError, UnicodeError."""
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)  # type: ignore[return-value]  # stubs allow bytes


async def race(found: Sequence[AddressInfo]) -> socket.socket:
    """Connect to the address that answers first. Returns: a non-blocking socket. Raises: OSError."""
    return await aiohappyeyeballs.start_connection(found, happy_eyeballs_delay=NEXT_ADDRESS_SECONDS, interleave=1)


def connected(found: Sequence[AddressInfo], seconds: float) -> socket.socket:
    """The same for a thread: blocks for these seconds at most, which are also the socket's time limit afterwards.

    No event loop is used: it would take three more descriptors and, if there are none, leave a traceback in the log.
    Raises: OSError; if the addresses fail in different ways, the error of the last one.
    """
    deadline = time.monotonic() + seconds
    waiting = deque(_in_turn(found))
    trouble = OSError("no address")
    with selectors.DefaultSelector() as selector, ExitStack() as losers:
        while waiting or selector.get_map():
            if waiting:
                try:
                    selector.register(losers.enter_context(_begun(waiting.popleft())), selectors.EVENT_WRITE)
                except OSError as problem:
                    trouble = problem
                    continue
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("timed out")
            for key, _ in selector.select(min(left, NEXT_ADDRESS_SECONDS) if waiting else left):
                selector.unregister(sock := key.fileobj)
                assert isinstance(sock, socket.socket)  # noqa: S101  nothing else was registered
                number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if number == 0:
                    winner = socket.socket(fileno=sock.detach())  # detached, so it is not closed with the losers
                    winner.settimeout(seconds)
                    return winner
                trouble = OSError(number, os.strerror(number))
    raise trouble


def _in_turn(found: Sequence[AddressInfo]) -> Iterator[AddressInfo]:
    """Alternates between the families, and keeps the order within each."""
    families: dict[int, list[AddressInfo]] = {}
    for one in found:
        families.setdefault(one[0], []).append(one)
    for turn in zip_longest(*families.values()):
        yield from (one for one in turn if one is not None)


def _begun(found: AddressInfo) -> socket.socket:
    """A connection attempt under way. Raises: OSError if it fails at once."""
    family, kind, number, _, address = found
    sock = socket.socket(family, kind, number)
    try:
        sock.setblocking(False)
        sock.connect(address)
    except BlockingIOError:
        return sock
    except BaseException:
        sock.close()
        raise
    return sock
