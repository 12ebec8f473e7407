"""The certificate of a worker's port, which is read without holding up the sessions."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

from bridge.errors import ConfigError
from bridge.model import Protocol, TlsMode
from bridge.workers.certificates import PortCertificate
from bridge.workers.wire import Port
from tests.silent import fall_silent, no_thread, release


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return issue(tmp_path / "pair.pem")


def issue(file: Path) -> Path:
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(file))
    return file


def port_certificate(file: Path) -> PortCertificate:
    return PortCertificate(Port(1, Protocol.IMAP, TlsMode.IMPLICIT, str(file), str(file)))


async def now(certificate: PortCertificate) -> ssl.SSLContext:
    return (await certificate.context())()


async def test_it_is_read_once_and_again_when_the_bridge_says_so(file: Path) -> None:
    certificate = port_certificate(file)
    first, second = await asyncio.gather(now(certificate), now(certificate))
    assert first is second
    issue(file)
    assert await now(certificate) is first
    await certificate.look()
    renewed = await now(certificate)
    assert renewed is not first
    await certificate.look()
    assert await now(certificate) is renewed, "that of another port was meant"


async def test_want_of_a_thread_is_no_file_that_does_not_answer(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading.Thread, "start", no_thread)
    with pytest.raises(ConfigError, match="start new thread"):
        await now(port_certificate(file))


@contextmanager
def unreadable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No certificate file can be read."""

    def forbidden(*_: object) -> ssl.SSLContext:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with monkeypatch.context() as patch:
        patch.setattr("bridge.relay.tls.listener_context", forbidden)
        yield


async def test_one_that_cannot_be_read_yet_is_read_once_it_can(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bridge has read it, and tells its workers only once."""
    certificate = port_certificate(file)
    first = await now(certificate)
    issue(file)
    with unreadable(monkeypatch):
        await certificate.look()
        assert await now(certificate) is first
    assert await now(certificate) is not first


async def test_one_that_does_not_answer_any_more_costs_no_wait(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.workers.certificates.READ_SECONDS", 3600)
    certificate = port_certificate(file)
    first = await now(certificate)
    fall_silent(file)
    async with asyncio.TaskGroup() as group:
        looking = group.create_task(certificate.look())
        await asyncio.sleep(0)
        async with asyncio.timeout(20):
            assert await now(certificate) is first
        assert not looking.done()
        release(file)


async def test_one_that_could_not_be_read_and_does_not_answer_either_costs_a_short_one(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.workers.certificates.READ_SECONDS", 3600)
    monkeypatch.setattr("bridge.workers.certificates.WAIT_SECONDS", 0.1)
    certificate = port_certificate(file)
    first = await now(certificate)
    issue(file)
    with unreadable(monkeypatch):
        await certificate.look()
    fall_silent(file)
    async with asyncio.timeout(20):
        assert await now(certificate) is first
    release(file)


async def test_one_that_does_not_answer_refuses_its_ports_clients_and_ends_nothing_else(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any other exception from here would end the worker, and with it the sessions of all its ports."""
    monkeypatch.setattr("bridge.workers.certificates.READ_SECONDS", 0.05)
    certificate = port_certificate(file)
    await certificate.look()  # no client has used this port yet
    fall_silent(file)
    for _ in range(2):  # at the second round the first one's thread is still waiting
        with pytest.raises(ConfigError, match=f"the certificate {re.escape(str(file))} does not answer"):
            await now(certificate)
        await certificate.look()
    release(file)
    issue(file)
    async with asyncio.timeout(20):
        while not await is_read(certificate):
            pass
    fall_silent(file)
    await certificate.look()
    release(file)


async def is_read(certificate: PortCertificate) -> bool:
    """Whether it can be read now; while the file does not answer, clients of its port are refused."""
    try:
        await now(certificate)
    except ConfigError:
        return False
    return True
