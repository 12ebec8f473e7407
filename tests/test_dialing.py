"""Hosts with several addresses, some of which do not answer."""

from __future__ import annotations

import errno
import socket
import sys

import pytest

from bridge.dialing import connected
from tests.addresses import addresses, black_hole, needs_black_hole, needs_ipv6
from tests.host.limits import out_of_descriptors


@needs_black_hole
def test_dead_addresses_cost_a_head_start_each_and_not_the_whole_time() -> None:
    with black_hole() as dead, socket.create_server(("127.0.0.1", 0)) as server:
        alive = server.getsockname()
        with connected(addresses(("127.0.0.1", dead), ("127.0.0.1", dead), alive), 30) as sock:
            assert (sock.getpeername(), sock.gettimeout()) == (alive, 30)


@needs_black_hole
def test_where_no_address_answers_the_time_is_over_for_all_together() -> None:
    with black_hole() as dead, pytest.raises(TimeoutError, match="timed out"):
        connected(addresses(*[("127.0.0.1", dead)] * 3), 0.05)


@pytest.mark.parametrize("hosts", [("fe80::1", "127.0.0.1"), ("127.0.0.1", "fe80::1")])
def test_addresses_that_fail_in_different_ways_are_told_of_by_the_last_one(hosts: tuple[str, str]) -> None:
    """At once: a link-local address without its zone leaves nothing to wait for."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # but does not listen
        port = nobody.getsockname()[1]
        with pytest.raises(OSError, match=r"^\[") as caught:
            connected(addresses(*((host, port) for host in hosts)), 3600)
    assert (caught.value.errno == errno.ECONNREFUSED) == (hosts[-1] == "127.0.0.1")


@needs_black_hole
@needs_ipv6
def test_the_families_take_turns() -> None:
    """Tried one family after the other, the time would be up before the last address of the first family."""
    with black_hole() as dead, socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        alive = server.getsockname()[:2]
        with connected(addresses(*[("127.0.0.1", dead)] * 80, alive), 15) as sock:
            assert sock.getpeername()[:2] == alive


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_without_a_file_descriptor_it_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        found = addresses(server.getsockname())
        with out_of_descriptors(), pytest.raises(OSError, match="Too many open files"):
            connected(found, 30)
