"""The configured ports when a certificate's file does not answer: it is on a network drive whose server is gone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme

from bridge.config.addresses import ListenAddress
from bridge.config.diff import ConfiguredListener
from bridge.errors import BridgeError
from bridge.model import Protocol, TlsMode
from bridge.relay.ports import Ports
from tests.relay.test_ports import System, Workshop, configured, system, with_made_certificate
from tests.silent import fall_silent, no_thread, release

__all__ = ["system"]


def issue(file: Path) -> Path:
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(file))
    return file


def with_given_certificate(port: int, file: Path) -> ConfiguredListener:
    address = ListenAddress(address=f"localhost:{port}", tls=TlsMode.IMPLICIT, certificate=str(file), key=str(file))
    return ConfiguredListener(Protocol.IMAP, address)


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    """A certificate that can be read for now."""
    return issue(tmp_path / "drive.pem")


@pytest.fixture
def ports(system: System, tmp_path: Path, drive: Path) -> Iterator[Ports]:
    """A port with the certificate on the drive, and one with the certificate that we make, which is on a local disk."""
    workshop = Workshop(tmp_path)
    workshop.goes_on.set()
    ports = workshop.ports(system)
    ports.open([with_given_certificate(1143, drive), with_made_certificate(1144)])
    yield ports
    ports.close()


@pytest.mark.parametrize("opened", ["nothing", "plain", "made", "given"])
async def test_a_change_does_not_wait_for_the_certificate_of_another_port(
    ports: Ports, drive: Path, tmp_path: Path, opened: str
) -> None:
    """Nor for that of the port it removes, because removing that port is the remedy."""
    new = {
        "nothing": [],
        "plain": [configured(1145)],
        "made": [with_made_certificate(1145)],
        "given": [with_given_certificate(1143, issue(tmp_path / "here.pem"))],
    }[opened]
    old = [with_given_certificate(1143, drive)] if opened == "given" else []
    fall_silent(drive)
    async with asyncio.TaskGroup() as group:
        looking = group.create_task(ports.look())
        with ExitStack() as undo:
            undo.callback(release, drive)
            await asyncio.sleep(0.1)
            async with asyncio.timeout(20):
                assert len(await ports.change(old, new)) == len(new)
            assert not looking.done()
    assert len(ports.listeners) == 2 + len(new) - len(old)


async def test_a_port_whose_certificate_does_not_answer_is_not_opened_and_holds_up_no_other_change(
    system: System, tmp_path: Path, drive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.relay.ports.CHANGE_SECONDS", 0.5)
    ports = Workshop(tmp_path).ports(system)
    ports.open([configured(1143)])
    (before,) = ports.listeners
    fall_silent(drive)
    with ExitStack() as undo:
        undo.callback(release, drive)
        async with asyncio.timeout(20):
            with pytest.raises(
                BridgeError, match=r"^listeners: the certificate of imap localhost:1144 does not answer"
            ):
                await ports.change([configured(1143)], [with_given_certificate(1144, drive), configured(1145)])
            assert ports.listeners == [before]
            await ports.look()
            await ports.change([], [with_given_certificate(1144, issue(tmp_path / "here.pem"))])
    assert len(ports.listeners) == 2
    ports.close()


async def test_want_of_a_thread_is_no_certificate_that_does_not_answer(
    system: System, tmp_path: Path, drive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports = Workshop(tmp_path).ports(system)
    monkeypatch.setattr(threading.Thread, "start", no_thread)
    with pytest.raises(BridgeError, match="start new thread"):
        await ports.change([], [with_given_certificate(1144, drive)])
    ports.close()


@pytest.mark.parametrize("others", ["given", "made"])
async def test_a_certificate_is_taken_up_while_another_ports_does_not_answer(
    system: System, tmp_path: Path, drive: Path, monkeypatch: pytest.MonkeyPatch, others: str
) -> None:
    """However long that lasts, because the certificate in use may expire meanwhile."""
    monkeypatch.setattr("bridge.relay.ports.ANSWER_SECONDS", 1.0)  # enough for the other, on a busy machine too
    told, here = list[str](), issue(tmp_path / "here.pem")
    workshop = Workshop(tmp_path)
    workshop.goes_on.set()
    ports = workshop.ports(system, lambda: told.append("renewed"))
    other = with_made_certificate(1143) if others == "made" else with_given_certificate(1143, drive)
    ports.open([other, with_given_certificate(1144, here)])
    fall_silent(drive)
    workshop.goes_on.clear()
    with ExitStack() as undo:
        undo.callback(release, drive)
        undo.callback(workshop.goes_on.set)
        for times in (1, 2):
            issue(here)
            async with asyncio.timeout(20):
                await ports.look()
            assert told == ["renewed"] * times
    ports.close()
