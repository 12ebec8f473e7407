"""Whatever was answered and accepted: our loader loads the file that is written, and reads from it what was meant."""

from __future__ import annotations

import contextvars
import json
from datetime import date
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from bridge.config.load import parse_config
from bridge.ui.i18n import Language, speak
from bridge.ui.setup.answers import (
    AccountAnswer,
    Answers,
    Choice,
    ProviderAnswer,
    SecretNeed,
    account_problem,
    mail_server,
    setting_problem,
)
from bridge.ui.setup.document import document, section_problem

HOST = "https://login.microsoftonline.com"
WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).map(str.strip).filter(bool)
"""Words as people may type them: with colons, quotes, `${`, emoji."""

TENANTS = st.sampled_from(
    [
        {"tenant": "contoso.com"},
        {"tenant": "11111111-2222-3333-4444-555555555555"},
        {"authorization_url": f"{HOST}/no/oauth2/v2.0/authorize", "token_url": f"{HOST}/no/oauth2/v2.0/token"},
    ]
)
ADDRESSES = st.one_of(
    WORDS.map(lambda word: f"{word}@example.com"), st.sampled_from(["*@contoso.com", "no@example.com"])
)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A service account's key file, in a directory with a strange name."""
    path = tmp_path_factory.mktemp("a ${b} 'c' é") / "key.json"
    path.write_text(json.dumps({"type": "service_account", "client_email": "a@b.example", "private_key": "CANARY"}))
    return path


IDS = {"google": "1234-a.apps.googleusercontent.com", "microsoft": "11111111-2222-3333-4444-555555555555"}
"""Client IDs in the only form that these two providers accept."""


@st.composite
def providers(draw: st.DrawFn) -> ProviderAnswer:
    choice = draw(st.sampled_from(Choice))
    chosen = choice.settings
    if choice is not Choice.GOOGLE_SERVICE:
        chosen["client_id"] = IDS.get(choice.kind) or draw(WORDS)
        assume(setting_problem(chosen, "client_id") == "")
    if choice.kind == "microsoft":
        chosen |= draw(TENANTS)
    if choice is Choice.OTHER:
        chosen |= {"authorization_url": "https://a.example/authorize", "token_url": "https://a.example/token"}
        chosen["scopes"] = draw(st.lists(st.sampled_from(["openid", "https://a.example/mail", "a:b"]), min_size=1))
        chosen |= draw(st.dictionaries(st.sampled_from(["imap", "pop3", "smtp"]), SERVERS, min_size=1))
    needs = {SecretNeed.NONE: [""], SecretNeed.ALWAYS: ["${file:secrets/a.txt}", "${keyring:office365-2}"]}
    reference = draw(st.sampled_from(needs.get(choice.secret, ["", "${file:secrets/a.txt}"])))
    if reference and choice.kind == "microsoft" and draw(st.booleans()):
        chosen["client_secret_expires"] = draw(st.dates(date(2026, 1, 1))).isoformat()
    return ProviderAnswer(choice, chosen, reference)


SERVERS = st.sampled_from(["a.example:993", "a.example:587", "a.example:1 starttls"]).map(mail_server)


@given(
    st.lists(providers(), min_size=1, max_size=3),
    st.lists(st.tuples(ADDRESSES, st.sampled_from(["", "boss@example.com"])), min_size=1, max_size=4),
    st.sampled_from(["", "store.key"]),
    st.sampled_from(["en", "fr"]),
)
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much]
)
def test_it_always_loads(
    key: Path, answered: list[ProviderAnswer], people: list[tuple[str, str]], key_file: str, language: Language
) -> None:
    (key.parent / "secrets").mkdir(exist_ok=True)
    (key.parent / "secrets" / "a.txt").write_text("CANARY")
    named: dict[str, ProviderAnswer] = {}
    for provider in answered:
        chosen = dict(provider.settings)
        if provider.choice is Choice.GOOGLE_SERVICE:
            chosen["service_account_file"] = str(key)
        assert section_problem(provider.choice, chosen, key.parent) == ""
        named[provider.choice.section(named)] = ProviderAnswer(provider.choice, chosen, provider.secret_reference)
    accounts = {
        address.strip().casefold(): account
        for address, person in people
        if account_problem(account := AccountAnswer(address, next(iter(named)), person)) == ""
    }
    assume(accounts)
    answers = Answers(named, tuple(accounts.values()), key_file)

    def written() -> str:
        speak(language)
        return document(answers)

    text = contextvars.copy_context().run(written)
    config = parse_config(text, directory=key.parent, environ={}, read_keyring=lambda name: "CANARY").config
    assert list(config.providers) == list(named)
    for name, provider in named.items():
        loaded = config.providers[name]
        assert loaded.client_id == str(provider.settings.get("client_id", "")).strip()
        assert (loaded.client_secret is not None) == bool(provider.secret_reference)
        ends = loaded.client_secret_expires
        assert (ends.isoformat() if ends else None) == provider.settings.get("client_secret_expires")
    assert [account.provider for account in config.accounts] == [one.provider for one in answers.accounts]
    assert [account.sign_in_as or "" for account in config.accounts] == [one.sign_in_as for one in answers.accounts]
    assert (config.store.key_file is None) == (not key_file)


def test_a_second_provider_of_the_same_kind_gets_a_name_of_its_own() -> None:
    taken = {"office365": 1, "office365-2": 1}
    assert Choice.MICROSOFT.section({}) == "office365"
    assert Choice.MICROSOFT_DEVICE.section(taken) == "office365-3"


def test_the_comments_speak_the_language_of_whoever_answers() -> None:
    answers = Answers(
        {"gmail": ProviderAnswer(Choice.GOOGLE, {**Choice.GOOGLE.settings, "client_id": "1"}, "${keyring:gmail}")},
        (AccountAnswer("alice@example.com", "gmail"),),
    )

    def written() -> str:
        speak("fr")
        return document(answers)

    assert "# Qui délivre les jetons" in contextvars.copy_context().run(written)
    assert "# Who issues the tokens" in document(answers)


def test_the_last_day_of_a_secret_is_not_called_the_first_without_mail() -> None:
    """client_secret_expires is the last day on which the secret works, for the warnings too."""
    settings = {**Choice.MICROSOFT.settings, "tenant": "contoso.com", "client_secret_expires": "2027-01-31"}
    answers = Answers({"office365": ProviderAnswer(Choice.MICROSOFT, settings, "${keyring:office365}")}, ())

    def written() -> str:
        speak("fr")
        return document(answers)

    assert "# The secret expires on this day; after that, nobody's mail works. mail-bridge warns" in document(answers)
    assert "# Le secret expire ce jour-là ; ensuite, plus aucune" in contextvars.copy_context().run(written)
