"""A report can be forwarded safely: the canary, which stands for a secret, is nowhere in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.advice.base import Turn
from bridge.config.load import parse_config
from bridge.config.schema import Config
from bridge.control.contract import Finding, Outcome
from bridge.doctor.report import NO_CONFIGURATION, NO_LOG, Case, line_of, redacted, report
from bridge.secret import Secret

TEXT = """
providers:
  it:
    kind: oauth2
    client_id: the-client
    client_secret: CANARY-client-secret
    authorization_url: https://idp.example/a?key=CANARY-query
    token_url: https://idp.example/t
    scopes: [mail]
    imap: {host: imap.example.com}
accounts:
  - {address: alice.meyer@example.com, provider: it, aliases: [al]}
  - {address: "*@contoso.com", provider: it}
store: {url: "postgresql://bridge:CANARY-password@db/x"}
notify: {command: [tell, --key, CANARY-argument], webhook: "https://chat.example/CANARY-path"}
"""
FINDINGS = (
    Finding(
        "token", "alice.meyer@example.com", Outcome.FAILED, "open {url}", (("url", "http://x/bo@b.example"),), Turn.USER
    ),
    Finding("store", "", Outcome.FAILED, "{problem}", (("problem", "refused CANARY-password; Bearer abcdefghi"),)),
)


@pytest.fixture
def config() -> Config:
    return parse_config(TEXT, directory=Path("/nowhere"), environ={}).config


def test_the_canary_is_nowhere_and_what_helps_is_there(config: Config, tmp_path: Path) -> None:
    log = tmp_path / "mail-bridge.log"
    log.write_text("x\n" * 100_000 + "login.refused account=alice.meyer@example.com password=CANARY-logged\n")
    for is_full in (False, True):
        text = report(Case(FINDINGS, config, "config.yaml", log), is_full=is_full)
        assert "CANARY" not in text
        assert "abcdefghi" not in text
        assert "client_secret: (set)" in text
        assert "imap.example.com" in text
        assert "the-client" in text
        assert "command: [tell, …]" in text
        assert "login.refused" in text
        assert text.count("\nx\n") < 300
        assert "Python 3" in text
        assert "aiohttp" in text


def test_addresses_are_shortened_unless_they_are_wanted(config: Config) -> None:
    short = report(Case(FINDINGS, config, "config.yaml"))
    assert "alice.meyer" not in short
    assert "a…r@example.com" in short
    assert "/b…@b.example" in short
    assert redacted("token alice.meyer@contoso: open") == "token a…r@contoso: open"  # of an intranet: without a dot
    assert "*@contoso.com" in short  # a whole domain names no person
    full = report(Case(FINDINGS, config, "config.yaml"), is_full=True)
    assert "alice.meyer@example.com" in full


def test_without_a_configuration_and_without_a_log_that_is_said() -> None:
    text = report(Case(FINDINGS, None, "config.yaml"))
    assert NO_CONFIGURATION in text
    assert NO_LOG in text


def test_the_home_directory_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/alice")
    assert redacted("the file /home/alice/key") == "the file ~/key"


def test_a_short_secret_tears_no_words_apart() -> None:
    assert redacted("the store", [Secret("e")]) == "the store"


def test_a_line_says_outcome_subject_sentence_and_turn() -> None:
    assert line_of(FINDINGS[0]) == (
        "failed  token alice.meyer@example.com: open http://x/bo@b.example  [the person whose mailbox it is must act]"
    )
