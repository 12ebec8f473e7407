"""What a reload has to change: the difference between two configurations."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.advice.diagnosis import Diagnosis
from bridge.advice.said import said
from bridge.clock import SystemClock
from bridge.config.addresses import ListenAddress
from bridge.config.diff import AFTER_RESTART, AT_ONCE, ConfiguredListener, Plan, plan, summary_of, until_restart
from bridge.config.in_force import not_in_force, refusal
from bridge.config.load import parse_config
from bridge.config.schema import Config
from bridge.errors import BridgeError, ConfigError
from bridge.model import Protocol
from bridge.oauth import registry
from bridge.ui.i18n import translation

TEXT = """\
providers:
  gmail: {kind: google, client_id: g, client_secret: CANARY-1}
  office365:
    kind: microsoft
    client_id: m
    client_secret: CANARY-2
    tenant: contoso.com
  company:
    kind: oauth2
    client_id: c
    authorization_url: https://idp.example/a
    token_url: https://idp.example/t
    scopes: [openid, mail]
    imap: {host: imap.example.com}
accounts:
  - {address: alice@example.com, provider: gmail}
  - {address: "*@contoso.com", provider: office365}
listeners: {imap: 127.0.0.1:1143, pop3: off, smtp: 127.0.0.1:1587}
store: {path: /var/lib/mail-bridge/tokens}
"""


def config(*changes: tuple[str, str]) -> Config:
    text = TEXT
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    return parse_config(text, directory=Path("/nowhere"), environ={}).config


def changed(*changes: tuple[str, str]) -> Plan:
    return plan(config(), config(*changes))


def listener(protocol: Protocol, address: str) -> ConfiguredListener:
    return ConfiguredListener(protocol, ListenAddress(address=address))


IMAP = listener(Protocol.IMAP, "127.0.0.1:1143")


def test_nothing_changed_is_an_empty_plan() -> None:
    assert changed() == Plan()
    assert changed(("kind: google", "kind: google, redirect_uri: http://localhost:3017/")) == Plan()


NEW_IMAP, NEW_POP3 = listener(Protocol.IMAP, "127.0.0.1:2143"), listener(Protocol.POP3, "127.0.0.1:1110")


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("127.0.0.1:1143", "127.0.0.1:2143", Plan((IMAP,), (NEW_IMAP,))),
        ("127.0.0.1:1143", "[127.0.0.1:1143, 127.0.0.1:2143]", Plan((), (NEW_IMAP,))),
        ("127.0.0.1:1143", "off", Plan((IMAP,), ())),
        ("pop3: off", "pop3: 127.0.0.1:1110", Plan((), (NEW_POP3,))),
    ],
)
def test_only_the_listeners_that_changed_are_rebound(before: str, after: str, expected: Plan) -> None:
    assert changed((before, after)) == expected


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("accounts:", "accounts:\n  - {address: a@b.c, provider: gmail}", Plan(accounts_added=("a@b.c",))),
        ('  - {address: "*@contoso.com", provider: office365}\n', "", Plan(accounts_removed=("*@contoso.com",))),
        ("provider: gmail", "provider: office365", Plan(accounts_changed=("alice@example.com",))),
        ("provider: gmail", "provider: gmail, sign_in_as: b@c.d", Plan(accounts_changed=("alice@example.com",))),
        ("provider: gmail", "provider: gmail, aliases: [a]", Plan(accounts_changed=("alice@example.com",))),
        ("  gmail:", "  new: {kind: microsoft, client_id: x, tenant: t.de}\n  gmail:", Plan(providers_added=("new",))),
        ("client_id: g", "client_id: h", Plan(grants_invalidated=("gmail",))),
        ("client_id: g", "client_id: g, scopes: [x]", Plan(grants_invalidated=("gmail",))),
        ("tenant: contoso.com", "tenant: contoso.de", Plan(grants_invalidated=("office365",))),
        ("https://idp.example/t", "https://idp.example/u", Plan(grants_invalidated=("company",))),
        ("[openid, mail]", "[openid, mail, more]", Plan(grants_invalidated=("company",))),
        ("CANARY-1", "CANARY-9", Plan(providers_changed=("gmail",))),
        ("[openid, mail]", "[mail, openid]", Plan(providers_changed=("company",))),
        ("imap.example.com", "mail.example.com", Plan(providers_changed=("company",))),
        ("tenant: contoso.com", "tenant: contoso.com\n    proxy: http://p:1", Plan(providers_changed=("office365",))),
        ("/var/lib", "/srv", Plan(waiting=("store",))),
        ("store:", "log: {level: debug}\nstore:", Plan(changed=("log",))),
        ("store:", "notify: {command: [true]}\nstore:", Plan(changed=("notify",))),
        ("store:", "language: fr\nstore:", Plan(changed=("language",))),
        ("store:", "local_password: first-use\nstore:", Plan(changed=("local_password",))),
        ("store:", "workers: 2\nstore:", Plan(waiting=("workers",))),
    ],
)
def test_each_change_is_named_and_nothing_else(before: str, after: str, expected: Plan) -> None:
    assert changed((before, after)) == expected


def test_a_plan_has_something_to_say_of_each_key_of_the_file() -> None:
    assert {"providers", "accounts", "listeners", *AT_ONCE, *AFTER_RESTART} == set(Config.model_fields)


def test_what_has_changed_is_told_in_one_line() -> None:
    everything = Plan(
        listeners_to_close=(IMAP,),
        listeners_to_open=(NEW_IMAP, NEW_POP3),
        accounts_added=("a@b.c",),
        accounts_removed=("*@b.c",),
        accounts_changed=("d@b.c",),
        providers_added=("new",),
        providers_removed=("old",),
        providers_changed=("gmail",),
        grants_invalidated=("office365",),
        changed=AT_ONCE,
        waiting=AFTER_RESTART,
    )
    assert summary_of(everything).split("; ") == [
        "imap 127.0.0.1:1143 closed",
        "imap 127.0.0.1:2143 opened",
        "pop3 127.0.0.1:1110 opened",
        "account a@b.c added",
        "account *@b.c removed",
        "account d@b.c changed",
        "provider new added",
        "provider old removed",
        "provider gmail changed",
        "provider office365 changed: everybody signs in again",
        "notify changed",
        "local_password changed",
        "log changed",
        "language changed",
        "console: takes effect after a restart",
        "store: takes effect after a restart",
        "workers: takes effect after a restart",
    ]
    assert summary_of(Plan()) == ""


def test_until_the_restart_the_browser_comes_back_to_where_the_console_is() -> None:
    new = config(
        ("store:", "console: 127.0.0.1:4000\nstore:"),
        ("client_id: m", "client_id: m\n    redirect_uri: http://localhost:4000"),
        ("client_id: c", "client_id: c\n    redirect_uri: https://crm.example/back"),
    )
    found = until_restart(new, config().console)
    assert {name: provider.redirect_uri for name, provider in found.items()} == {
        "gmail": "http://localhost:3017/",
        "office365": "http://localhost:3017",
        "company": "https://crm.example/back",
    }


@pytest.mark.parametrize("written", ["http://localhost/", "http://localhost:80/"])
def test_until_the_restart_port_80_is_elsewhere_however_it_is_written(written: str) -> None:
    new = config(
        ("store:", "console: 127.0.0.1:80\nstore:"),
        ("client_id: m", f"client_id: m\n    redirect_uri: {written.removesuffix('/')}"),
        ("client_id: c", f"client_id: c\n    redirect_uri: {written}"),
    )
    found = until_restart(new, config().console)
    assert {name: provider.redirect_uri for name, provider in found.items()} == {
        "gmail": "http://localhost:3017/",
        "office365": "http://localhost:3017",
        "company": "http://localhost:3017/",
    }
    assert until_restart(config(), new.console)["gmail"].redirect_uri == "http://localhost/"


def test_another_console_is_another_redirect_and_keeps_the_sign_ins() -> None:
    found = changed(("store:", "console: 127.0.0.1:4000\nstore:"))
    assert found.waiting == ("console",)
    assert found.providers_changed == ("gmail", "office365", "company")
    assert found.grants_invalidated == ()


def test_a_renamed_provider_is_one_removed_and_one_added() -> None:
    found = changed(("gmail", "google"))
    assert (found.providers_added, found.providers_removed) == (("google",), ("gmail",))
    assert found.accounts_changed == ("alice@example.com",)


SAME_TENANT = """authorization_url: https://login.microsoftonline.com/Contoso.com/oauth2/v2.0/authorize
    token_url: https://login.microsoftonline.com/contoso.com/oauth2/v2.0/token"""
MORE_SCOPES = """tenant: contoso.com
    scopes:
      - openid
      - https://outlook.office.com/IMAP.AccessAsUser.All
      - https://outlook.office.com/POP.AccessAsUser.All
      - https://outlook.office.com/SMTP.Send"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("client_id: g", "client_id: h"),
        ("client_id: g", "client_id: g, scopes: [x]"),
        ("client_id: g", "client_id: g, token_url: 'https://x.y/'"),
        ("client_id: g", "client_id: g, revocation_url: 'https://x.y/'"),
        ("CANARY-1", "CANARY-9"),
        ("tenant: contoso.com", "tenant: contoso.de"),
        ("tenant: contoso.com", SAME_TENANT),
        ("tenant: contoso.com", MORE_SCOPES),
        ("tenant: contoso.com", "tenant: CONTOSO.com"),
        ("tenant: contoso.com", "tenant: contoso.com\n    discovery: false"),
        ("https://idp.example/a", "https://idp.example/b"),
        ("[openid, mail]", "[mail, openid]"),
        ("[openid, mail]", "[openid]"),
    ],
)
def test_the_plan_agrees_with_the_adapters_on_which_grants_are_still_good(before: str, after: str) -> None:
    old, new = config().providers, config((before, after)).providers
    for name in old:
        fingerprints = [registry.create(name, providers[name], SystemClock()).fingerprint for providers in (old, new)]
        identities = [providers[name].grant_identity for providers in (old, new)]
        assert (fingerprints[0] == fingerprints[1]) == (identities[0] == identities[1]), name


@pytest.mark.parametrize(
    ("before", "after", "settings"),
    [
        ("store: {path: ", "store: {path: /srv", "store"),
        ("store: {", "console: 127.0.0.1:3018\nstore: {", "console"),
        ("store: {", "workers: 2\nstore: {", "workers"),
        ("store: {path: ", "workers: 2\nconsole: 127.0.0.1:3018\nstore: {path: /srv", "console, store, workers"),
    ],
)
def test_what_waits_for_a_restart_is_told_by_its_keys(before: str, after: str, settings: str) -> None:
    (told,) = not_in_force(None, config(), config((before, after)))
    assert told == Diagnosis.of("configuration.restart", settings=settings)


def test_a_refused_file_is_told_by_the_first_thing_to_change_until_one_is_in_force() -> None:
    refused = refusal(ConfigError(["accounts[1]: no provider", "log: no such level"]))
    assert refused.key == "configuration.refused"
    assert "accounts[1]: no provider" in refused.told()
    assert "no such level" not in refused.told()
    assert list(not_in_force(refused, config(), config())) == [refused]
    assert list(not_in_force(None, config(), config())) == []
    assert "1143 is taken" in refusal(BridgeError("1143 is taken")).told()


def test_why_a_file_was_refused_is_told_in_the_readers_language() -> None:
    refused = refusal(BridgeError(said("{host} refuses the connection.", host="idp.example")))
    assert "idp.example refuse la connexion." in refused.told(translation("fr"))
