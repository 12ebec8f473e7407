"""The program in French: its commands, across processes and across a restart."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from tests.e2e.bridge import Bridge, configuration, free_ports, running
from tests.servers.authorization import AuthorizationServer

ALICE = "alice@example.com"
ENDED = "Il a été mis fin à la connexion (mot de passe changé ou sessions révoquées). Veuillez vous reconnecter."


@pytest.fixture
def bridge(authorization_server: AuthorizationServer, tmp_path: Path) -> Bridge:
    """Its provider is real, and its mail server not there."""
    authorization_server.people.add(ALICE)
    authorization_server.lifetime = 0  # each use of a token needs a refresh
    (closed,) = free_ports(1)
    provider = authorization_server.microsoft_config() | {
        "imap": {"host": "localhost", "port": closed, "tls": "implicit"}
    }
    accounts = [{"address": ALICE, "provider": "office365"}]
    bridge = Bridge(tmp_path, configuration(tmp_path, {"office365": provider}, accounts, language="fr"))
    authorization_server.allow_redirect(f"http://localhost:{bridge.console_port}/")
    return bridge


def test_a_person_is_told_in_french_what_has_happened(
    bridge: Bridge, authorization_server: AuthorizationServer
) -> None:
    with running(bridge):
        assert "Personne ne s’est encore connecté." in bridge.run("accounts", "list")
        said = bridge.sign_in(authorization_server, ALICE)
        assert f"{ALICE} est connecté sous le nom de {ALICE}." in said
        assert "IMAP  ne fonctionne pas\u00a0: Le serveur de messagerie est indisponible pour le moment." in said
        authorization_server.revoke_person(ALICE)
        bridge.run("accounts", "check", ALICE, code=1)
        assert ENDED in bridge.run("status")
    assert ENDED in bridge.run("accounts", "list")  # by another process, from what is stored
    bridge.config["language"] = "en"
    assert ENDED not in bridge.run("accounts", "list")
    assert "Sign in again, please." in bridge.run("accounts", "list")


@pytest.mark.parametrize(("variable", "value"), [("LC_ALL", "fr_FR.UTF-8"), ("LC_MESSAGES", "fr_CA.UTF-8")])
def test_without_a_configured_language_the_system_decides(bridge: Bridge, variable: str, value: str) -> None:
    del bridge.config["language"]
    assert "Nobody has signed in yet." in bridge.run("accounts", "list")
    bridge.environment = {"LC_ALL": "", "PYTHONUTF8": "1", variable: value}
    assert "Personne ne s’est encore connecté." in bridge.run("accounts", "list")


def test_check_speaks_french_and_its_json_stays_english(bridge: Bridge) -> None:
    port = int(bridge.config["listeners"]["pop3"].rsplit(":", 1)[1])
    with socket.create_server(("127.0.0.1", port)):
        said = bridge.run("check", code=2)
        found = json.loads(bridge.run("check", "--json", code=2))
    assert f"ÉCHEC   port pop3 127.0.0.1:{port}: " in said
    assert "occupé par" in said
    assert "à l’administrateur de mail-bridge d’agir" in said
    (held,) = [one for one in found if one["outcome"] == "failed"]
    assert held["detail"].startswith("in use by")


def test_the_log_stays_english(bridge: Bridge, authorization_server: AuthorizationServer) -> None:
    with running(bridge):
        bridge.sign_in(authorization_server, ALICE)
        authorization_server.revoke_person(ALICE)
        bridge.run("accounts", "check", ALICE, code=1)
    assert "Sign in again, please." in bridge.log
    assert "Veuillez" not in bridge.log
