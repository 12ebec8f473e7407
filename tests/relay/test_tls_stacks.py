"""TLS libraries other than OpenSSL at our port: mail programs bring their own, which divide records differently."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from bridge.relay.completion import CompletionChannel
from bridge.relay.readiness import ReadinessChannel
from tests.relay.sockets import KINDS
from tests.servers.packages import needs

SECONDS = 60
HELLO = b"* OK hello\n"
LINE = 70


def text(octets: int) -> bytes:
    """Lines that none of these programs takes for a command."""
    dice = random.Random(octets)
    return b"".join(dice.randbytes(LINE // 2).hex().encode() + b"\n" for _ in range(octets // (LINE + 1)))


def gnutls(port: int, directory: Path, *more: str) -> list[str]:
    needs("gnutls-bin")
    log = str(directory / "log")
    return ["gnutls-cli", "--no-ca-verification", f"--logfile={log}", *more, "127.0.0.1", "-p", str(port)]


def gnutls_1_2(port: int, directory: Path) -> list[str]:
    return gnutls(port, directory, "--priority", "NORMAL:-VERS-ALL:+VERS-TLS1.2")


def nss(port: int, directory: Path, *more: str) -> list[str]:
    needs("libnss3-tools")
    subprocess.run(["certutil", "-N", "-d", f"sql:{directory}", "--empty-password"], check=True)
    return ["tstclnt", "-h", "127.0.0.1", "-p", str(port), "-o", "-d", f"sql:{directory}", *more]


def nss_1_2(port: int, directory: Path) -> list[str]:
    return nss(port, directory, "-V", "tls1.2:tls1.2")


def openssl_small_records(port: int, directory: Path) -> list[str]:
    needs("openssl")
    return ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-quiet", "-max_send_frag", "512"]


def openssl_small_answers(port: int, directory: Path) -> list[str]:
    """RFC 6066 section 4: it asks us to send small records, too."""
    needs("openssl")
    return ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-quiet", "-maxfraglen", "512"]


@contextlib.asynccontextmanager
async def running(command: list[str]) -> AsyncIterator[asyncio.subprocess.Process]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.DEVNULL)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("program", [gnutls, gnutls_1_2, nss, nss_1_2, openssl_small_records, openssl_small_answers])
async def test_what_another_library_sends_and_hears_is_the_same(
    program: Callable[[int, Path], list[str]],
    kind: type[ReadinessChannel | CompletionChannel],
    port_contexts: tuple[ssl.SSLContext, ssl.SSLContext],
    tmp_path: Path,
) -> None:
    letter, answer = text(300_000), text(400_000)
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        async with asyncio.timeout(SECONDS), running(program(listening.getsockname()[1], tmp_path)) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            sock, _ = await loop.sock_accept(listening)
            channel = kind(sock, loop, "client")
            try:
                await channel.start_tls(port_contexts[0])
                await channel.send(HELLO)
                await process.stdout.readuntil(HELLO)
                process.stdin.write(letter)
                received = b""
                while len(received) < len(letter):
                    data = await channel.receive()
                    assert data
                    received += data
                assert received == letter
                async with asyncio.TaskGroup() as group:
                    group.create_task(channel.send(answer))
                    heard = group.create_task(process.stdout.readexactly(len(answer)))
                assert heard.result() == answer
            finally:
                channel.close()
