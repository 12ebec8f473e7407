"""`load`, which the workers' benchmark uses, notices errors: otherwise the figures would measure something else."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.servers.daemons import free_ports
from tests.servers.packages import needs

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "scripts" / "bench" / "load.c"

MEBIBYTE = 1 << 20
LOGIN = ("login", "imap", "alice@example.com", "3", "2", "0", "0")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="built with cc, for Linux")


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, compiled with every warning as an error."""
    needs("gcc", "libc6-dev", "libssl-dev")
    program = tmp_path_factory.mktemp("load") / "load"
    strict = ["-O2", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(["cc", *strict, "-o", program, SOURCE, "-lssl", "-lcrypto", "-lpthread", "-lm"], check=True)
    return program


@contextmanager
def bridge(*answers: bytes) -> Iterator[str]:
    """A fake bridge that greets, answers each line with the next of `answers`, and hangs up. Yields: the input for
    `load`."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    client, _ = listening.accept()
                except OSError:
                    return
                with suppress(OSError), client, client.makefile("rb") as lines:  # `load` may hang up
                    client.sendall(b"* OK ready\r\n")
                    for answer in answers:
                        lines.readline()
                        client.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"{listening.getsockname()[1]} a-password\n"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def run(load: Path, *words: str, told: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([load, *words], input=told, capture_output=True, text=True, timeout=60, check=False)


def test_logins_that_are_accepted_are_no_trouble(load: Path) -> None:
    with bridge(b"a OK in\r\n", b"* BYE bye\r\nz OK done\r\n") as there:
        done = run(load, *LOGIN, told=there)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_login_that_is_refused_fails(load: Path) -> None:
    with bridge(b"a NO wrong\r\n") as there:
        done = run(load, *LOGIN, told=there)
    assert done.returncode == 1
    assert "no a OK" in done.stderr


def test_a_bridge_that_is_not_there_fails(load: Path) -> None:
    done = run(load, *LOGIN, told=f"{free_ports(1)[0]} a-password\n")
    assert done.returncode == 1
    assert "Connection refused" in done.stderr


@pytest.mark.parametrize("octet", [0, MEBIBYTE - 1, None])
def test_each_octet_of_a_download_is_compared(load: Path, tmp_path: Path, octet: int | None) -> None:
    message = bytes(range(256)) * (MEBIBYTE // 256)
    (tmp_path / "message").write_bytes(message)
    sent = bytearray(message)
    if octet is not None:
        sent[octet] ^= 1
    answer = b"* 1 FETCH (BODY[] {1048576}\r\n" + bytes(sent) + b")\r\nf OK done\r\n"
    words = ("fetch", "alice@example.com", "1", "1", str(tmp_path / "message"))
    with bridge(b"a OK in\r\n", answer, b"* BYE bye\r\nz OK done\r\n") as there:
        done = run(load, *words, told=there)
    assert (done.returncode, done.stderr) == ((0, "") if octet is None else (1, "load: another message\n"))


def test_half_a_download_fails(load: Path, tmp_path: Path) -> None:
    (tmp_path / "message").write_bytes(bytes(MEBIBYTE))
    with bridge(b"a OK in\r\n", b"* 1 FETCH (BODY[] {1048576}\r\n" + bytes(1000)) as there:
        done = run(load, "fetch", "alice@example.com", "1", "1", str(tmp_path / "message"), told=there)
    assert (done.returncode, done.stderr) == (1, "load: 1000 octets of a message\n")


def test_another_spelling_each_time(load: Path) -> None:
    """Each login spells the same user name differently, so that no worker has seen it before."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        told = f"{listening.getsockname()[1]} a-password\n"
        words = ("login", "imap", "alice@example.com", "20", "1", "0", "7")
        with subprocess.Popen([load, *words], stdin=subprocess.PIPE, text=True) as program:
            assert program.stdin is not None
            program.stdin.write(told)
            program.stdin.close()
            names = []
            for _ in range(20):
                client, _ = listening.accept()
                with client, client.makefile("rb") as lines:
                    client.sendall(b"* OK ready\r\n")
                    names.append(lines.readline().split()[2].decode())
                    client.sendall(b"a OK in\r\n")
                    lines.readline()
    assert program.returncode == 0
    assert len(set(names)) == 20
    assert {name.lower() for name in names} == {"alice@example.com"}


def test_without_a_bridge_nothing_is_measured(load: Path) -> None:
    """Bridges and passwords are read from standard input, because any user can see a process's arguments."""
    done = run(load, *LOGIN, told="")
    assert (done.returncode, done.stderr) == (1, "load: no bridge\n")
