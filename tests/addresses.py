"""Addresses of this machine: IPv4 and, where it has it, IPv6; and addresses that answer nothing."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from bridge.dialing import AddressInfo, look_up


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6")
needs_black_hole = pytest.mark.skipif(sys.platform != "linux", reason="a full accept queue drops SYNs on Linux only")


def addresses(*places: tuple[str, int]) -> list[AddressInfo]:
    """The addresses as getaddrinfo would return them."""
    return [found for host, port in places for found in look_up(host, port)]


@contextmanager
def black_hole(host: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """A port that answers no SYN because its accept queue is full. Linux only."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET))
        listener.bind((host, port))
        listener.listen(0)
        for _ in range(8):
            sock = stack.enter_context(socket.socket(listener.family))
            sock.settimeout(0.05)
            try:
                sock.connect(listener.getsockname())
            except TimeoutError:
                break
        else:
            pytest.skip("this system's queue of connections has no end")
        yield listener.getsockname()[1]


@contextmanager
def behind_a_dead_address(port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every name resolves to an address that answers nothing, followed by 127.0.0.1."""
    real = socket.getaddrinfo

    def both(host: str, *args: Any, **names: Any) -> Any:
        return [*real("127.0.0.2", *args, **names), *real("127.0.0.1", *args, **names)]

    with black_hole("127.0.0.2", port):
        monkeypatch.setattr(socket, "getaddrinfo", both)
        yield
