"""A server that renegotiates in the middle of an upload (TLS 1.2): rare, and no reason to end a session."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bridge.relay.completion import CompletionChannel
from bridge.relay.readiness import ReadinessChannel
from tests.relay.sockets import KINDS, tcp_pair
from tests.servers.ca import Authority
from tests.servers.daemons import free_ports
from tests.servers.packages import needs

pytestmark = pytest.mark.servers


class Server:
    """`openssl s_server`: prints what it receives, which is tildes; an input line that is only an `r` renegotiates."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.port = port
        self.said = b""
        """Its output without the tildes."""
        self.received = 0
        self._stdin, self._stdout = process.stdin, process.stdout
        self._is_ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert self._is_ready.wait(30), self.said

    def renegotiate(self) -> None:
        self._stdin.write(b"r\n")

    @property
    def handshakes(self) -> int:
        """How many renegotiations have completed."""
        return self.said.count(b"SSL_do_handshake -> 1")

    def wait(self) -> None:
        """Wait until the server has ended."""
        self._reader.join(30)

    def _read(self) -> None:
        while data := self._stdout.read(65536):
            self.received += data.count(b"~")
            self.said += data.replace(b"~", b"")
            if b"ACCEPT" in self.said:
                self._is_ready.set()


@contextmanager
def s_server(directory: Path, authority: Authority) -> Iterator[Server]:
    """A server for one connection."""
    needs("openssl")
    certificate, key = authority.write_pair(directory)
    (port,) = free_ports(1)
    command = ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", str(certificate), "-key", str(key)]
    with subprocess.Popen(
        [*command, "-tls1_2", "-naccept", "1"],
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        server = None
        try:
            server = Server(process, port)
            yield server
        finally:
            process.kill()
            if server is not None:
                server.wait()


TIMES = 5


@pytest.mark.parametrize("kind", KINDS)
async def test_an_upload_goes_on_behind_it(
    kind: type[ReadinessChannel | CompletionChannel], tmp_path: Path, authority: Authority
) -> None:
    """With unread data waiting at openssl, a ReadinessChannel ends: see try_receive()."""
    piece = b"~" * (1000 if kind is ReadinessChannel else 64 * 1024)
    sent = 0
    with s_server(tmp_path, authority) as server:
        sock = await asyncio.to_thread(socket.create_connection, ("127.0.0.1", server.port))
        channel = kind(sock, asyncio.get_running_loop(), "openssl")
        try:
            await channel.start_tls(authority.client_context(), server_hostname="localhost")
            listening = asyncio.ensure_future(channel.receive())  # noqa: TID251
            for done in range(TIMES):
                server.renegotiate()
                while server.handshakes == done:
                    await channel.send(piece)
                    sent += len(piece)
                    while kind is ReadinessChannel and server.received < sent and server.handshakes == done:
                        await asyncio.sleep(0)
            async with asyncio.timeout(30):
                while server.received < sent:  # closing with something unread, such as a ticket, would reset
                    await asyncio.sleep(0.01)
            assert not listening.done()
            listening.cancel()
        finally:
            channel.close()
        await asyncio.to_thread(server.wait)
    assert server.handshakes == TIMES, server.said
    assert server.received == sent


@pytest.mark.skipif(len(KINDS) == 1, reason="a channel that waits for readiness")
async def test_while_the_answer_is_awaited_nobody_asks_whether_the_socket_takes_more() -> None:
    """The socket is writable all the while, so the loop would spin for as long as the server is silent."""
    left, right = tcp_pair()
    answer: Exception | None = ssl.SSLWantReadError()

    def write(view: memoryview) -> int:
        if answer is not None:
            raise answer
        return len(view)

    with right:
        channel = ReadinessChannel(left, asyncio.get_running_loop(), "silent")
        channel._write = write
        sending = asyncio.ensure_future(channel.send(b"x"))  # noqa: TID251
        await asyncio.sleep(0)
        assert asyncio.get_running_loop().remove_writer(left) is False
        answer = None
        await sending
        answer = ssl.SSLWantReadError()
        sending = asyncio.ensure_future(channel.send(b"x"))  # noqa: TID251
        await asyncio.sleep(0)
        sending.cancel()
        await asyncio.wait([sending])
        answer = None
        assert channel._hearing is None
        channel.close()


@pytest.mark.skipif(len(KINDS) == 1, reason="a channel that waits for readiness")
async def test_after_the_answer_the_sender_tries_again_whether_or_not_the_loop_can_watch_one_more_socket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without memory for that, an error in the loop's timer would reach nobody, and the session would stand still."""
    left, right = tcp_pair()
    answers: list[Exception | None] = [ssl.SSLWantReadError(), None]

    def write(view: memoryview) -> int:
        if (answer := answers.pop(0)) is not None:
            raise answer
        return len(view)

    def add_writer(*_: object) -> None:
        raise OSError(errno.ENOMEM, "epoll_ctl")

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "add_writer", add_writer)
    with right:
        channel = ReadinessChannel(left, loop, "renegotiates")
        channel._write = write
        async with asyncio.timeout(20):
            await channel.send(b"x")
        assert answers == []
        channel.close()


@pytest.mark.skipif(len(KINDS) == 1, reason="a channel that waits for readiness")
async def test_what_tls_has_to_answer_while_the_socket_is_full_ends_no_session() -> None:
    """TLS 1.3's peer asks for new keys in the middle of an upload; the loop reports nothing more to read after that."""
    left, right = tcp_pair()
    answers: list[bytes | Exception] = [ssl.SSLWantWriteError(), b"* OK"]

    def read(size: int, place: memoryview) -> int:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        place[: len(answer)] = answer
        return len(answer)

    with right:
        channel = ReadinessChannel(left, asyncio.get_running_loop(), "with new keys")
        channel._read_record = read
        received: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        channel.watch_readable(lambda: received.set_result(bytes(channel.try_receive()[0])))
        data, is_end = channel.try_receive()
        assert not data
        assert not is_end
        async with asyncio.timeout(20):
            assert await received == b"* OK"
        channel.close()
