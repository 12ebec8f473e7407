"""`mail-bridge import`, as an administrator runs it once."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.config.load import load_config, parse_config
from bridge.ui.cli.main import run_command_line
from tests.config.importers.examples import (
    CANARY,
    GMAIL_SERVERS,
    OFFICE365_SERVERS,
    TOKENS,
    company,
    gmail,
    office365,
    server,
    yahoo,
)

TEXT = GMAIL_SERVERS + OFFICE365_SERVERS + gmail() + TOKENS + office365() + TOKENS


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "old" / "emailproxy.config"
    path.parent.mkdir()
    path.write_text(TEXT, encoding="utf-8")
    return path


def test_to_a_file_it_is_ready_to_use(old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "config.yaml"
    assert run_command_line(["import", str(old), "--output", str(output)]) == 0
    loaded = load_config(output, environ={})
    secrets = {name: provider.client_secret for name, provider in loaded.config.providers.items()}
    assert {name: secret and secret.reveal() for name, secret in secrets.items()} == {
        "gmail": f"{CANARY}-google",
        "office365": f"{CANARY}-microsoft",
    }
    assert loaded.warnings == ()
    said = capsys.readouterr()
    assert CANARY not in output.read_text(encoding="utf-8") + said.out + said.err
    assert said.out == ""
    assert f"wrote {output}" in said.err
    assert "check" in said.err


@pytest.mark.skipif(os.name != "posix", reason="Windows has access lists of directories instead")
def test_what_it_writes_is_for_its_owner_alone(old: Path, tmp_path: Path) -> None:
    output = tmp_path / "config.yaml"
    assert run_command_line(["import", str(old), "-o", str(output)]) == 0
    written = [output, *(tmp_path / "secrets").iterdir()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in written} == {0o600}
    assert len(written) == 3  # no temporary file is left
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700


def test_to_standard_output_nothing_is_written_and_variables_are_named(
    old: Path, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert run_command_line(["import", str(old)]) == 0
    said = capsysbinary.readouterr()
    environ = {"GMAIL_CLIENT_SECRET": "one", "OFFICE365_CLIENT_SECRET": "two"}
    config = parse_config(said.out.decode("utf-8"), directory=tmp_path, environ=environ).config
    assert [account.address for account in config.accounts] == ["alice@gmail.com", "bob@contoso.com"]
    assert all(variable.encode() in said.err for variable in environ)
    assert CANARY.encode() not in said.out + said.err
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["emailproxy.config", "old"]


@pytest.mark.parametrize("name", ["config.yaml", "secrets/gmail.txt"])
def test_nothing_is_overwritten_unless_forced(
    old: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / name
    there.parent.mkdir(exist_ok=True)
    there.write_text("mine", encoding="utf-8")
    command = ["import", str(old), "--output", str(tmp_path / "config.yaml")]
    assert run_command_line(command) == 2
    assert there.read_text(encoding="utf-8") == "mine"
    assert "--force" in capsys.readouterr().err
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 2  # the old configuration and this
    assert run_command_line([*command, "--force"]) == 0
    assert there.read_text(encoding="utf-8") != "mine"
    load_config(tmp_path / "config.yaml", environ={})


def test_the_old_file_is_never_the_output(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["import", str(old), "--output", str(old), "--force"]) == 2
    assert old.read_text(encoding="utf-8") == TEXT
    assert "name another" in capsys.readouterr().err


def test_what_is_missing_is_told_at_once(old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old.write_text(gmail(client_secret="", client_secret_encrypted=CANARY), encoding="utf-8")
    output = tmp_path / "config.yaml"
    assert run_command_line(["import", str(old), "--output", str(output)]) == 0
    said = capsys.readouterr().err
    assert "1. The client secret of gmail is not known" in said
    assert f"there is no file {tmp_path / 'secrets' / 'gmail.txt'}" in said
    assert CANARY not in said


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (f"client_secret = {CANARY}\n".encode(), "emailproxy.config:1: this comes before any [section]"),
        (b"[a@b.c]\n\x81\x8d", "emailproxy.config:2: "),
        (b"", "there is nothing to carry over"),
    ],
)
def test_a_malformed_file_is_a_sentence_with_its_line(
    old: Path, content: bytes, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    old.write_bytes(content)
    assert run_command_line(["import", str(old)]) == 2
    said = capsys.readouterr()
    assert words in said.err
    assert CANARY not in said.err
    assert said.out == ""


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["import", str(tmp_path / "nothing")]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_a_directory_is_made_and_one_that_cannot_be_is_told(
    old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "mail-bridge" / "config.yaml"
    assert run_command_line(["import", str(old), "--output", str(output)]) == 0
    load_config(output, environ={})
    capsys.readouterr()
    assert run_command_line(["import", str(old), "--output", str(output / "config.yaml")]) == 1
    assert f"{output / 'config.yaml'} cannot be written" in capsys.readouterr().err


def test_a_directory_is_no_file_to_overwrite(old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["import", str(old), "--output", str(tmp_path)]) == 1
    assert f"{tmp_path} cannot be written: Is a directory" in capsys.readouterr().err


def test_a_place_that_cannot_even_be_looked_at_is_told(
    old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in a directory that is closed to us. The test uses too long a name, because no directory is closed to root."""
    output = tmp_path / ("n" * 300)
    assert run_command_line(["import", str(old), "--output", str(output)]) == 1
    assert f"{output} cannot be written" in capsys.readouterr().err


def spoken(language: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LC_ALL": "", "LC_MESSAGES": "", "LANG": "", "LANGUAGE": language, "PYTHONUTF8": "1"}
    command = [sys.executable, "-m", "bridge", "import", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=True)


def comments(yaml: str) -> list[str]:
    found = re.findall(r"^ *# *(?:- )?(.*)$|  # (.*)$", yaml, re.MULTILINE)
    return [text for pair in found if (text := "".join(pair)) and not text.startswith("sign_in_as:")]


def test_comments_and_what_is_left_to_do_are_in_french(old: Path, tmp_path: Path) -> None:
    switches = (
        "[emailproxy]\nallow_catch_all_accounts = True\nencrypt_client_secret_on_first_use = True\nloglevel = 3\n"
    )
    text = switches + OFFICE365_SERVERS + server("IMAP-2993", "imap.gmail.com", 993, local_address="0.0.0.0")
    text += server("SMTP-70000", "smtp.gmail.com", 465) + company() + yahoo(redirect_uri="http://localhost/")
    text += gmail(client_secret="", client_secret_encrypted=CANARY, redirect_uri="http://127.0.0.1:8080/")
    text += office365(permission_url="", oauth2_flow="password") + office365("BOB@contoso.com") + office365("bad@")
    old.write_text(text, encoding="utf-8")
    english, french = (spoken(language, str(old)) for language in ("en", "fr"))
    assert len(comments(french.stdout)) > 20
    assert set(comments(english.stdout)) & set(comments(french.stdout)) == set()
    assert set(english.stderr.splitlines()) & set(french.stderr.splitlines()) == set()
    assert "1. Désormais, seuls les programmes de cette machine peuvent se connecter au port 2993." in french.stderr
    assert "Le secret client du fournisseur gmail n’est pas connu\u00a0: l’ancien fichier" in french.stderr
    assert "son port n’est pas entre 1 et 65535" in french.stdout
    assert "[BOB@contoso.com] (ligne " in french.stdout
    environ = dict.fromkeys(re.findall(r"\$\{(\w+)\}", french.stdout), "secret")
    configs = [parse_config(run.stdout, directory=tmp_path, environ=environ).config for run in (english, french)]
    assert configs[0] == configs[1]
    assert configs[1].accounts
