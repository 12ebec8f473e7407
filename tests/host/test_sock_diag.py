"""The one netlink socket through which the kernel is asked who owns a connection."""

from __future__ import annotations

import errno
import gc
import os
import socket
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from bridge.host.callers import Owner
from bridge.host.sock_diag import Kernel, Unknown
from bridge.model import Ends
from tests.host.limits import out_of_descriptors

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux itself")


class Connection:
    """A connection over loopback."""

    def __init__(self, stack: ExitStack) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            client = stack.enter_context(socket.create_connection(server.getsockname()))
            accepted = stack.enter_context(server.accept()[0])
        self.ends = Ends(accepted.getpeername(), accepted.getsockname())
        self.owner = Owner(str(os.getuid()), os.fstat(client.fileno()).st_ino)


@pytest.fixture
def two() -> Iterator[tuple[Connection, Connection]]:
    with ExitStack() as stack:
        yield Connection(stack), Connection(stack)


def netlink_sockets() -> int:
    """How many netlink sockets this process has; counted without opening a descriptor for each."""
    lines = Path("/proc/self/net/netlink").read_text().splitlines()
    netlink = {f"socket:[{line.split()[-1]}]" for line in lines}
    count = 0
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the descriptor of listdir() itself is closed by now
            count += os.readlink(f"/proc/self/fd/{name}") in netlink
    return count


def test_one_socket_for_all_questions_and_none_without(two: tuple[Connection, Connection]) -> None:
    before, kernel = netlink_sockets(), Kernel()
    assert netlink_sockets() == before
    for _ in range(100):
        for connection in two:
            assert kernel.owner(connection.ends) == connection.owner
        with pytest.raises(Unknown):
            kernel.owner(Ends(("127.0.0.1", 1), connection.ends.ours))
    assert netlink_sockets() == before + 1
    del kernel
    gc.collect()
    assert netlink_sockets() == before, "closed with it"


def test_who_has_been_asked_before_needs_no_descriptor(two: tuple[Connection, Connection]) -> None:
    kernel = Kernel()
    assert kernel.owner(two[0].ends) == two[0].owner
    with out_of_descriptors():
        assert kernel.owner(two[1].ends) == two[1].owner


def test_an_answer_that_comes_late_is_not_that_of_the_next_question(
    two: tuple[Connection, Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = 0

    class Slow(socket.socket):
        """The first socket gets its answer only when nobody waits for it any more."""

        def __init__(self, *arguments: int) -> None:
            nonlocal opened
            opened += 1
            self.is_slow = opened == 1
            super().__init__(*arguments)

        def recvfrom(self, size: int, flags: int = 0) -> tuple[bytes, object]:
            if self.is_slow:
                self.is_slow = False
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            return super().recvfrom(size, flags)

    monkeypatch.setattr(socket, "socket", Slow)
    kernel, (first, second) = Kernel(), two
    with pytest.raises(BlockingIOError):
        kernel.owner(first.ends)
    assert kernel.owner(second.ends) == second.owner
    assert opened == 2


def test_a_socket_that_was_given_up_leaves_nothing(
    two: tuple[Connection, Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may happen many times in a process that runs for months."""
    gc.collect()
    before, kernel = netlink_sockets(), Kernel()
    monkeypatch.setattr(socket.socket, "recvfrom", _overrun)
    finalizers = len(weakref.finalize._registry)  # type: ignore[attr-defined]
    for _ in range(100):
        with pytest.raises(OSError, match=os.strerror(errno.ENOBUFS)):
            kernel.owner(two[0].ends)
    assert netlink_sockets() == before
    assert len(weakref.finalize._registry) <= finalizers + 1  # type: ignore[attr-defined]
    monkeypatch.undo()
    assert kernel.owner(two[0].ends) == two[0].owner


def _overrun(*_: object) -> tuple[bytes, object]:
    raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))


@pytest.mark.parametrize("number", [0, 2])
def test_an_answer_to_something_else_is_none(
    two: tuple[Connection, Connection], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The netlink header's fourth field is the sequence number of the question, which is 1 here."""
    receive = socket.socket.recvfrom

    def other(sock: socket.socket, size: int) -> tuple[bytes, object]:
        answer, sender = receive(sock, size)
        return answer[:8] + number.to_bytes(4, sys.byteorder) + answer[12:], sender

    monkeypatch.setattr(socket.socket, "recvfrom", other)
    kernel = Kernel()
    with pytest.raises(OSError, match=os.strerror(errno.EPROTO)):
        kernel.owner(two[0].ends)
    monkeypatch.undo()
    assert kernel.owner(two[0].ends) == two[0].owner


def test_what_another_process_sends_is_not_the_kernels_answer(
    two: tuple[Connection, Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only root may send such messages, and root has easier ways; still, only messages from the kernel count."""
    receive = socket.socket.recvfrom

    def from_somebody(sock: socket.socket, size: int) -> tuple[bytes, object]:
        return receive(sock, size)[0], (os.getppid(), 0)

    monkeypatch.setattr(socket.socket, "recvfrom", from_somebody)
    with pytest.raises(OSError, match=os.strerror(errno.EPROTO)):
        Kernel().owner(two[0].ends)


def test_from_several_threads_each_gets_its_own_answer(two: tuple[Connection, Connection]) -> None:
    kernel = Kernel()
    wrong: list[Owner | None] = []

    def ask(connection: Connection) -> None:
        wrong.extend(found for _ in range(2000) if (found := kernel.owner(connection.ends)) != connection.owner)

    threads = [threading.Thread(target=ask, args=(connection,)) for connection in two * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
