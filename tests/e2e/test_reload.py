"""The configuration changes while mail flows."""

from __future__ import annotations

import imaplib
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.e2e.bridge import PYTHON, Bridge, running
from tests.e2e.conftest import ALICE, BOB, World
from tests.e2e.logins import replies
from tests.servers.daemons import free_ports

pytestmark = pytest.mark.servers


@pytest.fixture
def signed_in(world: World, tmp_path: Path) -> Iterator[Bridge]:
    with running(world.bridge(tmp_path)) as bridge:
        bridge.sign_in(world.provider, ALICE)
        yield bridge


def reload(bridge: Bridge, words: str) -> None:
    """Write the changed configuration and wait until the log has these words."""
    bridge.write_config()
    bridge.wait_for_log(words)


def test_an_account_that_is_added_works_and_an_open_session_goes_on(signed_in: Bridge, world: World) -> None:
    login = signed_in.login(ALICE)
    with imaplib.IMAP4("localhost", login.imap, timeout=30) as session:
        session.login(login.username, login.password)
        assert session.select("INBOX")[0] == "OK"
        signed_in.config["accounts"].append({"address": "dave@example.com", "provider": "gmail"})
        reload(signed_in, "account dave@example.com added")
        assert "must sign in" in replies(signed_in.login("dave@example.com"))["imap"]
        assert session.noop()[0] == "OK"


def test_a_moved_port_keeps_the_sessions_of_the_old_one(signed_in: Bridge) -> None:
    login = signed_in.login(ALICE)
    with imaplib.IMAP4("localhost", login.imap, timeout=30) as session:
        session.login(login.username, login.password)
        port = free_ports(1)[0]
        signed_in.config["listeners"]["imap"] = f"127.0.0.1:{port}"
        reload(signed_in, f"imap 127.0.0.1:{port} opened")
        assert session.select("INBOX")[0] == "OK"
        assert replies(signed_in.login(ALICE))["imap"] == "OK"
        signed_in.wait_until_refused(login.imap)


def test_an_invalid_change_changes_nothing_and_says_why(signed_in: Bridge) -> None:
    good = signed_in.config["accounts"][1]["provider"]
    signed_in.config["accounts"][1]["provider"] = "nobody"
    reload(signed_in, "accounts[1].provider")
    assert "config.yaml:" in signed_in.log
    signed_in.config["accounts"][1]["provider"] = good
    signed_in.config["store"]["url"] = "mysql://host/database"
    del signed_in.config["store"]["path"]
    reload(signed_in, "store.url: no store named 'mysql'")  # known without a restart
    assert replies(signed_in.login(ALICE))["imap"] == "OK"


def test_sighup_reads_the_file_at_once(signed_in: Bridge) -> None:
    assert signed_in.process is not None
    signed_in.process.send_signal(signal.SIGHUP)
    signed_in.wait_for_log("configuration.read")
    assert replies(signed_in.login(ALICE))["imap"] == "OK"
    assert signed_in.log.count("configuration.read") == 1


class Unnamed(Bridge):
    """A bridge started without --config, as most are: it looks for its configuration itself."""

    def command(self, *arguments: str) -> list[str]:
        return [PYTHON, "-m", "bridge", *arguments]


def test_the_file_that_was_found_at_the_start_is_read_again_and_no_other(world: World, tmp_path: Path) -> None:
    """Not even the one that is found in the same places while that is being replaced."""
    named, elsewhere = world.bridge(tmp_path / "mail-bridge"), tmp_path / "elsewhere"
    named.directory.mkdir()
    elsewhere.mkdir()
    other = {**named.config, "accounts": [{"address": "mallory@example.com", "provider": "gmail"}]}
    (elsewhere / "config.yaml").write_text(yaml.safe_dump(other))
    environment = {"XDG_CONFIG_HOME": str(tmp_path)}
    with running(Unnamed(named.directory, named.config, environment, ["env", "-C", str(elsewhere)])) as bridge:
        assert bridge.process is not None
        file = bridge.directory / "config.yaml"
        text = file.read_text()
        file.unlink()
        bridge.process.send_signal(signal.SIGHUP)
        bridge.wait_until(lambda: "configuration.re" in bridge.log, "read or refused")
        assert "config.yaml: there is no such file" in bridge.log
        assert "mallory" not in bridge.log
        file.write_text(text.replace(BOB, "dave@example.com"))
        bridge.wait_for_log("account dave@example.com added")


def test_a_changed_client_id_asks_exactly_its_own_people_again(signed_in: Bridge, world: World) -> None:
    signed_in.sign_in(world.provider, BOB)
    world.provider.register("another-client", "CANARY-another-secret", f"http://localhost:{signed_in.console_port}/")
    signed_in.config["providers"]["gmail"] |= {"client_id": "another-client", "client_secret": "CANARY-another-secret"}
    reload(signed_in, "everybody signs in again")
    assert "must sign in" in replies(signed_in.login(ALICE))["imap"]
    assert replies(signed_in.login(BOB))["imap"] == "OK"
    signed_in.sign_in(world.provider, ALICE)
    assert replies(signed_in.login(ALICE))["imap"] == "OK"
    assert signed_in.log.count("configuration.read") == 1, "what has not changed since is not read"


def test_a_port_that_is_taken_is_refused_and_the_rest_stays(signed_in: Bridge) -> None:
    taken = signed_in.config["listeners"]["pop3"]
    signed_in.config["listeners"]["imap"], before = (
        taken.replace("127.0.0.1", "localhost"),
        signed_in.config["listeners"]["imap"],
    )
    reload(signed_in, "configuration.refused")
    signed_in.config["listeners"]["imap"] = before
    assert replies(signed_in.login(ALICE))["imap"] == "OK"


def test_a_change_that_is_not_in_force_is_told_of_wherever_the_administrator_looks(signed_in: Bridge) -> None:
    """Not only in a log, which perhaps nobody keeps."""
    listeners, told = signed_in.config["listeners"], "the change has not taken effect: "
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        signed_in.config["listeners"] = {**listeners, "imap": f"127.0.0.1:{port}"}
        signed_in.config["workers"] = 3
        reload(signed_in, "configuration.refused")
        (warning,) = signed_in.json("status")["warnings"]
        assert told in warning
        assert str(port) in warning
        for options in ((), ("--online",)):
            (found,) = [one for one in signed_in.json_of("check", *options, code=2) if told in one["detail"]]
            assert (found["check"], found["outcome"], found["turn"]) == ("configuration", "failed", "app-admin")
        signed_in.config["listeners"] = listeners
        reload(signed_in, "workers: takes effect after a restart")
    told = "what it says about workers only takes effect after a restart"
    (warning,) = signed_in.json("status")["warnings"]
    assert told in warning
    (found,) = [one for one in signed_in.json_of("check", code=0) if told in one["detail"]]
    assert (found["check"], found["outcome"], found["turn"]) == ("configuration", "warning", "app-admin")
    del signed_in.config["workers"]
    signed_in.wait_until(lambda: signed_in.json("status")["warnings"] == [], "no warning any more")
