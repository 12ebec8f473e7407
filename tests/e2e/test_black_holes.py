"""Servers that accept a connection and fall silent, at every stage, and impostors of mail servers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e import errands
from tests.e2e.chaos import Chaos, chaos
from tests.e2e.clients import PROTOCOLS, Login
from tests.e2e.conftest import World
from tests.e2e.errands import Cut, Line
from tests.e2e.logins import LATER, answer
from tests.servers.faulty import Fault, FaultyRelay, Kind, Way
from tests.servers.impostor import Trick, impostor

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]

LOGINS = {"imap": errands.imap_login, "pop3": errands.pop3_login, "smtp": errands.smtp_login}
GMAIL, OFFICE365 = 0, 1


@pytest.fixture(scope="module")
def scene(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chaos]:
    with chaos(world, tmp_path_factory.mktemp("black-holes")) as scene:
        yield scene


@pytest.fixture(autouse=True)
def settled_afterwards(scene: Chaos) -> Iterator[None]:
    yield
    for relay in scene.relays.values():
        relay.heal()
    assert scene.settled is not None
    scene.settled.check()


def relay_of(scene: Chaos, login: Login, protocol: str) -> FaultyRelay:
    return scene.relays["gmail" if login is scene.logins[GMAIL] else "office365", protocol]


def octets_of_a_login(relay: FaultyRelay, login: Login, protocol: str) -> int:
    """How many octets the server sends until it has accepted the token."""
    line = Line(login, protocol)
    try:
        LOGINS[protocol](line, login)
        return relay.links[-1].passed[Way.DOWN]
    finally:
        line.close()


def test_a_server_that_falls_silent_at_any_stage_of_a_login_is_a_later(scene: Chaos) -> None:
    """Silent before the first octet (of TLS or of the greeting), in the handshake, in the dialogue, or one octet before
    the end of its answer to the token: with implicit TLS and with STARTTLS, all at the same time."""
    with ThreadPoolExecutor(24) as pool:
        told = []
        for login in scene.logins:
            for protocol in PROTOCOLS:
                relay = relay_of(scene, login, protocol)
                whole = octets_of_a_login(relay, login, protocol)
                for at in (0, whole // 3, whole * 2 // 3, whole - 1):
                    is_there = relay.plan(Fault(Kind.STALL, Way.DOWN, at))
                    told.append((protocol, at, pool.submit(answer, login, protocol)))
                    assert is_there.wait(30)
        for protocol, at, said in told:
            assert said.result().startswith(LATER[protocol]), (protocol, at)

    def logged() -> list[str]:  # the line may come after the answer
        return re.findall(r"did not complete the login in (15|45) s", scene.bridge.log)

    scene.bridge.wait_until(lambda: len(logged()) == 24, "24 logins given up")
    assert logged().count("45") >= 6  # these had sent the token, after which the server gets more time


def test_a_server_that_falls_silent_in_a_session_holds_nothing_back_once_the_mail_program_has_left(
    scene: Chaos,
) -> None:
    for login in scene.logins:
        line = Line(login, "imap")
        errands.imap_login(line, login)
        relay_of(scene, login, "imap").strike(Fault(Kind.STALL))
        line.send(b"2 NOOP\r\n")
        line.close()


def test_a_server_that_dies_in_silence_ends_the_session(scene: Chaos) -> None:
    for login in scene.logins:
        for kind in (Kind.RESET, Kind.FIN):
            line = Line(login, "imap")
            errands.imap_login(line, login)
            relay_of(scene, login, "imap").strike(Fault(kind))
            with pytest.raises(Cut):
                line.read_line()
            line.close()


@pytest.mark.parametrize("trick", list(Trick))
def test_who_is_not_the_server_gets_no_token_and_the_mail_program_a_later(
    scene: Chaos, tmp_path: Path, trick: Trick
) -> None:
    login = scene.logins[OFFICE365 if trick in (Trick.STRIPPED, Trick.INJECTED) else GMAIL]
    for protocol in PROTOCOLS:
        relay = relay_of(scene, login, protocol)
        with impostor(protocol, trick, scene.world.authority, tmp_path) as false:
            right, relay.target = relay.target, false.port
            try:
                said = answer(login, protocol)
            finally:
                relay.target = right
        assert said.startswith(LATER[protocol])
        assert false.connections == 1
        assert b"XOAUTH2" not in false.heard, false.heard
        if trick not in (Trick.STRIPPED, Trick.INJECTED):
            assert false.heard == b""
