"""config.example.yaml is also the manual, so everything in it must be right."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
import trustme

from bridge.config.load import LoadedConfig, json_schema, load_config

EXAMPLE = Path(__file__).parents[2] / "config.example.yaml"
ENVIRON = {
    "GMAIL_CLIENT_ID": "1234.apps.googleusercontent.com",
    "GMAIL_CLIENT_SECRET": "CANARY-1",
    "DATABASE_PASSWORD": "CANARY-2",
}
KEYRING = {"company": "CANARY-4", "exchange": "CANARY-5", "chat": "https://chat.example/CANARY-7"}
SETTING = re.compile(r"^( *)#([:|]) (.*)$")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """The files that the example names."""
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(tmp_path / "company-ca.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "server.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "server.key")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "office365.txt").write_text("CANARY-3\n")
    app = authority.issue_cert("app.example")
    app.cert_chain_pems[0].write_to_path(tmp_path / "secrets" / "exchange.pem")
    app.private_key_pem.write_to_path(tmp_path / "secrets" / "exchange.key")
    key = {"type": "service_account", "client_email": "bridge@project.example", "private_key": "CANARY-6"}
    (tmp_path / "secrets" / "workspace.json").write_text(json.dumps(key))
    return tmp_path


def write(directory: Path, text: str) -> Path:
    path = directory / "config.yaml"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    return path


def load(directory: Path, text: str) -> LoadedConfig:
    return load_config(write(directory, text), environ=ENVIRON, read_keyring=KEYRING.get)


def uncommented(*, alternatives: bool) -> str:
    """The example, all settings active; with `alternatives`, `#|` lines replace as many `#:` lines above them."""
    lines: list[str] = []
    was_alternative = False
    for line in EXAMPLE.read_text(encoding="utf-8").splitlines():
        if (match := SETTING.match(line)) is None:
            lines.append(line)
        elif match[2] == ":" or alternatives:
            setting = match[1] + match[3]
            if match[2] == "|" and not was_alternative:
                lines.pop()
            lines.append(setting)
        was_alternative = match is not None and match[2] == "|"
    return "\n".join(lines) + "\n"


def test_what_is_active_is_a_whole_configuration(directory: Path) -> None:
    loaded = load(directory, EXAMPLE.read_text(encoding="utf-8"))
    assert list(loaded.config.providers) == ["gmail"]
    assert [account.address for account in loaded.config.accounts] == ["alice@example.com"]
    assert not loaded.warnings


def test_every_comment_is_a_valid_setting(directory: Path) -> None:
    config = load(directory, uncommented(alternatives=False)).config
    assert list(config.providers) == ["gmail", "workspace", "office365", "exchange", "fastmail", "company"]
    assert [account.address for account in config.accounts] == [
        "alice@example.com",
        "*@contoso.com",
        "sales@contoso.com",
        "*@fabrikam.com",
    ]
    assert config.store.path == str(directory / "tokens.sqlite")
    assert [door.tls for door in config.listeners.smtp] == [None, "implicit", "implicit", "starttls"]


def test_every_alternative_is_a_valid_setting(directory: Path) -> None:
    config = load(directory, uncommented(alternatives=True)).config
    assert config.store.url is not None
    assert config.store.url.reveal() == "postgresql+psycopg://bridge:CANARY-2@db.example.com/mailbridge"
    assert config.listeners.pop3 == ()


def test_a_commented_value_that_has_a_default_shows_it(directory: Path) -> None:
    shown, plain = (
        load(directory, text).config for text in (uncommented(alternatives=False), EXAMPLE.read_text(encoding="utf-8"))
    )
    assert shown.log.model_copy(update={"file": None}) == plain.log
    assert shown.console == plain.console
    assert shown.language == plain.language
    assert shown.listeners.imap == plain.listeners.imap
    assert shown.listeners.pop3 == plain.listeners.pop3
    gmail, preset = shown.providers["gmail"], plain.providers["gmail"]
    assert gmail.effective_scopes == preset.effective_scopes
    assert gmail.token_url == preset.token_url


def test_every_key_of_the_schema_is_explained() -> None:
    def keys(part: Any) -> set[str]:
        if isinstance(part, list):
            return set().union(*map(keys, part))
        if not isinstance(part, dict):
            return set()
        return set(part.get("properties", {})) | set().union(*map(keys, part.values()))

    text = EXAMPLE.read_text(encoding="utf-8")
    assert {key for key in keys(json_schema()) if not re.search(rf"\b{key}:", text)} == set()


def test_the_first_line_tells_editors_where_the_schema_is() -> None:
    assert EXAMPLE.read_text(encoding="utf-8").startswith("# yaml-language-server: $schema=./config.schema.json\n")


def test_the_ten_lines_of_readme_are_a_whole_configuration(directory: Path) -> None:
    readme = (EXAMPLE.parent / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^ *```yaml\n(.*?)^ *```$", readme, re.MULTILINE | re.DOTALL)
    (block,) = [block for block in blocks if "providers:" in block]
    loaded = load_config(
        write(directory, textwrap.dedent(block)), environ=ENVIRON, read_keyring={"office365": "CANARY-5"}.get
    )
    assert [account.address for account in loaded.config.accounts] == ["alice@example.com", "bob@contoso.com"]
