"""Bad days: what the mail program is told, what is stored, and that nothing is lost."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest

from tests.e2e.bridge import Bridge, running
from tests.e2e.conftest import ALICE, BOB, CAROL, World
from tests.e2e.logins import assert_replies, replies
from tests.servers.authorization_controls import Fault
from tests.servers.ca import Authority
from tests.servers.daemons import free_ports

pytestmark = pytest.mark.servers


def test_peer_02_a_wrong_password_means_no_and_nothing_else(bridge: Bridge, world: World) -> None:
    asked = len(world.provider.requests)
    told = bridge.log.count("sign_in.needed")
    found = replies(bridge.login(ALICE, "wrong-CANARY"))
    assert_replies(found, "[AUTHENTICATIONFAILED]", "[AUTH]", "535 5.7.8")
    assert replies(bridge.login(CAROL, "wrong-CANARY")) == found  # it does not reveal that she must sign in
    assert len(world.provider.requests) == asked
    assert bridge.log.count("sign_in.needed") == told
    assert replies(bridge.login(ALICE))["imap"] == "OK"


def test_peer_18_an_unknown_user_gets_the_answer_of_a_wrong_password(bridge: Bridge) -> None:
    assert replies(bridge.login("nobody@example.com", "x" * 26)) == replies(bridge.login(ALICE, "x" * 26))


def test_trap_17_a_missing_sign_in_is_told_at_once_with_the_page_to_open(bridge: Bridge) -> None:
    found = replies(bridge.login(CAROL))
    assert_replies(found, "[UNAVAILABLE]", "[SYS/TEMP]", "454 4.7.0")
    for text in found.values():
        assert f"http://localhost:{bridge.console_port}/sign-in/{CAROL}" in text
    assert bridge.log.count("sign_in.needed") == 1  # three logins, one prompt


def test_a_provider_that_is_down_costs_no_token(fresh: Bridge, world: World) -> None:
    world.provider.lifetime = 0
    try:
        fresh.sign_in(world.provider, BOB)
        login = fresh.login(BOB)
        with world.provider.failing("token", Fault.STATUS_500):
            assert_replies(replies(login), "[UNAVAILABLE]", "[SYS/TEMP]", "454 4.7.0")
    finally:
        world.provider.lifetime = 3600
    fresh.stop()
    fresh.start()  # otherwise the failure would be remembered for five seconds
    assert replies(login)["imap"] == "OK"


def test_a_revoked_grant_asks_the_person_and_a_new_sign_in_mends_it(fresh: Bridge, world: World) -> None:
    world.provider.lifetime = 0
    try:
        fresh.sign_in(world.provider, BOB)
        world.provider.revoke_person(BOB)
        assert_replies(replies(fresh.login(BOB)), "must sign in", "must sign in", "454 4.7.0")
    finally:
        world.provider.lifetime = 3600
    assert fresh.json("accounts", "list")[1]["state"] == "sign-in"
    fresh.sign_in(world.provider, BOB)
    assert replies(fresh.login(BOB))["imap"] == "OK"


def test_a_rotated_grant_survives_a_restart(fresh: Bridge, world: World) -> None:
    world.provider.lifetime = 0
    try:
        fresh.sign_in(world.provider, BOB)
        login = fresh.login(BOB)
        before = world.provider.count("refresh_token")
        for times in (1, 2, 3):  # each refresh uses the token from the previous one; an old token is refused
            assert "OK" in replies(login)["imap"]
            assert world.provider.count("refresh_token") - before >= times
            fresh.stop()
            fresh.start()
    finally:
        world.provider.lifetime = 3600
    assert replies(login)["imap"] == "OK"
    assert "sign_in.needed" not in fresh.log


def test_an_upstream_that_is_down_is_told_in_words(world: World, tmp_path: Path) -> None:
    bridge = world.bridge(tmp_path)
    dead = free_ports(1)[0]
    for protocol in ("imap", "pop3", "smtp"):
        bridge.config["providers"]["gmail"][protocol]["port"] = dead
    with running(bridge):
        bridge.sign_in(world.provider, ALICE)
        found = replies(bridge.login(ALICE))
    assert_replies(found, "[UNAVAILABLE]", "[SYS/TEMP]", "454 4.7.0")
    assert "cannot be reached" in found["imap"]


def test_a_certificate_of_another_authority_is_not_accepted(world: World, tmp_path: Path) -> None:
    bridge = world.bridge(tmp_path)
    with running(bridge):
        bridge.sign_in(world.provider, ALICE)
    (tmp_path / "other").mkdir()
    bridge.config["providers"]["gmail"]["ca_file"] = str(Authority(tmp_path / "other").ca_file)
    with running(bridge):
        found = replies(bridge.login(ALICE))
    for text in found.values():
        assert "A secure connection to the mail server is not possible" in text
    assert_replies(found, "[UNAVAILABLE]", "[SYS/TEMP]", "454 4.7.0")


def test_sigterm_ends_an_open_session_and_the_program(world: World, tmp_path: Path) -> None:
    bridge = world.bridge(tmp_path)
    bridge.start()
    bridge.sign_in(world.provider, ALICE)
    login = bridge.login(ALICE)
    with socket.create_connection(("localhost", login.imap), timeout=30) as sock:
        sock.sendall(f'1 LOGIN {ALICE} "{login.password}"\r\n'.encode())
        said = b""
        while b"\r\n1 OK" not in said:
            said += sock.recv(65536)
        assert bridge.stop(signal.SIGTERM) == 0
        assert sock.recv(65536) == b""


@pytest.mark.parametrize("where", ["imap", "smtp", "console"])
def test_trap_27_a_port_in_use_is_named_and_nothing_is_started(world: World, tmp_path: Path, where: str) -> None:
    bridge = world.bridge(tmp_path)
    address = bridge.config["console"] if where == "console" else bridge.config["listeners"][where]
    with socket.create_server(("127.0.0.1", int(address.rsplit(":", 1)[1]))):
        said = bridge.run("run", code=1)  # with 1 a service manager tries again: the port may be free a second later
    assert address in said
    assert where in said
    assert "in use" in said
    assert "Traceback" not in said


def test_a_key_of_another_store_is_refused_and_nothing_is_overwritten(world: World, tmp_path: Path) -> None:
    bridge = world.bridge(tmp_path)
    with running(bridge):
        bridge.sign_in(world.provider, ALICE)
    key = tmp_path / "key"
    good = key.read_bytes()
    key.write_bytes(b"A" * 43 + b"=\n")
    said = bridge.run("run", code=2)
    assert "key" in said
    assert "Traceback" not in said
    key.write_bytes(good)
    with running(bridge):
        assert replies(bridge.login(ALICE))["imap"] == "OK"


def test_the_console_answers_at_both_addresses_of_localhost(bridge: Bridge) -> None:
    for host in ("127.0.0.1", "::1"):
        with socket.create_connection((host, bridge.console_port), timeout=10) as sock:
            sock.sendall(
                f"GET / HTTP/1.1\r\nHost: localhost:{bridge.console_port}\r\nConnection: close\r\n\r\n".encode()
            )
            assert sock.recv(100).startswith(b"HTTP/1.1 200")
