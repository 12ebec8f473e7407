"""A store in PostgreSQL that is away while the bridge starts, as on the morning after a power cut."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.bridge import running
from tests.e2e.conftest import BOB, World
from tests.e2e.logins import imap_says
from tests.servers import postgresql

pytestmark = pytest.mark.servers


def test_a_database_server_that_starts_after_the_bridge_is_waited_for(world: World, tmp_path: Path) -> None:
    """systemd would not start it again: that is for troubles which waiting does not mend."""
    with postgresql.running() as server:
        bridge = world.bridge(tmp_path)
        bridge.config["store"]["url"] = server.new_database().reveal()
        del bridge.config["store"]["path"]
        with running(bridge):
            bridge.sign_in(world.provider, BOB)
            login = bridge.login(BOB)
        server.stop()
        with running(bridge):
            assert "does not answer" in bridge.log
            assert imap_says(login).startswith("1 NO [UNAVAILABLE]")
            server.start()
            assert imap_says(login).startswith("1 OK"), bridge.log
        key_file = Path(bridge.config["store"]["key_file"])
        key_file.chmod(0o644)
        assert f"cannot start: the key file {key_file} can be read by other users" in bridge.run("run", code=2)
