"""The loader: what people write in a configuration, and what they are told about it."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.config.google import GoogleProvider
from bridge.config.microsoft import MicrosoftProvider
from bridge.errors import ConfigError
from bridge.model import TlsMode
from bridge.secret import Secret
from tests.config.bad_values import BAD_VALUES, GOOD, MICROSOFT
from tests.config.loading import CANARY, HERE, edited, load, problems

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


# --- what is right --------------------------------------------------------------------------------------------------


def test_the_design_example_loads() -> None:
    loaded = load(DESIGN.replace("<tenant>", "contoso.com"), GMAIL_CLIENT_SECRET=CANARY)
    gmail, office365 = loaded.config.providers["gmail"], loaded.config.providers["office365"]
    assert isinstance(gmail, GoogleProvider)
    assert gmail.client_secret == Secret(CANARY)
    assert isinstance(office365, MicrosoftProvider)
    assert office365.authority == "https://login.microsoftonline.com/contoso.com"
    assert loaded.config.accounts[2].sign_in_as == "alice@contoso.com"
    assert loaded.config.store.path == str(HERE.absolute() / "tokens.sqlite")
    assert loaded.config.store.key_file == str(Path("/etc/mail-bridge/key").absolute())
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
def test_trap_09_a_scope_of_graph_beside_those_of_the_mail_servers_or_alone_is_refused(scope: str) -> None:
    scopes = f"scopes: [https://outlook.office.com/IMAP.AccessAsUser.All, {scope}]"
    for written in (scopes, f"scopes: [{scope}]"):
        with pytest.raises(ConfigError, match=r"a token is valid for one service only|must be"):
            load(MICROSOFT.replace("kind: microsoft", f"kind: microsoft\n    {written}"))


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


def test_at_port_80_the_redirect_is_what_browsers_make_of_it_or_what_is_written() -> None:
    """Browsers leave `:80` out, so nobody would register it; a configured redirect URI that has it stays as it is."""
    at_80 = f"{GOOD}console: 127.0.0.1:80\n"
    assert load(at_80).config.providers["gmail"].redirect_uri == "http://localhost/"
    for written in ("http://localhost/", "http://localhost", "http://localhost:80/", "http://localhost:80"):
        text = at_80.replace("client_secret: text", f"client_secret: text\n    redirect_uri: {written}")
        assert load(text).config.providers["gmail"].redirect_uri == written


# --- syntax ---------------------------------------------------------------------------------------------------------

DASH = "an entry of a list begins with a hyphen and a space: '- '"
CONTROL = "after \\ in \"…\" comes a letter that makes a control character; use '…' for Windows paths and user names"
NESTED = "this is nested more than 32 levels deep"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "1:1: the file is empty; it needs `providers` and `accounts` (config.example.yaml shows how)"),
        ("# no\n\n", "1:1: the file is empty; it needs `providers` and `accounts` (config.example.yaml shows how)"),
        ("hello", "1:1: the file must consist of keys such as `providers:` and `accounts:`"),
        ("- a", "1:1: the file must consist of keys such as `providers:` and `accounts:`"),
        ("a:\n\tb: 1", "2:1: there is a tab here, but YAML indents with spaces"),
        ("a:\n\u00a0 b: 1\n  c: 2", "2:1: there is a no-break space here; type an ordinary one"),
        ("a:\n  b:\u00a01\n  c: 2", "2:5: there is a no-break space here; type an ordinary one"),
        ("a:\n  - b:\u202f1\n    c: 2", "2:7: there is a no-break space here; type an ordinary one"),
        ("a: @b", "1:4: a text that begins with this character must be put in quotes"),
        ("a: *@contoso.com", '1:4: put it in quotes: "*@example.com" (a bare * means an alias)'),
        (
            "a: *CANARY-s3cret",
            "1:4: a text that begins with * must be put in quotes (or: there is no anchor of this name)",
        ),
        ("a: |b", "1:4: a text that begins with this character must be put in quotes"),
        ("a: >b", "1:4: a text that begins with this character must be put in quotes"),
        ("a:\n  -b: 1\n   c: 2", f"2:3: {DASH}"),
        ("a:\n  – b: 1\n    c: 2", f"2:3: {DASH}"),
        ("a:\n  -{b: 1, c: 2}", f"2:3: {DASH}"),
        ("a: 'b", "1:4: the quote that opens here is never closed"),
        ("a: b: c", "1:5: one ':' too many (put the text in quotes), wrong indentation, or no ': ' in the line above"),
        ("a: 1\nb\nc: 1", "2:1: this is neither 'key: value' nor '- item': is a ':' missing, or the space behind it?"),
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
    assert problem.endswith("the file has more than 100000 values (those that aliases repeat count each time)")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("log: {level: info, level: debug}", "9:20: log.level: this key was given before, in line 9"),
        ("accounts: []", "9:1: accounts: this key was given before, in line 6"),
        ("? [a]\n: 1", "9:3: a key must be a plain text"),
        ("'': 1", "9:1: a key is empty, or holds a control character"),
        ("log\u00a0: {level: info}", "9:4: there is a no-break space here; type an ordinary one"),
        ("log:\n  level\u202f: info", "10:8: log: there is a no-break space here; type an ordinary one"),
        ("'log\u00a0': {level: info}", "9:1: there is a no-break space here; type an ordinary one"),
        ("log:\n\u00a0\u00a0level: info", "10:1: there is a no-break space here; type an ordinary one"),
        (
            "log: {level: !secret info}",
            '9:7: log.level: tags (a word that begins with "!") are not supported; put a text in quotes',
        ),
        (
            "log: !!python/object:os.system {}",
            '9:1: log: tags (a word that begins with "!") are not supported; put a text in quotes',
        ),
        ('language: "e\\0n"', f"9:1: language: {CONTROL}"),
        ('store: {path: "D:\\backup.sqlite"}', f"9:9: store.path: {CONTROL}"),
        ('language: "e\\uD800n"', "9:1: language: contains only half of a character that consists of two halves"),
        ("log:\n  <<: 1", "10:3: log: after `<<:` must come an alias of a section, or a list of them"),
    ],
)
def test_what_is_yaml_and_still_refused(line: str, problem: str) -> None:
    assert problems(f"{GOOD}{line}\n") == [f"config.yaml:{problem}"]


# --- values ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "before", "after", "problem"), BAD_VALUES)
def test_a_bad_value_has_its_place_and_one_sentence(text: str, before: str, after: str, problem: str) -> None:
    if "~nobody" in after and sys.platform == "win32":
        pytest.skip("Windows takes any name for that of a directory beside the user's own")
    expected = problem.replace("/nowhere/none.pem", str(HERE.absolute() / "none.pem"))
    assert problems(edited((before, after), text=text)) == [f"config.yaml:{expected}"]


@pytest.mark.parametrize(
    "after",
    [
        "token_url: https://login.example.com./token",
        "proxy: http://proxy.example.com.:3128",
        "proxy: http://[::1]:3128",
    ],
)
def test_the_host_of_a_url_may_end_with_the_dot_of_a_complete_name_or_be_an_address(after: str) -> None:
    (provider,) = load(edited(("client_secret: text", f"client_secret: text\n    {after}"))).config.providers.values()
    name, _, value = after.partition(": ")
    assert getattr(provider, name) == value


@pytest.mark.parametrize(
    ("provider", "expected"),
    [
        (
            "kind: google\n    client_id: a b\n    smtp: {tls: ssl}",
            ["2:3: providers.p.client_secret", "4:5: providers.p.client_id", "5:12: providers.p.smtp.tls"],
        ),
        (
            "kind: google\n    client_secert: CANARY-s3cret",
            ["2:3: providers.p.client_id", "4:5: providers.p.client_secert"],
        ),
        ("kind: microsoft", ["2:3: providers.p", "2:3: providers.p.client_id"]),
        (
            "kind: microsoft\n    client_id: a b\n    flow: device\n    tenant: a.b\n    client_secret: CANARY-s3cret",
            ["2:3: providers.p", "4:5: providers.p.client_id"],
        ),
        (
            "kind: oauth2\n    client_id: a",
            ["2:3: providers.p.authorization_url", "2:3: providers.p.scopes", "2:3: providers.p.token_url"],
        ),
        # A problem that may only follow from another one is not reported.
        ("kind: microsoft\n    client_id: a\n    tenant: nobody", ["5:5: providers.p.tenant"]),
        (
            "kind: microsoft\n    client_id: a b\n    tenent: a.b",
            ["4:5: providers.p.client_id", "5:5: providers.p.tenent"],
        ),
        ("kind: google\n    client_secret: ''", ["2:3: providers.p.client_id", "4:5: providers.p.client_secret"]),
    ],
)
def test_a_mistake_in_one_value_does_not_hide_that_another_is_missing(provider: str, expected: list[str]) -> None:
    text = f"providers:\n  p:\n    {provider}\naccounts: [{{address: a@b.c, provider: p}}]\n"
    found = [": ".join(line.removeprefix("config.yaml:").split(": ")[:2]) for line in problems(text)]
    assert found == expected


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


def test_a_secret_id_in_place_of_the_secret_is_told_before_anybody_signs_in() -> None:
    secret_id = "99999999-2222-3333-4444-555555555555"
    office = edited(
        ("kind: google", "kind: microsoft\n    tenant: contoso.com"),
        ("1234.apps.googleusercontent.com", "11111111-2222-3333-4444-555555555555"),
        ("client_secret: text", "client_secret: ${S}"),
    )
    (warning,) = load(office, S=secret_id).warnings
    assert str(warning).startswith("config.yaml:6:5: providers.gmail.client_secret: this looks like the Secret ID")
    assert secret_id not in str(warning)
    assert not load(office, S="abc8Q~a-value").warnings
    assert not load(office, S=f"{secret_id}~a").warnings, "which only begins like one"
    assert not load(edited(("client_secret: text", f"client_secret: {secret_id}"))).warnings, "Google's are its own"


def test_an_id_and_a_secret_that_have_changed_places_are_told_as_that_alone() -> None:
    swapped = edited(("client_id: 1234.apps.googleusercontent.com", "client_id: GOCSPX-CANARY-CANARY-CANARY"))
    swapped = swapped.replace("client_secret: text", "client_secret: 1234-ab.apps.googleusercontent.com")
    (warning,) = load(swapped).warnings
    assert str(warning) == (
        "config.yaml:5:5: providers.gmail.client_secret: client_id and client_secret are the wrong way round"
    )
    office = edited(
        ("kind: google", "kind: microsoft\n    tenant: contoso.com"),
        ("1234.apps.googleusercontent.com", "abc8Q~CANARY-CANARY-CANARY"),
        ("client_secret: text", "client_secret: 11111111-2222-3333-4444-555555555555"),
    )
    (warning,) = load(office).warnings
    assert str(warning) == (
        "config.yaml:6:5: providers.gmail.client_secret: client_id and client_secret are the wrong way round"
    )
    of_each = load(office.replace("abc8Q~CANARY-CANARY-CANARY", "mail-bridge")).warnings
    assert [str(warning).split()[1] for warning in of_each] == [
        "providers.gmail.client_id:",
        "providers.gmail.client_secret:",
    ]


def test_a_client_id_of_google_in_place_of_the_secret_is_told_before_anybody_signs_in() -> None:
    twice = edited(("client_secret: text", "client_secret: 1234.apps.googleusercontent.com"))
    (warning,) = load(twice).warnings
    assert str(warning).startswith("config.yaml:5:5: providers.gmail.client_secret: this is a client ID")


@pytest.mark.parametrize("written", ["$GMAIL_SECRET", "$(GMAIL_SECRET)", "'%GMAIL_SECRET%'", "$env:GMAIL_SECRET"])
def test_a_variable_as_a_shell_writes_it_is_told_before_anybody_signs_in(written: str) -> None:
    (warning,) = load(edited(("client_secret: text", f"client_secret: {written}"))).warnings
    assert str(warning) == (
        "config.yaml:5:5: providers.gmail.client_secret: this text itself is taken for the secret; to refer to an "
        "environment variable, write ${NAME}"
    )
    assert not load(edited(("client_secret: text", "client_secret: ${S}")), S="%a$secret%1").warnings


@pytest.mark.parametrize(
    ("section", "written", "name"),
    [
        ("store:\n  path", "'%LOCALAPPDATA%\\mail-bridge\\store.sqlite'", "LOCALAPPDATA"),
        ("store:\n  path", "'store-%COMPUTERNAME%.sqlite'", "COMPUTERNAME"),
        ("store:\n  key_file", "$HOME/store.key", "HOME"),
        ("log:\n  file", "$env:TEMP\\mail-bridge.log", "TEMP"),
    ],
)
def test_a_variable_of_a_shell_in_a_path_that_would_be_made_is_told(section: str, written: str, name: str) -> None:
    """It used to become the literal name of a directory or file beside the configuration."""
    (warning,) = load(f"{GOOD}{section}: {written}\n").warnings
    assert str(warning).endswith(f"to refer to an environment variable, write ${{{name}}}")


@pytest.mark.parametrize("written", ["'100% of C$/store.sqlite'", "${HOME}/store.sqlite", "'a$b/$$/50%.sqlite'"])
def test_a_path_with_such_signs_is_one(written: str) -> None:
    assert not load(f"{GOOD}store:\n  path: {written}\n", HOME="/home/alice").warnings


@pytest.mark.parametrize(
    ("text", "written", "told"),
    [
        (GOOD, "1234", "config.yaml:4:5: providers.gmail.client_id: a client ID of Google looks like 1234-abcd.apps."),
        (MICROSOFT, "mail-bridge", "config.yaml:4:5: providers.office365.client_id: the Application (client) ID is a"),
    ],
)
def test_what_was_copied_in_place_of_a_client_id_is_told_before_anybody_signs_in(
    text: str, written: str, told: str
) -> None:
    (own,) = (line for line in text.splitlines() if "client_id" in line)
    assert not load(text).warnings
    (warning,) = load(edited((own, f"    client_id: {written}"), text=text)).warnings
    assert str(warning).startswith(told)


@pytest.mark.parametrize(
    ("text", "own", "urls"),
    [
        (GOOD, "client_id: 1234.apps.googleusercontent.com", "https://id.example"),
        (
            edited(("    tenant: contoso.com\n", ""), text=MICROSOFT),
            "client_id: 11111111-2222-3333-4444-555555555555",
            "https://id.example/contoso.com/oauth2/v2.0",
        ),
    ],
)
def test_another_server_gives_out_what_ids_it_likes(text: str, own: str, urls: str) -> None:
    theirs = f"client_id: mine\n    authorization_url: {urls}/authorize\n    token_url: {urls}/token"
    assert not load(edited((own, theirs), text=text)).warnings


def test_a_bridge_without_a_port_is_told_of() -> None:
    closed = GOOD + "listeners: {imap: off, pop3: off, smtp: off}\n"
    (warning,) = load(closed).warnings
    assert str(warning) == "config.yaml:9:1: listeners: imap, pop3 and smtp are all off: no mail program can log in"
    assert not load(edited(("smtp: off", "smtp: localhost:1587"), text=closed)).warnings
