"""What an administrator sees when a mail server no longer lets an account's mail programs in, on the real servers."""

from __future__ import annotations

import imaplib
from pathlib import Path

import pytest

from tests.e2e.bridge import Bridge, running
from tests.e2e.conftest import ALICE, BOB, World
from tests.e2e.logins import imap_says

pytestmark = pytest.mark.servers


def shown(bridge: Bridge) -> tuple[str, str]:
    """Alice's line of `mail-bridge status`, and Bob's."""
    alice, bob = (line for line in bridge.run("status").splitlines() if f" {ALICE}:" in line or f" {BOB}:" in line)
    return alice, bob


@pytest.mark.parametrize("workers", [1, 2])
def test_an_account_that_its_mail_server_keeps_out_is_in_trouble_until_it_is_let_in(
    world: World, tmp_path: Path, workers: int
) -> None:
    bridge = world.bridge(tmp_path)
    bridge.config["workers"] = workers
    script = tmp_path / "tell.sh"
    script.write_text('#!/bin/sh\necho "$MAIL_BRIDGE_EVENT $MAIL_BRIDGE_ACCOUNT $MAIL_BRIDGE_REASON" >> "$1"\n')
    script.chmod(0o755)
    bridge.config["notify"] = {"command": ["./tell.sh", str(tmp_path / "told")]}
    ready = f"● {ALICE}: ready", f"● {BOB}: ready"
    with running(bridge):
        for address in (ALICE, BOB):
            bridge.sign_in(world.provider, address)
        login = bridge.login(ALICE)
        for _ in range(4):  # so that each worker remembers it
            assert imap_says(login).startswith("1 OK")
        assert shown(bridge) == ready
        world.provider.kept_out.add(ALICE)
        try:
            answers = {imap_says(login) for _ in range(2)}
            assert all("refuses this account" in answer for answer in answers)
            bridge.wait_until(lambda: shown(bridge) != ready, "what has happened")
            alice, bob = shown(bridge)
            assert alice.startswith(f"▲ {ALICE}: trouble (The mail server accepts the sign-in but not this mailbox")
            assert "Authentication failed" in alice, "the server's own words, to be forwarded"
            assert bob == ready[1]
            (row,) = (row for row in bridge.json("accounts", "list") if row["address"] == ALICE)
            assert [(check["protocol"], check["is_ok"]) for check in row["checks"]][:1] == [("imap", False)]
            assert row["checks"][0]["failed_at"] > row["expires_at"] - 3700
            assert row["turn"] == "tenant-admin"
        finally:
            world.provider.kept_out.clear()
        with imaplib.IMAP4("localhost", login.imap, timeout=30) as program:
            program.login(login.username, login.password)
        bridge.wait_until(lambda: shown(bridge) == ready, "that it is let in again")
    told = (tmp_path / "told").read_text().splitlines()
    assert [line.split()[:2] for line in told] == [["login-refused", ALICE]]
