"""What people write, and what they are told."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.config.load import LoadedConfig, json_schema, load_config, parse_config
from bridge.config.providers import GoogleProvider, MicrosoftProvider
from bridge.errors import ConfigError, StoreUnavailable
from bridge.model import TlsMode
from bridge.secret import Secret
from tests.config.bad_values import BAD_VALUES, GOOD, MICROSOFT
from tests.servers.ca import Authority

CANARY = "CANARY-s3cret"
HERE = Path("/nowhere")

DESIGN = """\
# yaml-language-server: $schema=./config.schema.json
providers:
  gmail:
    kind: google                     # google | microsoft | oauth2 (any RFC 6749 provider)
    client_id: 1234.apps.googleusercontent.com
    client_secret: ${GMAIL_CLIENT_SECRET}        # ${ENV}, ${file:path}, ${keyring:name} or the text itself
  office365:
    kind: microsoft
    client_id: 11111111-2222-3333-4444-555555555555
    client_secret: ${keyring:office365}
    authorization_url: https://login.microsoftonline.com/<tenant>/oauth2/v2.0/authorize    # as the portal shows them
    token_url: https://login.microsoftonline.com/<tenant>/oauth2/v2.0/token
    redirect_uri: http://localhost:3017/                                                # type Web, exactly so
accounts:
  - address: alice@example.com
    provider: gmail
  - address: "*@contoso.com"         # everybody of a domain, without a line for each
    provider: office365
  - address: sales@contoso.com       # shared mailbox: alice signs in, XOAUTH2 names sales@
    provider: office365
    sign_in_as: alice@contoso.com
listeners:                           # defaults shown
  imap: 127.0.0.1:1143
  pop3: 127.0.0.1:1110
  smtp: 127.0.0.1:1587
console: 127.0.0.1:3017              # status page, sign-in, redirect target
store: {path: tokens.sqlite, key_file: /etc/mail-bridge/key}
log: {level: info, format: text}     # text | json; --log-level on the command line wins
language: auto                       # en | fr | auto
"""


def load(text: str, directory: Path = HERE, **environ: str) -> LoadedConfig:
    return parse_config(text, directory=directory, environ=environ, read_keyring={"office365": CANARY}.get)


def problems(text: str, directory: Path = HERE, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(text, directory, **environ)
    assert CANARY not in "".join(traceback.format_exception(caught.value))
    return list(caught.value.problems)


def edited(*changes: tuple[str, str], text: str = GOOD) -> str:
    for before, after in changes:
        assert before in text
        text = text.replace(before, after, 1)
    return text


# --- what is right --------------------------------------------------------------------------------------------------


def test_the_design_example_loads() -> None:
    loaded = load(DESIGN.replace("<tenant>", "contoso.com"), GMAIL_CLIENT_SECRET=CANARY)
    gmail, office365 = loaded.config.providers["gmail"], loaded.config.providers["office365"]
    assert isinstance(gmail, GoogleProvider)
    assert gmail.client_secret == Secret(CANARY)
    assert isinstance(office365, MicrosoftProvider)
    assert office365.authority == "https://login.microsoftonline.com/contoso.com"
    assert loaded.config.accounts[2].sign_in_as == "alice@contoso.com"
    assert loaded.config.store.path == "/nowhere/tokens.sqlite"
    assert loaded.config.store.key_file == "/etc/mail-bridge/key"
    assert CANARY not in repr(loaded)


@pytest.mark.parametrize("written", ["1234", "011", "on", "0x1F", "1_000", "12:30", "2024-01-01", "1e3", "yes"])
def test_a_text_field_takes_the_text_as_written(written: str) -> None:
    text = edited(("1234.apps.googleusercontent.com", written), ("client_secret: text", f"client_secret: {written}"))
    provider = load(text).config.providers["gmail"]
    assert provider.client_id == written
    assert provider.client_secret is not None
    assert provider.client_secret.reveal() == written


def test_numbers_and_truth_values_are_read_where_they_are_expected() -> None:
    text = """\
providers:
  365: {kind: microsoft, client_id: 1, tenant: contoso.com, discovery: off, imap: {port: '1993', tls: implicit}}
accounts: [{address: a@contoso.com, provider: 365}]
"""
    provider = load(text).config.providers["365"]
    assert isinstance(provider, MicrosoftProvider)
    assert provider.discovery is False
    assert provider.imap is not None
    assert (provider.imap.port, provider.imap.tls) == (1993, TlsMode.IMPLICIT)


@pytest.mark.parametrize("off", ["off", "Off", "no", "false", "~", "[]", "'off'", "'${OFF}'"])
def test_a_listener_can_be_off(off: str) -> None:
    config = load(f"{GOOD}listeners: {{pop3: {off}}}\n", OFF="off").config
    assert config.listeners.pop3 == ()
    assert len(config.listeners.imap) == 1


def test_one_listener_may_be_a_text_a_section_or_a_list() -> None:
    config = load(f"{GOOD}listeners:\n  imap: {{address: localhost:1}}\n  pop3: ['[::1]:2', 127.0.0.1:3]\n").config
    assert [(door.host, door.port) for door in config.listeners.imap] == [("localhost", 1)]
    assert [(door.host, door.port) for door in config.listeners.pop3] == [("::1", 2), ("127.0.0.1", 3)]


def test_a_section_whose_settings_are_all_commented_out_is_as_good_as_none() -> None:
    assert load(f"{GOOD}log:\n  # level: debug\nlanguage:\n").config == load(GOOD).config


@pytest.mark.parametrize("text", ["\ufeff" + GOOD, GOOD.replace("\n", "\r\n"), "---\n" + GOOD, GOOD + "...\n"])
def test_byte_order_mark_crlf_and_document_marks_are_accepted(text: str) -> None:
    assert load(text).config == load(GOOD).config


def test_anchors_aliases_and_merge_keys_work_and_keep_the_places_of_where_they_are_used() -> None:
    text = """\
providers:
  one: &one {kind: microsoft, client_id: a, tenant: contoso.com}
  two:
    <<: *one
    client_id: b
accounts:
  - &alice {address: a@contoso.com, provider: two}
"""
    loaded = load(text)
    assert [provider.client_id for provider in loaded.config.providers.values()] == ["a", "b"]
    assert problems(text.replace("client_id: b", "client_id: []")) == [
        "config.yaml:5:5: providers.two.client_id: must be a text"
    ]
    bad = text.replace("provider: two}", "provider: two}\n  - *alice")
    assert problems(bad) == [
        "config.yaml:7:13: accounts[1].address: 'a@contoso.com' is an account or an alias already, in line 7"
    ]


def test_paths_are_relative_to_the_file_and_absolute_once_loaded(tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    text = edited(("client_secret: text", "client_secret: text\n    ca_file: ca.pem"))
    config = load(f"{text}store: {{path: ~/tokens.sqlite, key_file: sub/key}}\n", tmp_path).config
    assert config.providers["gmail"].ca_file == str(tmp_path / "ca.pem")
    assert config.store.path == str(Path.home() / "tokens.sqlite")
    assert config.store.key_file == str(tmp_path / "sub" / "key")


def test_trap_08_one_token_for_the_mail_servers_is_asked_for_not_one_of_graph() -> None:
    provider = load(MICROSOFT).config.providers["office365"]
    assert all(scope.startswith("https://outlook.office.com/") for scope in provider.effective_scopes)


@pytest.mark.parametrize("scope", ["User.Read", "https://graph.microsoft.com/IMAP.AccessAsUser.All"])
def test_trap_09_a_scope_of_graph_beside_those_of_the_mail_servers_is_refused(scope: str) -> None:
    scopes = f"scopes: [https://outlook.office.com/IMAP.AccessAsUser.All, {scope}]"
    with pytest.raises(ConfigError, match=r"one token is for one service|must be"):
        load(MICROSOFT.replace("kind: microsoft", f"kind: microsoft\n    {scopes}"))


def test_peer_17_every_port_is_on_loopback_unless_the_admin_says_otherwise() -> None:
    config = load(GOOD).config
    listeners = config.listeners
    addresses = [*listeners.imap, *listeners.pop3, *listeners.smtp, config.console]
    assert {address.host for address in addresses} == {"localhost", "127.0.0.1"}
    with pytest.raises(ConfigError, match="can be reached from other machines"):
        load(f"{GOOD}listeners: {{imap: '0.0.0.0:1143'}}\n")


def test_trap_25_the_browser_comes_back_to_the_console_wherever_that_is() -> None:
    assert load(f"{GOOD}console: 127.0.0.1:4000\n").config.providers["gmail"].redirect_uri == "http://localhost:4000/"
    elsewhere = edited(("client_secret: text", "client_secret: text\n    redirect_uri: https://mail.example.com/back"))
    assert load(elsewhere).config.providers["gmail"].redirect_uri == "https://mail.example.com/back"


# --- references -----------------------------------------------------------------------------------------------------


def secret_of(written: str, directory: Path = HERE, **environ: str) -> str:
    provider = load(edited(("client_secret: text", f"client_secret: {written}")), directory, **environ)
    secret = provider.config.providers["gmail"].client_secret
    assert secret is not None
    return secret.reveal()


@pytest.mark.parametrize(
    ("written", "resolved"),
    [
        ("${A}", "one"),
        ("x-${A}-${B}-y", "x-one-${A}-y"),  # what came in is not looked at again
        ("$${A}", "${A}"),
        ("$$${A}", "$${A}"),
        ("a$b {A} $A", "a$b {A} $A"),
        ("${keyring:office365}", CANARY),
        ("'${file:secret.txt}'", "from file"),
        ("'${file:two.txt}'", "two\nlines"),
    ],
)
def test_references_resolve_once(written: str, resolved: str, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_bytes(b"\xef\xbb\xbffrom file\r\n")
    (tmp_path / "two.txt").write_bytes(b"two\nlines\n")
    assert secret_of(written, tmp_path, A="one", B="${A}") == resolved


def test_a_number_may_come_from_the_environment() -> None:
    text = edited(("client_secret: text", "client_secret: text\n    imap: {port: '${PORT}'}"))
    assert load(text, PORT="1993").config.providers["gmail"].imap is not None


def test_a_named_secret_is_asked_for_once() -> None:
    asked: list[str] = []

    def read(name: str) -> str:
        asked.append(name)
        return CANARY

    text = edited(("client_secret: text", "client_secret: '${keyring:a}${keyring:a}'"))
    parse_config(text, directory=HERE, environ={}, read_keyring=read)
    assert asked == ["a"]


GRAMMAR = (
    "a reference is ${NAME} for an environment variable, ${file:path} or ${keyring:name}; for a literal ${ write $${"
)


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        (
            "${NOPE}",
            "the environment variable NOPE is not set; set it where mail-bridge starts, or use ${file:path} or "
            "${keyring:name} in its place",
        ),
        (
            "${EMPTY}",
            "the environment variable EMPTY is empty; set it where mail-bridge starts, or use ${file:path} or "
            "${keyring:name} in its place",
        ),
        (
            "'${file:none.txt}'",
            "there is no file {directory}/none.txt; create it, or correct the path (relative to the YAML's)",
        ),
        ("'${file:empty.txt}'", "the file {directory}/empty.txt is empty"),
        ("'${file:binary}'", "the file {directory}/binary is not UTF-8 text; save it as UTF-8"),
        ("'${file:large}'", "the file {directory}/large is larger than 64 KiB; it is not what a setting holds"),
        ("'${keyring:nope}'", "the keyring has no entry 'nope'; store it with: keyring set mail-bridge nope"),
        ("'${env:A}'", GRAMMAR),
        ("'${}'", GRAMMAR),
        ("'${A B}'", GRAMMAR),
        ("'${file:}'", GRAMMAR),
        ("${A", "after ${ comes no closing }; for a literal ${ write $${"),
        ("'${file:${A}}'", "a reference cannot stand inside another; for a literal ${ write $${"),
    ],
)
def test_a_reference_that_leads_nowhere_names_the_remedy(written: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_bytes(b"\n")
    (tmp_path / "binary").write_bytes(b"CANARY-s3cret\xff")
    (tmp_path / "large").write_bytes(b"x" * (64 * 1024 + 1))
    found = problems(edited(("client_secret: text", f"client_secret: {written}")), tmp_path, A=CANARY, EMPTY="")
    expected = sentence.replace("{directory}", str(tmp_path))
    assert found == [f"config.yaml:5:5: providers.gmail.client_secret: {expected}"]


def test_without_a_keyring_the_other_kinds_of_reference_are_named() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(edited(("text", "'${keyring:a}'")), directory=HERE, environ={})
    assert str(caught.value) == (
        "config.yaml:5:5: providers.gmail.client_secret: there is no keyring here; use ${ENV} or ${file:path} in place "
        "of ${keyring:…}"
    )


def test_a_keyring_that_does_not_answer_is_a_problem_with_a_place() -> None:
    def read(name: str) -> str:
        raise StoreUnavailable("the OS keyring does not answer; unlock it")

    with pytest.raises(ConfigError) as caught:
        parse_config(edited(("text", "'${keyring:a}'")), directory=HERE, environ={}, read_keyring=read)
    assert str(caught.value) == (
        "config.yaml:5:5: providers.gmail.client_secret: the OS keyring does not answer; unlock it"
    )


def test_a_reference_in_a_key_is_refused() -> None:
    assert problems(f"{GOOD}log: {{'${{A}}': info}}\n", A=CANARY) == [
        "config.yaml:9:7: log: a ${…} reference can stand in a value, not in a key"
    ]


# --- syntax ---------------------------------------------------------------------------------------------------------

NESTED = "this is nested more than 32 levels deep"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "1:1: the file is empty; it needs `providers` and `accounts` (config.example.yaml shows how)"),
        ("# no\n\n", "1:1: the file is empty; it needs `providers` and `accounts` (config.example.yaml shows how)"),
        ("hello", "1:1: the file must consist of keys such as `providers:` and `accounts:`"),
        ("- a", "1:1: the file must consist of keys such as `providers:` and `accounts:`"),
        ("a:\n\tb: 1", "2:1: a tab stands here, and YAML indents with spaces"),
        ("a: @b", "1:4: a text that begins with this character must be put in quotes"),
        ("a: *@contoso.com", '1:4: put it in quotes: "*@example.com" (a bare * means an alias)'),
        (
            "a: *CANARY-s3cret",
            "1:4: a text that begins with * must be put in quotes (or: there is no anchor of this name)",
        ),
        ("a: 'b", "1:4: the quote that opens here is never closed"),
        ("a: b: c", "1:5: a ':' too many (put the text in quotes), or wrong indentation"),
        ("a: 1\nb\nc: 1", "2:1: this is neither 'key: value' nor '- item': is a ':' missing?"),
        ("a: {b: 1", "1:9: a ',' or the closing '}' is missing; within {…}, put ${…} in quotes"),
        ("a: [1", "1:6: a ',' or the closing ']' is missing; within […], put ${…} in quotes"),
        ('a: "C:\\secret"', "1:8: after \\ in \"…\" comes a letter that means nothing; use '…' for Windows paths"),
        ("a:\n  - b\n c: 1", "3:2: this line does not fit the one above: check indentation, quotes and dashes"),
        ("a: 1\n---\nb: 1", "2:1: the file holds a second document after `---`; only one is possible"),
        ("a: 1\nb: \x07", "2:4: a character that YAML does not allow (U+0007)"),
        ("a: " + "[" * 2000, f"1:36: {NESTED} (or an alias contains itself)"),
        ("a: &a [*a]", f"1:4: {NESTED} (or an alias contains itself)"),
    ],
)
def test_what_is_no_yaml_has_one_sentence(text: str, problem: str) -> None:
    assert problems(text) == [f"config.yaml:{problem}"]


def test_aliases_that_multiply_are_stopped() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    (problem,) = problems("\n".join(lines))
    assert problem.endswith("the file has more than 100000 values, those that aliases repeat counted again")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("log: {level: info, level: debug}", "9:20: log.level: this key was given before, in line 9"),
        ("accounts: []", "9:1: accounts: this key was given before, in line 6"),
        ("? [a]\n: 1", "9:3: a key must be a plain text"),
        ("'': 1", "9:1: a key is empty, or holds a control character"),
        (
            "log: {level: !secret info}",
            '9:7: log.level: tags (a word that begins with "!") are not supported; put a text in quotes',
        ),
        (
            "log: !!python/object:os.system {}",
            '9:1: log: tags (a word that begins with "!") are not supported; put a text in quotes',
        ),
        ('language: "e\\0n"', "9:1: language: holds a control character, or half of one that needs two"),
        ('language: "e\\uD800n"', "9:1: language: holds a control character, or half of one that needs two"),
        ("log:\n  <<: 1", "10:3: log: after `<<:` must come an alias of a section, or a list of them"),
    ],
)
def test_what_is_yaml_and_still_refused(line: str, problem: str) -> None:
    assert problems(f"{GOOD}{line}\n") == [f"config.yaml:{problem}"]


# --- values ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "before", "after", "problem"), BAD_VALUES)
def test_a_bad_value_has_its_place_and_one_sentence(text: str, before: str, after: str, problem: str) -> None:
    assert problems(edited((before, after), text=text)) == [f"config.yaml:{problem}"]


def test_all_errors_come_at_once_in_the_order_of_the_file() -> None:
    text = """\
providers:
  gmail:
    kind: google
    client_id: a
    client_secret: ${NOPE}
    imap: {port: x}
    imap: {}
  ofice365:
    kind: microsoft
    client_id: b
    tenants: contoso.com
acounts: []
accounts:
  - {address: a@b.c, provider: office365}
  - {address: A@B.C, provider: gmail, colour: red}
listeners: {imap: 127.0.0.1:1, smtp: 127.0.0.1:1}
log: {level: loud}
"""
    assert [": ".join(line.removeprefix("config.yaml:").split(": ")[:2]) for line in problems(text)] == [
        "5:5: providers.gmail.client_secret",
        "6:12: providers.gmail.imap.port",
        "7:5: providers.gmail.imap",
        "11:5: providers.ofice365.tenants",
        "12:1: acounts",
        "14:22: accounts[0].provider",
        "15:6: accounts[1].address",
        "15:39: accounts[1].colour",
        "16:32: listeners.smtp",
        "17:7: log.level",
    ]


# --- files ----------------------------------------------------------------------------------------------------------


def with_tls(tmp_path: Path, certificate: str = "server.pem", key: str = "server.key") -> str:
    issued = trustme.CA().issue_cert("localhost")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "server.pem")
    issued.private_key_pem.write_to_path(tmp_path / "server.key")
    trustme.CA().issue_cert("localhost").private_key_pem.write_to_path(tmp_path / "other.key")
    (tmp_path / "empty.pem").write_text("")
    (tmp_path / "damaged.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    (tmp_path / "locked.key").write_text(
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"
    )
    pair = f"certificate: {certificate}, key: {key}"
    return f"{GOOD}listeners:\n  imap: {{address: 0.0.0.0:993, tls: implicit, exposed: true, {pair}}}\n"


def test_a_certificate_and_its_key_are_accepted(tmp_path: Path) -> None:
    (door,) = load(with_tls(tmp_path), tmp_path).config.listeners.imap
    assert (door.certificate, door.key) == (str(tmp_path / "server.pem"), str(tmp_path / "server.key"))


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"key": "none"}, "key: there is no file {}/none"),
        ({"key": "other.key"}, "key: {0}/other.key is not the key of the certificate in {0}/server.pem"),
        ({"key": "locked.key"}, "key: the key in {}/locked.key has a password; store it without one"),
        (
            {"key": "server.pem"},
            "key: the file {}/server.pem holds no private key in PEM form (-----BEGIN … PRIVATE KEY-----)",
        ),
        (
            {"certificate": "empty.pem"},
            "certificate: the file {}/empty.pem holds no certificate in PEM form (-----BEGIN … CERTIFICATE-----)",
        ),
        (
            {"certificate": "damaged.pem"},
            "key: {0}/server.key is damaged, or cannot be used with the certificate in {0}/damaged.pem",
        ),
    ],
)
def test_a_certificate_that_cannot_be_used_is_found_before_the_start(
    files: dict[str, str], problem: str, tmp_path: Path
) -> None:
    (found,) = problems(with_tls(tmp_path, **files), tmp_path)
    assert found.partition("listeners.imap.")[2] == problem.format(tmp_path)


def test_a_damaged_ca_file_is_found_before_the_start(tmp_path: Path) -> None:
    with_tls(tmp_path)
    text = edited(("client_secret: text", "client_secret: text\n    ca_file: damaged.pem"))
    assert problems(text, tmp_path) == [
        f"config.yaml:6:5: providers.gmail.ca_file: the certificates in {tmp_path}/damaged.pem are damaged"
    ]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"a: caf\xe9", "config.yaml:1:7: here stands a byte that is not UTF-8; save the file as UTF-8"),
        (b"a: 1\nb: \xc3\xa9\xff", "config.yaml:2:5: here stands a byte that is not UTF-8; save the file as UTF-8"),
        ("a: b".encode("utf-16"), "config.yaml:1:1: the file is UTF-16; save it as UTF-8"),
        (b"#" * (1024 * 1024 + 1), "config.yaml: the file is larger than 1 MiB; it is hardly a configuration"),
    ],
)
def test_a_file_that_is_no_text_has_one_sentence(content: bytes, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert caught.value.problems == (problem,)


def test_a_file_that_is_not_there_is_named_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "none.yaml")
    assert str(caught.value) == f"{tmp_path}/none.yaml: there is no such file"
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path)
    assert str(caught.value) == f"{tmp_path}: this is a directory, not a file"


def test_a_text_over_one_mebibyte_is_refused() -> None:
    assert problems("#" * (1024 * 1024 + 1)) == [
        "config.yaml: the file is larger than 1 MiB; it is hardly a configuration"
    ]


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_a_secret_in_a_file_for_everybody_is_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(edited(("text", CANARY)))
    path.chmod(0o644)
    (warning,) = load_config(path).warnings
    assert str(warning) == (
        "config.yaml:5:5: providers.gmail.client_secret: every user of this machine can read this secret; run: "
        f"chmod 600 {path} (or write ${{ENV}}, ${{file:path}} or ${{keyring:name}} in its place)"
    )
    path.chmod(0o640)
    assert not load_config(path).warnings
    path.write_text(edited(("text", "${SECRET}")))
    path.chmod(0o644)
    assert not load_config(path, environ={"SECRET": CANARY}).warnings


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_a_secret_in_another_file_for_everybody_is_warned_of(tmp_path: Path) -> None:
    path, secret = tmp_path / "config.yaml", tmp_path / "office365.txt"
    path.write_text(edited(("text", "${file:office365.txt}")))
    path.chmod(0o600)
    secret.write_text(CANARY)
    secret.chmod(0o644)
    (warning,) = load_config(path).warnings
    assert str(warning) == (
        "config.yaml:5:5: providers.gmail.client_secret: every user of this machine can read the secret in "
        f"{secret}; run: chmod 600 {secret}"
    )
    secret.chmod(0o640)
    assert not load_config(path).warnings


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_a_private_key_for_everybody_is_warned_of(tmp_path: Path, authority: Authority) -> None:
    certificate, key = authority.write_pair(tmp_path)
    path = tmp_path / "config.yaml"
    path.write_text(
        edited(("text", "${SECRET}"))
        + f"listeners:\n  imap: {{address: '127.0.0.1:1143', tls: starttls, certificate: {certificate}, key: {key}}}\n"
    )
    key.chmod(0o644)
    (warning,) = load_config(path, environ={"SECRET": CANARY}).warnings
    assert "listeners.imap.key: every user of this machine can read the secret in" in str(warning)
    key.chmod(0o600)
    assert not load_config(path, environ={"SECRET": CANARY}).warnings


# --- secrets --------------------------------------------------------------------------------------------------------


def leaves(value: Any, keys: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if children is None:
        return [keys]
    return [leaf for key, child in children for leaf in leaves(child, (*keys, key))]


EVERYTHING = yaml.safe_load(
    DESIGN.replace("<tenant>", "contoso.com")
    .replace("redirect_uri:", "tenant: t\n    scopes: [a]\n    imap: {host: h, port: 1, tls: x}\n    redirect_uri:")
    .replace("    sign_in_as", "    aliases: [b]\n    sign_in_as")
    .replace("1143\n", "1143\n  ca_file: a\n")
    .replace(
        "imap: 127.0.0.1:1143",
        "imap: {address: '127.0.0.1:1143', tls: implicit, certificate: c, key: k, names: [n],"
        " proxy_protocol_from: [p], exposed: x}",
    )
    .replace("client_secret: ${GMAIL_CLIENT_SECRET}", "proxy: p\n    ca_file: c")
)


@pytest.mark.parametrize("leaf", leaves(EVERYTHING), ids=lambda leaf: ".".join(map(str, leaf)))
@pytest.mark.parametrize(
    "secret",
    [
        CANARY,
        f"{CANARY}@contoso.com",
        f"https://{CANARY}.example.com/{CANARY}/oauth2/token",
        f"https://login.microsoftonline.com/<{CANARY}>/oauth2/v2.0/token",
        f"{CANARY}:1143",
        f"127.0.0.1:1143{CANARY}",
        f"/{CANARY}\x00",
    ],
)
def test_a_secret_in_any_place_never_shows_up_in_an_error(leaf: tuple[Any, ...], secret: str) -> None:
    values = json.loads(json.dumps(EVERYTHING))
    target = values
    for key in leaf[:-1]:
        target = target[key]
    target[leaf[-1]] = "${SECRET}"
    with pytest.raises(ConfigError) as caught:
        load(json.dumps(values), SECRET=secret)
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert CANARY.lower() not in shown.lower()


WORDS = """providers accounts listeners console store log language gmail kind client_id client_secret address provider
aliases sign_in_as imap port tls host scopes ca_file path url redirect_uri level token_url tenant << x"""
KEYS = st.sampled_from(WORDS.split())
VALUES = """google microsoft oauth2 gmail a@b.c *@b.c 127.0.0.1:1143 localhost:0 off 1 ~x/y ${SECRET} x${SECRET} $${ ${
https://a.b/ http://localhost:3017/ https://a/b/oauth2/token"""
TEXTS = st.sampled_from(["", *VALUES.split()]) | st.text(max_size=8)
TREES = st.recursive(
    TEXTS | st.none() | st.booleans() | st.integers() | st.floats(),
    lambda child: st.lists(child, max_size=4) | st.dictionaries(KEYS | st.text(max_size=3), child, max_size=5),
    max_leaves=30,
)


def only_config_errors(text: str) -> None:
    try:
        load(text, SECRET=CANARY)
    except ConfigError as error:
        assert error.problems
        assert CANARY not in str(error)
        assert all(problem.startswith("config.yaml:") for problem in error.problems)


@given(st.text(alphabet="ab:-#&*!|>'\"%@`{}[],?~ \n\t\\$0<é\u2028", max_size=60))
@settings(max_examples=150, deadline=None)
def test_any_text_raises_only_config_errors(text: str) -> None:
    only_config_errors(text)


@given(st.text(max_size=60))
@settings(max_examples=100, deadline=None)
def test_any_unicode_raises_only_config_errors(text: str) -> None:
    only_config_errors(text)


@given(TREES)
@settings(max_examples=150, deadline=None)
def test_any_tree_raises_only_config_errors(tree: Any) -> None:
    only_config_errors(yaml.safe_dump(tree, allow_unicode=True))


@given(st.dictionaries(KEYS, TREES, max_size=8), st.sampled_from(["google", "microsoft", "oauth2"]))
@settings(max_examples=150, deadline=None)
def test_any_provider_raises_only_config_errors(provider: Mapping[str, Any], kind: str) -> None:
    account = {"address": "a@b.c", "provider": "x"}
    only_config_errors(yaml.safe_dump({"providers": {"x": {**provider, "kind": kind}}, "accounts": [account]}))


# --- the schema -----------------------------------------------------------------------------------------------------


def test_the_schema_is_of_draft_2020_12_and_closed() -> None:
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"] == "mail-bridge configuration"
    assert schema["additionalProperties"] is False
    sections = [part for part in schema["$defs"].values() if "properties" in part]
    assert len(sections) >= 8
    assert all(part["additionalProperties"] is False for part in sections)
    json.dumps(schema)


def test_the_schema_takes_references_where_numbers_and_choices_are_expected() -> None:
    definitions = json_schema()["$defs"]
    port = definitions["EndpointOverride"]["properties"]["port"]["anyOf"][0]
    assert port["anyOf"] == [
        {"type": "integer", "minimum": 1, "maximum": 65535},
        {"type": "string", "pattern": r"\$\{.+\}"},
    ]
    assert {"type": "string", "pattern": r"\$\{.+\}"} in definitions["LogConfig"]["properties"]["level"]["anyOf"]


def test_the_schema_knows_the_forms_of_a_listener() -> None:
    definitions = json_schema()["$defs"]
    imap = definitions["Listeners"]["properties"]["imap"]
    assert imap["default"] == "localhost:1143"
    assert definitions["ListenAddress"]["anyOf"][0] == {"type": "string", "minLength": 1}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is not the JSON key of a service account"),
        ("[]", "is not the JSON key of a service account"),
        ("[" * 10_000, "is not the JSON key of a service account"),
        ('{"installed": {"client_id": "a", "client_secret": "CANARY"}}', "is of another kind; make a key (type JSON)"),
        ('{"type": "service_account", "client_email": "a@b.example"}', "lacks client_email or private_key"),
        (
            '{"type": "service_account", "client_email": 5, "private_key": "CANARY"}',
            "lacks client_email or private_key: download the key again",
        ),
    ],
)
def test_a_service_account_key_that_is_none_is_told_apart(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "key.json").write_text(content)
    text = edited(
        (
            "    client_id: 1234.apps.googleusercontent.com\n    client_secret: text\n",
            "    flow: service_account\n    service_account_file: key.json\n",
        )
    )
    with pytest.raises(ConfigError) as caught:
        parse_config(text, name="config.yaml", directory=tmp_path)
    (problem,) = caught.value.problems
    assert problem.startswith("config.yaml:5:5: providers.gmail.service_account_file: the file ")
    assert words in problem
    assert "CANARY" not in problem


def test_one_file_may_hold_the_clients_certificate_and_its_key(tmp_path: Path) -> None:
    issued = trustme.CA().issue_cert("app.example")
    pem = tmp_path / "app.pem"
    pem.write_bytes(issued.private_key_and_cert_chain_pem.bytes())
    text = edited(
        ("tenant: contoso.com", "tenant: contoso.com\n    flow: client_credentials\n    client_certificate: app.pem"),
        text=MICROSOFT,
    )
    (provider,) = parse_config(text, name="c", directory=tmp_path).config.providers.values()
    assert isinstance(provider, MicrosoftProvider)
    assert provider.client_certificate == str(pem)
    pem.write_bytes(issued.cert_chain_pems[0].bytes())
    with pytest.raises(ConfigError, match="holds no private key"):
        parse_config(text, name="c", directory=tmp_path)
