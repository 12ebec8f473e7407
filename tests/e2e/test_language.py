"""The program in French: its commands, in several processes and after a restart."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import pytest

from bridge.ui.cli.calling import own_program, with_config
from tests.conftest import COVERAGE
from tests.e2e.bridge import Bridge, configuration, running
from tests.servers.authorization import AuthorizationServer
from tests.servers.daemons import free_ports

ALICE = "alice@example.com"
ENDED = "Il a été mis fin à la connexion (mot de passe changé ou sessions révoquées). Veuillez vous reconnecter."


@pytest.fixture
def bridge(authorization_server: AuthorizationServer, tmp_path: Path) -> Bridge:
    """A bridge whose provider is real and whose mail server does not exist."""
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
        said = bridge.authorize(authorization_server, ALICE)
        assert f"{ALICE} est connecté en tant que {ALICE}." in said
        assert "IMAP  ne fonctionne pas\u00a0: Le serveur de messagerie est indisponible pour le moment." in said
        authorization_server.revoke_person(ALICE)
        bridge.run("accounts", "check", ALICE, code=1)
        assert ENDED in bridge.run("status")
    assert ENDED in bridge.run("accounts", "list")  # by another process, from what is stored
    bridge.config["language"] = "en"
    assert ENDED not in bridge.run("accounts", "list")
    assert "Please sign in again." in bridge.run("accounts", "list")


@pytest.mark.skipif(os.name != "posix", reason="a shell stands for the browser")
@pytest.mark.parametrize("program", [{}, {"LANGUAGE": "de:en"}], ids=["none", "its own"])
def test_the_browser_speaks_what_the_system_speaks(bridge: Bridge, program: dict[str, str]) -> None:
    """Chromium and GTK prefer LANGUAGE to everything else, so the bridge, which knows only two languages, must not set
    it for the browser."""
    seen, browser = bridge.directory / "seen", bridge.directory / "browser"
    browser.write_text(f"#!/bin/sh\necho \"${{LANGUAGE-none}}\" > '{seen}'\n")
    browser.chmod(0o755)
    bridge.environment = {"LC_ALL": "", "PYTHONUTF8": "1", "LANG": "de_DE.UTF-8", "BROWSER": f"{browser} %s", **program}
    with running(bridge):
        bridge.run("console")
    assert seen.read_text() == f"{program.get('LANGUAGE', 'none')}\n"


@pytest.mark.parametrize(("variable", "value"), [("LC_ALL", "fr_FR.UTF-8"), ("LC_MESSAGES", "fr_CA.UTF-8")])
def test_without_a_configured_language_the_system_decides(bridge: Bridge, variable: str, value: str) -> None:
    del bridge.config["language"]
    assert "Nobody has signed in yet." in bridge.run("accounts", "list")
    bridge.environment = {"LC_ALL": "", "PYTHONUTF8": "1", variable: value}
    assert "Personne ne s’est encore connecté." in bridge.run("accounts", "list")


@pytest.mark.parametrize("environment", [{"LANG": "fr_FR.UTF-8"}, {"LANG": "en_US.UTF-8", "LANGUAGE": "fr:en"}])
def test_help_and_mistakes_at_the_command_line_are_told_in_french(bridge: Bridge, environment: dict[str, str]) -> None:
    del bridge.config["language"]
    bridge.environment = {"LC_ALL": "", "PYTHONUTF8": "1", **environment}
    shown = bridge.run("--help")
    assert "Utilisation\u00a0: mail-bridge [OPTIONS] COMMANDE [ARGUMENTS]..." in shown
    assert "Démarrer mail-bridge et servir" in shown
    assert "Afficher ce message et quitter." in shown
    assert "\nOptions\u00a0:\n" in shown
    assert "ADDRESS" not in bridge.run("authorize", "--help")
    assert "Il n’y a pas d’option '--frob'." in bridge.run("status", "--frob", code=2)
    assert "Il manque l’argument 'ADRESSE'." in bridge.run("accounts", "password", code=2)
    assert "'check'" in bridge.run("chek", code=2)
    assert "c’est un dossier" in bridge.run("import", "/", code=2)
    assert "n’est pas dans l’intervalle" in bridge.run("init", "--browser", "--port", "70000", code=2)
    assert "--full va avec --report FICHIER" in bridge.run("check", "--full", code=2)


@pytest.mark.parametrize("group", [(), ("accounts",), ("service",)])
def test_what_commands_do_is_told_in_one_form(bridge: Bridge, group: tuple[str, ...]) -> None:
    """In French all of them begin with an infinitive, since one list of commands stands below the other."""
    listed = bridge.run(*group, "--help").partition("\nCommandes\u00a0:\n")[2]
    words = re.findall(r"^  [a-z]+ {2,}(?:Se )?(\w+)", listed, re.MULTILINE)
    verbs = [word for word in words if word != "Une"]  # "one line for each account"
    assert len(verbs) > 2
    assert all(verb.endswith(("er", "ir", "re")) for verb in verbs), verbs


def test_the_configured_language_wins_before_the_arguments_are_read(bridge: Bridge) -> None:
    assert "Afficher la version et quitter." in bridge.run("--help")
    bridge.config["language"] = "en"
    bridge.environment = {"LC_ALL": "", "PYTHONUTF8": "1", "LANG": "fr_FR.UTF-8"}
    assert "Show the version and exit." in bridge.run("--help")


def test_what_is_wrong_in_the_file_is_told_in_french_and_logged_in_english(bridge: Bridge) -> None:
    with running(bridge):
        bridge.config["accounts"][0]["provider"] = "ofice365"
        bridge.config["log"]["level"] = "loud"
        bridge.write_config()
        bridge.wait_for_log("no provider named 'ofice365' (did you mean 'office365'?)")
        assert "vouliez-vous" not in bridge.log
    said = bridge.run("check", code=2)
    assert (
        "accounts[0].provider: il n’y a pas de fournisseur nommé 'ofice365' (vouliez-vous dire 'office365'\u00a0?)"
        in said
    )
    assert "log.level: doit être debug, info, warning ou error, et non 'loud'" in said
    found = json.loads(bridge.run("check", "--json", code=2))
    assert any("no provider named 'ofice365'" in one["detail"] for one in found)
    assert "il n’y a pas de fournisseur nommé" in bridge.run("run", code=2)


def test_the_status_is_told_in_french_and_its_json_stays_english(bridge: Bridge) -> None:
    bridge.config["providers"]["office365"]["client_secret_expires"] = f"{date.today() + timedelta(days=3)}"
    program = with_config(own_program(), bridge.directory / "config.yaml")
    assert f"mail-bridge ne tourne pas (pour le démarrer\u00a0: {program} run)" in bridge.run("status", code=1)
    with running(bridge):
        said = bridge.run("status")
        assert "est en marche\n" in said
        assert "avertissement\u00a0: Le secret client du fournisseur office365 expire dans 3 jours" in said
        assert "0 session\n" in said
        assert f"○ {ALICE}\u00a0: connexion" in said
        (warning,) = bridge.json("status")["warnings"]
        assert warning.startswith("The client secret of office365 expires in 3 days")


def test_a_key_that_is_gone_is_told_in_french(bridge: Bridge) -> None:
    bridge.run("accounts", "password", ALICE)
    (bridge.directory / "key").unlink()
    said = bridge.run("run", code=2)
    assert said.startswith("mail-bridge ne peut pas démarrer\u00a0: le stockage a des enregistrements")
    assert "le stockage a des enregistrements" in bridge.run("check", code=2)
    assert "le stockage a des enregistrements" in bridge.run("accounts", "password", ALICE, code=1)
    assert "stockage" in bridge.run("accounts", "list")


def test_a_certificate_that_cannot_be_made_or_read_is_told_in_french(bridge: Bridge) -> None:
    bridge.config["listeners"]["imap"] = {"address": bridge.config["listeners"]["imap"], "tls": "implicit"}
    place = bridge.directory / "tls"
    place.write_text("")
    unusable = "où mail-bridge garde le certificat de ses ports, ne peut pas être utilisé"
    why = f"{place}, {unusable}\u00a0: un élément du chemin n’est pas un dossier"
    assert bridge.run("certificate", code=1).startswith(f"mail-bridge: {why}")
    assert bridge.run("run", code=2).startswith(f"mail-bridge ne peut pas démarrer\u00a0: {why}")
    place.unlink()
    bridge.run("certificate")
    (place / "made.pem").write_text("")
    assert "est endommagé\u00a0; restaurez-le depuis une sauvegarde" in bridge.run("certificate", code=1)


def test_a_mail_server_that_takes_no_connection_is_told_in_french(bridge: Bridge) -> None:
    assert "(connexion refusée)" in bridge.run("check", "--online", code=1)


def test_what_an_account_is_refused_for_is_told_in_french_across_processes(bridge: Bridge) -> None:
    with running(bridge):
        unknown = bridge.run("accounts", "password", "nobody@example.com", code=1)
        assert "nobody@example.com n’est pas dans la configuration" in unknown
        short = bridge.run("accounts", "password", ALICE, "--set-from-stdin", code=2, stdin="short\n")
        assert "le mot de passe local doit avoir au moins 12 caractères" in short


def test_scripts_are_told_in_french(bridge: Bridge, authorization_server: AuthorizationServer) -> None:
    told = bridge.directory / "told"
    script = bridge.directory / "tell.sh"
    script.write_text('#!/bin/sh\nprintf %s "$MAIL_BRIDGE_REASON" > "$1"\n')
    script.chmod(0o755)
    bridge.config["notify"] = {"command": ["./tell.sh", str(told)]}
    bridge.config["providers"]["office365"]["client_secret_expires"] = f"{date.today() + timedelta(days=3)}"
    with running(bridge):
        bridge.wait_for_log("hook=command")
    assert told.read_text("utf-8").startswith("Le secret client du fournisseur office365 expire dans 3 jours")


def test_the_demo_is_shown_in_french(tmp_path: Path) -> None:
    environment = {**COVERAGE, "PATH": os.environ["PATH"], "HOME": str(tmp_path), "LANG": "fr_FR.UTF-8"}
    environment |= {"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "bridge", "run", "--demo"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8"
    ) as demo:
        assert demo.stdout is not None
        try:
            lines = []
            for line in demo.stdout:
                lines.append(line)
                if line.startswith("Ctrl-C arrête"):
                    break
            guide = "".join(lines)
            assert "2. Connectez-vous, une seule fois\u00a0: ouvrez http://localhost:" in guide
            assert "mot de passe local" in guide
            page = re.search(r"ouvrez (\S+) et cliquez sur Se connecter", guide)
            assert page is not None
            last = f"Ctrl-C arrête la démonstration. Pour du vrai courrier\u00a0: {own_program()} init\n"
            assert lines[-1] == last
            demo.send_signal(signal.SIGTERM)
            rest = demo.stdout.read()
            assert demo.wait(30) == 0
        finally:
            demo.kill()  # otherwise a failed test would wait for its end
    assert rest.endswith("La démonstration est terminée\u00a0; il n’en reste rien.\n")
    assert not re.search(r"\b(the|mailbox|password)\b", guide)


def test_check_speaks_french_and_its_json_stays_english(bridge: Bridge) -> None:
    port = int(bridge.config["listeners"]["pop3"].rsplit(":", 1)[1])
    with socket.create_server(("127.0.0.1", port)):
        said = bridge.run("check", code=2)
        found = json.loads(bridge.run("check", "--json", code=2))
    assert f"ÉCHEC      port pop3 127.0.0.1:{port}\u00a0: " in said
    assert "non essayé stockage\u00a0: pas encore créé" in said
    assert said.count("non essayé") == len([one for one in found if one["outcome"] == "skipped"])
    assert "occupé par" in said
    assert "administrateur de mail-bridge" not in said, "that is who reads it"
    (held,) = [one for one in found if one["outcome"] == "failed"]
    assert held["detail"].startswith("in use by")
    assert held["turn"] == "app-admin"


def test_the_log_stays_english(bridge: Bridge, authorization_server: AuthorizationServer) -> None:
    with running(bridge):
        bridge.authorize(authorization_server, ALICE)
        authorization_server.revoke_person(ALICE)
        bridge.run("accounts", "check", ALICE, code=1)
    assert "Please sign in again." in bridge.log
    assert "Veuillez" not in bridge.log
