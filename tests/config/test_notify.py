"""`notify:` in the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.config.load import parse_config
from bridge.config.schema import NotifyConfig
from bridge.errors import ConfigError

TEXT = """
providers: {it: {kind: google, client_id: c, client_secret: CANARY}}
accounts: [{address: alice@example.com, provider: it}]
"""


def notify(text: str, **environ: str) -> NotifyConfig:
    return parse_config(TEXT + text, directory=Path("/etc/mail"), environ=environ).config.notify


def problem(text: str, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        notify(text, **environ)
    assert "CANARY" not in str(caught.value)
    return str(caught.value)


def test_nobody_is_told_by_default() -> None:
    assert notify("") == NotifyConfig(command=(), webhook=None)


@pytest.mark.parametrize(
    ("written", "program"),
    [("notify-send", "notify-send"), ("./tell.sh", "/etc/mail/tell.sh"), ("/usr/bin/tell", "/usr/bin/tell")],
)
def test_a_path_is_relative_to_the_file_and_a_name_is_not(written: str, program: str) -> None:
    program = str(Path(program).absolute()) if "/" in program else program
    assert notify(f"notify: {{command: [{written}, ./argument]}}").command == (program, "./argument")


def test_a_webhook_is_a_secret() -> None:
    config = notify("notify: {webhook: '${HOOK}'}", HOOK="https://chat.example/CANARY")
    assert config.webhook is not None
    assert config.webhook.reveal() == "https://chat.example/CANARY"
    assert "CANARY" not in repr(config)
    assert notify("notify: {webhook: 'http://localhost:8080/x'}").webhook is not None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("notify: {webhook: 'http://chat.example/CANARY'}", "must begin with https://"),
        ("notify: {webhook: 'https://me:CANARY@chat.example/'}", "must not contain a user name or a password"),
        ("notify: {command: tell.sh}", "must be a list"),
        ("notify: {command: ['']}", "must begin with a program"),
        ("notify: {proxy: 'http://p:1'}", "belong to `webhook`"),
        ("notify: {webhook: 'https://chat.example/', ca_file: nowhere.pem}", "there is no file"),
        ("notify: {webhok: 'https://chat.example/'}", "did you mean 'webhook'"),
    ],
)
def test_what_is_wrong_is_said_without_the_url(text: str, words: str) -> None:
    assert words in problem(text)
    assert ":4:" in problem(text)
