"""All checks together, beside the sessions of the bridge that runs."""

from __future__ import annotations

import re
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from bridge.demo.world import demo_world
from tests.silent import fall_silent, release
from tests.test_app import bridging


async def test_no_session_stands_still_for_a_certificate_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is on a network drive whose server is gone, and the administrator looks what is wrong."""
    monkeypatch.setattr("bridge.doctor.examination.MACHINE_SECONDS", 0.5)
    file = tmp_path / "server.pem"
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(file))
    given = f"imap: {{address: 127.0.0.1:1143, tls: implicit, certificate: {file}, key: {file}}}"
    async with demo_world() as world:
        world = replace(world, yaml=re.sub(r"imap: 127\.0\.0\.1:\d+", given, world.yaml))
        async with bridging(world) as it:
            fall_silent(file)
            help_at_last = threading.Timer(20, release, [file])
            help_at_last.start()
            findings = await it.app.examination(held_ports="ours").basics()
            assert help_at_last.is_alive(), "the sessions stood still"
            help_at_last.cancel()
            release(file)
    (found,) = (one for one in findings if one.check == "certificate")
    assert found.detail.startswith("nothing came of it within")
