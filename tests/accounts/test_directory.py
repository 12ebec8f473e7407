"""Which account a username means."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.accounts.directory import Directory
from bridge.config.load import parse_config
from bridge.model import Protocol

TEXT = r"""
providers:
  gmail: {kind: google, client_id: g, client_secret: CANARY}
  office365: {kind: microsoft, client_id: m, tenant: contoso.com}
  company:
    kind: oauth2
    client_id: c
    authorization_url: https://idp.example/a
    token_url: https://idp.example/t
    scopes: [mail]
    imap: {host: imap.example.com}
accounts:
  - {address: "*@contoso.com", provider: office365}
  - {address: Alice@Example.com, provider: gmail, aliases: [alice, 'OFFICE\alice', boss@contoso.com]}
  - {address: sales@contoso.com, provider: office365, sign_in_as: Alice@contoso.com}
  - {address: straße@example.com, provider: company}
  - {address: "*@münchen.example", provider: company}
  - {address: carol@münchen.example, provider: gmail, aliases: [sales@example.com]}
"""


def directory(text: str = TEXT) -> Directory:
    return Directory(parse_config(text, directory=Path("/nowhere"), environ={}).config)


@pytest.mark.parametrize(
    ("username", "address", "provider"),
    [
        ("alice@example.com", "alice@example.com", "gmail"),
        ("ALICE@EXAMPLE.COM", "alice@example.com", "gmail"),
        (" alice@example.com\t", "alice@example.com", "gmail"),
        ("Alice", "alice@example.com", "gmail"),
        (r"office\ALICE", "alice@example.com", "gmail"),
        ("boss@contoso.com", "alice@example.com", "gmail"),  # an alias takes precedence over a pattern
        ("sales@contoso.com", "sales@contoso.com", "office365"),  # and an account's own line over both
        ("Bob@Contoso.com", "bob@contoso.com", "office365"),
        (" Bob.O'Neil+crm@contoso.com ", "bob.o'neil+crm@contoso.com", "office365"),
        ("straße@example.com", "straße@example.com", "company"),
        ("STRASSE@example.com", "straße@example.com", "company"),
        ("Straße@contoso.com", "straße@contoso.com", "office365"),
        ("e\u0301va@contoso.com", "éva@contoso.com", "office365"),
        ("dora@MÜNCHEN.example", "dora@münchen.example", "company"),
        ("carol@mu\u0308nchen.example", "carol@münchen.example", "gmail"),
    ],
)
def test_a_username_finds_its_account(username: str, address: str, provider: str) -> None:
    found = directory().find(username)
    assert found is not None
    assert (found.address, found.provider) == (address, provider)


@pytest.mark.parametrize(
    "username",
    [
        "",
        " ",
        "@",
        "@contoso.com",
        "bob",
        "bob@",
        "bob@example.com",
        "bob@sub.contoso.com",
        "bob@contoso.com.evil.example",
        "*@contoso.com",
        "b*b@contoso.com",
        r"CONTOSO\bob",
        r"CONTOSO\bob@contoso.com",
        "bob@x@contoso.com",
        '"bob"@contoso.com',
        "bob smith@contoso.com",
        "bob@ contoso.com",
        "bob @contoso.com",
        "bob\r\n@contoso.com",
        "bob\x00@contoso.com",
        "bob\x01auth@contoso.com",
        "bo\u200bb@contoso.com",
        "bob/../x@contoso.com",
        "bob%example.com@contoso.com",
        "<bob@contoso.com>",
        ".bob@contoso.com",
        "bob..x@contoso.com",
        "bob.@contoso.com",
        "b\udcffb@contoso.com",
        "b" * 65 + "@contoso.com",
        "é" * 33 + "@contoso.com",
        "bob@contoso.com" + " " * 320,
    ],
)
def test_what_is_no_plain_address_of_the_domain_finds_nobody(username: str) -> None:
    assert directory().find(username) is None


def test_a_name_below_a_pattern_has_at_most_64_octets_and_no_user_name_more_than_320_characters() -> None:
    assert directory().find("b" * 64 + "@contoso.com") is not None
    assert directory().find("b" * 65 + "@contoso.com") is None
    assert directory().find("é" * 33 + "@contoso.com") is None, "octets"
    assert directory().find("bob@contoso.com".ljust(320)) is not None
    assert directory().find("bob@contoso.com".ljust(321)) is None


def test_a_shared_mailbox_is_opened_by_whoever_signs_in_for_it() -> None:
    shared, own = directory().find("sales@contoso.com"), directory().find("bob@contoso.com")
    alias = directory().find("boss@contoso.com")
    assert alias is not None
    assert alias.subject == "alice@example.com"
    assert shared is not None
    assert shared.subject == "alice@contoso.com"
    assert own is not None
    assert own.subject == "bob@contoso.com"


def test_an_account_carries_the_servers_that_its_provider_has() -> None:
    gmail, company = directory().find("alice"), directory().find("dora@münchen.example")
    assert gmail is not None
    assert {protocol: endpoint.host for protocol, endpoint in gmail.endpoints.items()} == {
        Protocol.IMAP: "imap.gmail.com",
        Protocol.POP3: "pop.gmail.com",
        Protocol.SMTP: "smtp.gmail.com",
    }
    assert company is not None
    assert [(protocol, endpoint.host) for protocol, endpoint in company.endpoints.items()] == [
        (Protocol.IMAP, "imap.example.com")
    ]


def test_a_protocol_without_a_port_is_not_tried_upstream_where_it_may_be_switched_off() -> None:
    found = directory(f"{TEXT}listeners: {{pop3: off}}\n").find("alice")
    assert found is not None
    assert list(found.endpoints) == [Protocol.IMAP, Protocol.SMTP]


def test_where_no_port_is_left_a_mail_server_still_tells_whose_mailbox_a_token_opens() -> None:
    found = directory(f"{TEXT}listeners: {{imap: off}}\n").find("straße@example.com")
    assert found is not None
    assert list(found.endpoints) == [Protocol.IMAP]


def test_accounts_and_patterns_are_listed_in_the_order_of_the_file() -> None:
    found = directory()
    assert [account.address for account in found.accounts] == [
        "alice@example.com",
        "sales@contoso.com",
        "straße@example.com",
        "carol@münchen.example",
    ]
    assert found.patterns == ("*@contoso.com", "*@münchen.example")


@given(st.text(max_size=400) | st.text(max_size=60).map(lambda local: f"{local}@contoso.com"))
def test_any_username_is_answered_and_stays_in_its_domain(username: str) -> None:
    account = FOUND.find(username)
    if account is not None and account.address.endswith("@contoso.com"):
        assert account.address.isprintable()
        assert account.address.count("@") == 1
        assert FOUND.find(account.address) == account


FOUND = directory()
