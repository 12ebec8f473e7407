"""Environment variables that the configuration has used are not inherited by other programs."""

from __future__ import annotations

import os
import sys

import pytest

from bridge.host.environment import TakenEnvironment, environment_of_programs


def test_what_was_looked_up_is_not_inherited_and_can_be_looked_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in os.environ.items():  # values() removes them all, so monkeypatch has to restore them afterwards
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OFFICE_SECRET", "CANARY")
    monkeypatch.setenv("OTHER", "seen")
    taken = TakenEnvironment()
    assert taken.get("OFFICE_SECRET") == "CANARY"
    assert "OFFICE_SECRET" not in os.environ
    assert os.environ["OTHER"] == "seen"
    assert taken["OFFICE_SECRET"] == "CANARY"
    assert "OFFICE_SECRET" in taken
    assert "CANARY" in taken.values()
    assert len(taken) == len(list(taken))


def test_what_others_need_stays_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.example.com:3128")
    taken = TakenEnvironment()
    assert taken["PATH"] == os.environ["PATH"]
    assert taken["https_proxy"] == os.environ["https_proxy"]
    assert taken.get("NOT_SET") is None


@pytest.mark.parametrize(
    "name",
    [
        *("CREDENTIALS_DIRECTORY", "STATE_DIRECTORY", "CONFIGURATION_DIRECTORY", "LOGS_DIRECTORY", "RUNTIME_DIRECTORY"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "OPENSSL_CONF", "REQUESTS_CA_BUNDLE", "HTTPS_PROXY", "NO_PROXY"),
        *("PYTHON_KEYRING_BACKEND", "PYTHONASYNCIODEBUG", "XDG_DATA_HOME", "XDG_CURRENT_DESKTOP", "LC_MESSAGES"),
        *("LANGUAGE", "PYSTRAY_BACKEND", "MAIL_BRIDGE_CONFIG", "SUDO_UID", "BROWSER", "RES_OPTIONS", "PGSSLROOTCERT"),
    ],
)
def test_what_we_go_by_ourselves_stays_and_is_given_to_no_program(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A path to which the configuration refers is no secret, and without it the program would not find its files."""
    monkeypatch.setenv(name, "/run/somewhere")
    taken = TakenEnvironment()
    taken.take([name])
    assert taken[name] == os.environ[name] == "/run/somewhere"
    assert name not in environment_of_programs()


@pytest.mark.parametrize(
    "name", ["MAIL_BRIDGE_SECRET", "PGPASSWORD", "SSL_KEY_PASSWORD", "PYTHON_CLIENT_SECRET", "KEYRING_PROPERTY_KEY"]
)
def test_a_secret_is_taken_whatever_its_name_begins_with(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "CANARY")
    TakenEnvironment().take([name])
    assert name not in os.environ


def test_programs_get_a_handful_of_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFICE_SECRET", "CANARY")
    assert "CANARY" not in environment_of_programs().values()
    assert environment_of_programs()["PATH"] == os.environ["PATH"]


@pytest.mark.skipif(sys.platform != "win32", reason="elsewhere these are two variables")
def test_windows_knows_a_variable_by_any_spelling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another spelling may stand in a comment of the configuration, and names in comments are taken too."""
    monkeypatch.setenv("OFFICE_SECRET", "CANARY")
    taken = TakenEnvironment()
    taken.take(["office_secret", "Office_Secret"])
    assert "OFFICE_SECRET" not in os.environ
    assert taken["Office_Secret"] == taken["OFFICE_SECRET"] == "CANARY"
