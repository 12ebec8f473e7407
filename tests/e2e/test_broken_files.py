"""Files that the configuration names and that break after the start: reported in the reader's language."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.e2e.bridge import Bridge, Section, configuration, running
from tests.servers.authorization import AuthorizationServer
from tests.servers.daemons import free_ports
from tests.servers.service_accounts import add_service_account, service_account_config

ALICE = "alice@example.com"


@pytest.fixture
def ca_file(authorization_server: AuthorizationServer, tmp_path: Path) -> Path:
    return Path(shutil.copy(authorization_server.authority.ca_file, tmp_path / "company.pem"))


def bridge_of(provider: Section, directory: Path, **changes: object) -> Bridge:
    """A bridge in French whose mail server does not exist."""
    (closed,) = free_ports(1)
    whole = {**provider, "imap": {"host": "localhost", "port": closed, "tls": "implicit"}, **changes}
    accounts = [{"address": ALICE, "provider": "office"}]
    return Bridge(directory, configuration(directory, {"office": whole}, accounts, language="fr"))


def certified(server: AuthorizationServer, directory: Path, **changes: object) -> Bridge:
    mine = {"client_certificate": directory / "app.pem", "client_certificate_key": directory / "app.key"}
    for path, original in zip(mine.values(), server.authority.client_pair(), strict=True):
        shutil.copy(original, path)
        path.chmod(0o600)
    files = {name: str(path) for name, path in mine.items()}
    return bridge_of(server.certified_config(), directory, flow="client_credentials", **files, **changes)


def told(bridge: Bridge, language: str) -> str:
    """The output of the command that asks for a new token, and of `status` afterwards."""
    bridge.config["language"] = language
    return bridge.run("accounts", "check", ALICE, code=1) + bridge.run("status")


def test_a_client_certificate_that_breaks(authorization_server: AuthorizationServer, tmp_path: Path) -> None:
    bridge = certified(authorization_server, tmp_path)
    with running(bridge):
        (tmp_path / "app.key").unlink()
        french, english = told(bridge, "fr"), told(bridge, "en")
    key = tmp_path / "app.key"
    why = "ne peut pas être lu (aucun fichier ni dossier de ce nom)\u00a0: l’administrateur doit vérifier client_"
    assert french.count(f"Le fichier {key} {why}") == 2
    assert "administrator" not in french
    assert english.count(f"The file {key} cannot be read (No such file or directory): the administrator must") == 2
    assert f"{key} cannot be read (No such file or directory)" in bridge.log


def test_a_service_accounts_key_file_that_breaks(authorization_server: AuthorizationServer, tmp_path: Path) -> None:
    file = add_service_account(authorization_server, tmp_path / "key.json")
    file.chmod(0o600)
    bridge = bridge_of(service_account_config(authorization_server, file), tmp_path)
    with running(bridge):
        file.write_text(file.read_text("utf-8")[:900], "utf-8")
        french, english = told(bridge, "fr"), told(bridge, "en")
    assert french.count(f"{file}, n’est pas du JSON\u00a0: l’administrateur doit en mettre un nouveau en place") == 2
    assert "administrator" not in french
    assert english.count(f"{file} is not JSON: the administrator must put a new one in place") == 2


@pytest.mark.parametrize(
    ("content", "reason", "raison"),
    [
        (None, "No such file or directory", "aucun fichier ni dossier de ce nom"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n",
            "there is no certificate in PEM, or a damaged one",
            "il n’y a pas de certificat au format PEM, ou il est endommagé",
        ),
    ],
    ids=["gone", "damaged"],
)
def test_a_ca_file_that_breaks(
    authorization_server: AuthorizationServer,
    tmp_path: Path,
    ca_file: Path,
    content: str | None,
    reason: str,
    raison: str,
) -> None:
    bridge = certified(authorization_server, tmp_path, ca_file=str(ca_file))
    with running(bridge):
        ca_file.unlink()
        if content is not None:
            ca_file.write_text(content)
        french, english = told(bridge, "fr"), told(bridge, "en")
    assert french.count(f"(ca_file {ca_file}) ne peuvent pas être utilisés\u00a0: {raison}.") == 2
    assert "administrator" not in french
    assert english.count(f"(ca_file {ca_file}) cannot be used: {reason}. The administrator of mail-bridge must") == 2
    assert f"{reason}. The administrator" in bridge.log
