"""The canary: a whole life at debug level, and no secret in any line that the program wrote."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from tests.e2e.bridge import running
from tests.e2e.conftest import ALICE, BOB, World
from tests.e2e.test_faults import replies
from tests.servers.authorization_controls import Fault

pytestmark = pytest.mark.servers


def test_trap_46_no_secret_is_in_any_log_at_any_level(world: World, tmp_path: Path) -> None:
    bridge = world.bridge(tmp_path)
    world.provider.lifetime = 0
    passwords = []
    try:
        with running(bridge):
            for address in (ALICE, BOB):
                bridge.sign_in(world.provider, address)
                bridge.sign_in(world.provider, address, person=BOB if address == ALICE else ALICE, code=1)
                passwords.append(bridge.password(address))
                passwords.append(bridge.run("accounts", "password", address, "--rotate").strip())
                replies(bridge.login(address))
                replies(bridge.login(address, "wrong-CANARY-password"))
            with world.provider.failing("token", Fault.HTML):
                replies(bridge.login(ALICE))
            world.provider.revoke_person(BOB)
            replies(bridge.login(BOB))
            bridge.run("accounts", "adopt", ALICE, stdin="CANARY-adopted\n", code=1)
            bridge.get("/?code=CANARY-code&state=CANARY-state")
            bridge.run("accounts", "forget", ALICE, "--yes")
    finally:
        world.provider.lifetime = 3600
    assert "token.refreshed" in bridge.log
    assert "login.refused" in bridge.log
    key = (tmp_path / "key").read_text().strip()
    for secret in [*passwords, *world.provider.secrets, key, "CANARY"]:
        assert secret not in bridge.log
        assert base64.b64encode(secret.encode()).decode().rstrip("=")[:-1] not in bridge.log


def test_peer_16_files_are_for_the_owner_alone_and_hold_no_secret_in_clear(world: World, tmp_path: Path) -> None:
    bridge = world.bridge(tmp_path)
    with running(bridge):
        bridge.sign_in(world.provider, ALICE)
        password = bridge.password(ALICE)
        for path in tmp_path.rglob("*"):
            if path.is_file() and path.name != "config.yaml":
                assert path.stat().st_mode & 0o077 == 0, path
                content = path.read_bytes()
                assert password.encode() not in content
                for secret in world.provider.secrets:
                    assert secret.encode() not in content, path
        arguments = Path(f"/proc/{bridge.pid}/cmdline").read_bytes()
        assert b"CANARY" not in arguments
