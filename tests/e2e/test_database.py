"""A store in PostgreSQL: not up yet when the bridge starts, as after a power cut; and in place of a file."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.e2e.bridge import running
from tests.e2e.conftest import BOB, World
from tests.e2e.logins import imap_says
from tests.servers import postgresql
from tests.servers.packages import needs

pytestmark = pytest.mark.servers


def test_a_database_server_that_starts_after_the_bridge_is_waited_for(world: World, tmp_path: Path) -> None:
    """The bridge must wait and not exit: systemd would not restart it, because exit code 2 is for what waiting cannot
    mend."""
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


GUIDES = Path(__file__).parents[2] / "docs" / "guides"


@pytest.mark.parametrize("language", ["en", "fr"])
def test_a_store_moves_to_a_database_by_the_commands_of_the_guide(world: World, tmp_path: Path, language: str) -> None:
    needs("sqlite3")
    page = (GUIDES / language / "office-server.md").read_text("utf-8")
    (commands,) = re.findall(r"^sqlite3 .*\npsql .*\n", page, re.MULTILINE)
    with postgresql.running() as server:
        bridge = world.bridge(tmp_path)
        with running(bridge):
            bridge.sign_in(world.provider, BOB)
            login = bridge.login(BOB)
        url = server.new_database().reveal()
        bridge.config["store"]["url"] = url
        del bridge.config["store"]["path"]
        bridge.run("check")
        commands = commands.replace("postgresql://bridge@db.contoso.lan/mailbridge", url.replace("+psycopg", ""))
        subprocess.run(["sh", "-ec", commands], cwd=tmp_path, check=True, timeout=60)
        (tmp_path / "store.sqlite").unlink()
        with running(bridge):
            assert imap_says(login).startswith("1 OK"), bridge.log
            assert bridge.password(BOB) == login.password
