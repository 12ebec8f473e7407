"""Listening sockets."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest

from bridge.host.sockets import PortInUse, bind, explain
from tests.addresses import needs_ipv6
from tests.servers.daemons import free_ports


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def bound(stack: ExitStack, host: str, port: int = 0) -> list[socket.socket]:
    return [stack.enter_context(closing(one)) for one in bind(host, port, what="console")]


def port_of(sock: socket.socket) -> int:
    port: int = sock.getsockname()[1]
    return port


def test_port_0_takes_a_free_port_that_answers_without_blocking(stack: ExitStack) -> None:
    (listening,) = bound(stack, "127.0.0.1")
    assert port_of(listening) > 0
    assert listening.getblocking() is False
    with socket.create_connection(listening.getsockname(), timeout=5) as client:
        client.sendall(b"hello")
    with pytest.raises(BlockingIOError):
        while True:
            listening.accept()[0].close()


@needs_ipv6
def test_localhost_is_both_loopback_addresses_at_one_port(stack: ExitStack) -> None:
    sockets = bound(stack, "LocalHost")
    assert [one.getsockname()[0] for one in sockets] == ["127.0.0.1", "::1"]
    assert len({port_of(one) for one in sockets}) == 1
    for one in sockets:
        socket.create_connection(one.getsockname()[:2], timeout=5).close()


def test_localhost_is_loopback_whatever_a_resolver_says(stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hosts file or a company's DNS may map localhost to an address that other machines can reach."""
    asked = []
    real = socket.getaddrinfo

    def elsewhere(host: str, *args: Any, **options: Any) -> Any:
        asked.append(host)
        return real("0.0.0.0" if host == "localhost" else host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", elsewhere)
    assert {one.getsockname()[0] for one in bound(stack, "localhost")} <= {"127.0.0.1", "::1"}
    assert asked
    assert "localhost" not in asked


@needs_ipv6
def test_a_port_taken_at_one_loopback_address_only_leaves_nothing_bound(stack: ExitStack) -> None:
    (other,) = bound(stack, "::1", free_ports(1)[0])
    with pytest.raises(PortInUse, match=rf"^\[::1\]:{port_of(other)} \(console\) is in use"):
        bind("localhost", port_of(other), what="console")
    bound(stack, "127.0.0.1", port_of(other))  # the address that could be bound was released again


@needs_ipv6
def test_ipv6_addresses_do_not_take_the_ipv4_port(stack: ExitStack) -> None:
    (listening,) = bound(stack, "::", free_ports(1)[0])
    bound(stack, "0.0.0.0", port_of(listening))


def test_a_taken_port_is_refused_with_its_name_and_the_remedy(stack: ExitStack) -> None:
    (taken,) = bound(stack, "127.0.0.1")
    with pytest.raises(PortInUse) as caught:
        bind("127.0.0.1", port_of(taken), what="imap listener")
    assert str(caught.value) == (
        f"127.0.0.1:{port_of(taken)} (imap listener) is in use by another program; stop it (another mail-bridge?), "
        "or choose another port under `listeners` or `console` in the configuration"
    )
    assert "127.0.0.1" not in caught.value.public


def test_who_has_the_consoles_port_may_be_another_users_bridge_that_is_meant_to_run(stack: ExitStack) -> None:
    (taken,) = bound(stack, "127.0.0.1")
    with pytest.raises(PortInUse) as caught:
        bind("localhost", port_of(taken), what="console")
    assert str(caught.value) == (
        f"127.0.0.1:{port_of(taken)} (console) is in use by another program. If that is the mail-bridge of another "
        "user, such as a service's, let it run, and run mail-bridge's commands as docs/guides/en/terminal-server.md "
        "shows: on Linux with sudo. Otherwise stop it (a mail-bridge of your own?), "
        "or choose another port under `console` in the configuration"
    )


def test_a_port_taken_by_another_process_is_refused(stack: ExitStack) -> None:
    script = (
        "import socket, sys; s = socket.create_server(('127.0.0.1', 0)); "
        "print(s.getsockname()[1], flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        port = int(other.stdout.readline())
        with pytest.raises(PortInUse, match="is in use by another program"):
            bind("127.0.0.1", port, what="console")
        other.communicate(b"")


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such wait")
def test_a_port_is_free_at_once_after_connections_were_closed_here_first(stack: ExitStack) -> None:
    (listening,) = bind("127.0.0.1", free_ports(1)[0], what="console")
    listening.setblocking(True)
    port = port_of(listening)
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        accepted, _ = listening.accept()
        accepted.close()  # this end closes first, so TIME_WAIT is on this side
        assert client.recv(1) == b""
    listening.close()
    bound(stack, "127.0.0.1", port)


def test_an_address_of_another_machine_is_named(stack: ExitStack) -> None:
    with pytest.raises(PortInUse, match=r"^192\.0\.2\.1:0 \(console\): this machine has no such address"):
        bind("192.0.2.1", 0, what="console")


def test_a_name_without_an_address_is_named() -> None:
    with pytest.raises(PortInUse, match=r"the name no such name has no address; write one such as 127\.0\.0\.1"):
        bind("no such name", 0, what="console")


def test_a_name_that_is_no_name_is_refused_in_the_same_way() -> None:
    with pytest.raises(PortInUse, match="has no address"):
        bind("a" * 300, 0, what="console")


def test_a_forbidden_port_is_explained_for_each_system() -> None:
    forbidden = PermissionError(errno.EACCES, "Permission denied")
    windows = str(explain(forbidden, "127.0.0.1", 3017, what="console", is_windows=True))
    assert windows.startswith("127.0.0.1:3017 (console) ")
    assert "10013" in windows
    assert "`netsh int ipv4 show excludedportrange tcp`" in windows
    assert "below 1024 needs a privilege" in str(explain(forbidden, "::1", 143, what="imap", is_windows=False))
    for free in (1024, 3017):
        assert "privilege" not in str(explain(forbidden, "::1", free, what="console", is_windows=False))


def test_any_other_trouble_keeps_the_words_of_the_system() -> None:
    found = explain(OSError(errno.ENOBUFS, "No buffer space"), "127.0.0.1", 1143, what="imap", is_windows=False)
    assert str(found) == ('mail-bridge cannot listen on 127.0.0.1:1143 (imap): "No buffer space"')
