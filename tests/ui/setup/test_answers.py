"""Each answer is checked by the models of the configuration, and refused in the language of the person who gave it."""

from __future__ import annotations

import contextvars
from pathlib import Path

import pytest

from bridge.config.importers.yaml_text import Value
from bridge.ui.i18n import speak
from bridge.ui.setup.answers import AccountAnswer, Choice, account_problem, secret_problem, setting_problem
from bridge.ui.setup.document import section_problem

GUID = "11111111-2222-3333-4444-555555555555"
HOST = "https://login.microsoftonline.com"


def microsoft(**settings: str) -> dict[str, Value]:
    return {**Choice.MICROSOFT.settings, "client_id": GUID, **settings}


@pytest.mark.parametrize(
    ("key", "answer", "said"),
    [
        ("authorization_url", f"{HOST}/contoso.com/oauth2/authorize", f"{HOST}/contoso.com/oauth2/v2.0/authorize"),
        ("token_url", f"{HOST}/contoso.com/oauth2/token", f"{HOST}/contoso.com/oauth2/v2.0/token"),
        ("authorization_url", f"{HOST}/contoso.com/oauth2/v2.0/token", "the other endpoint"),
        ("authorization_url", f"{HOST}/contoso.com/v2.0", "must look like https://"),
        ("authorization_url", "http://login.example.com/x/oauth2/v2.0/authorize", "must begin with https://"),
        ("authorization_url", f"{HOST}/{{tenant}}/oauth2/v2.0/authorize", "your tenant's id in place of {tenant}"),
        ("tenant", "Contoso Ltd", "not the GUID or the domain"),
        ("client_id", "two words", "without spaces"),
        ("client_id", "contoso.com", "the Application (client) ID is a GUID"),
        ("tenant", f"{HOST}/contoso.com", "a URL belongs under `authorization_url`"),
        ("client_secret_expires", "31/01/2027", "a day such as 2027-01-31"),
    ],
)
def test_a_wrong_answer_is_told_what_is_right(key: str, answer: str, said: str) -> None:
    assert said in setting_problem(microsoft(**{key: answer}), key)


@pytest.mark.parametrize(
    ("key", "answer"),
    [
        ("tenant", "contoso.com"),
        ("authorization_url", f"{HOST}/contoso.com/oauth2/v2.0/authorize"),
        ("client_secret_expires", "2027-01-31"),
    ],
)
def test_a_right_one_is_taken_while_others_are_still_missing(key: str, answer: str) -> None:
    assert setting_problem({**Choice.MICROSOFT.settings, key: answer}, key) == ""


def test_the_number_of_a_project_is_no_client_id_of_google() -> None:
    google = Choice.GOOGLE.settings
    assert "looks like 1234-abcd.apps" in setting_problem({**google, "client_id": "123456789012"}, "client_id")
    assert setting_problem({**google, "client_id": " 1234-aB.apps.googleusercontent.com"}, "client_id") == ""
    assert setting_problem({**Choice.FASTMAIL.settings, "client_id": "anything"}, "client_id") == ""


def test_two_urls_of_different_tenants_are_found_together(tmp_path: Path) -> None:
    urls = {
        "authorization_url": f"{HOST}/contoso.com/oauth2/v2.0/authorize",
        "token_url": f"{HOST}/fabrikam.com/oauth2/v2.0/token",
    }
    assert "different hosts or tenants" in section_problem(Choice.MICROSOFT, microsoft(**urls), tmp_path)


def test_an_app_alone_needs_its_own_tenant(tmp_path: Path) -> None:
    settings = {**Choice.MICROSOFT_APP.settings, "client_id": GUID, "tenant": "organizations"}
    assert "the tenant's own GUID or domain" in section_problem(Choice.MICROSOFT_APP, settings, tmp_path)
    assert section_problem(Choice.MICROSOFT_APP, settings | {"tenant": "contoso.com"}, tmp_path) == ""


def test_a_key_file_is_read_at_once(tmp_path: Path) -> None:
    file = tmp_path / "key.json"
    file.write_text("{}")
    settings = {**Choice.GOOGLE_SERVICE.settings, "service_account_file": str(file)}
    assert section_problem(Choice.GOOGLE_SERVICE, settings, tmp_path).startswith("service_account_file: ")


def test_the_id_of_a_secret_is_not_its_value() -> None:
    secret_id = "0a1b2c3d-1111-2222-3333-444455556666"
    assert "Secret ID" in secret_problem(Choice.MICROSOFT, secret_id)
    assert secret_id not in secret_problem(Choice.MICROSOFT, secret_id)
    assert secret_problem(Choice.GOOGLE, secret_id) == ""
    assert "this is a client ID" in secret_problem(Choice.GOOGLE, "1234-ab.apps.googleusercontent.com")
    assert "one word" in secret_problem(Choice.GOOGLE, "CANARY two")
    assert "(U+200B ZERO WIDTH SPACE)" in secret_problem(Choice.GOOGLE, "CANARY\u200b")
    assert "typographic quotes" in secret_problem(Choice.GOOGLE, "“CANARY”")


@pytest.mark.parametrize(
    ("account", "said"),
    [
        (AccountAnswer("alice", "gmail"), "an address such as alice@example.com"),
        (AccountAnswer("sales@example.com", "gmail", "alice"), "sign_in_as: must be the address of one person"),
        (AccountAnswer("*@example.com", "gmail", "alice@example.com"), "belong to one address"),
    ],
)
def test_a_wrong_account_is_told_what_is_right(account: AccountAnswer, said: str) -> None:
    assert said in account_problem(account)


def test_the_sentences_of_the_models_are_told_in_french() -> None:
    """Each of these sentences comes from the models. If its English changed there, it would no longer be translated."""

    def told() -> list[str]:
        speak("fr")
        return [
            setting_problem(microsoft(authorization_url=f"{HOST}/contoso.com/oauth2/authorize"), "authorization_url"),
            setting_problem(microsoft(token_url=f"{HOST}/contoso.com/oauth2/v2.0/authorize"), "token_url"),
            setting_problem(microsoft(token_url=f"{HOST}/contoso.com"), "token_url"),
            setting_problem(microsoft(token_url="http://login.example.com/"), "token_url"),
            setting_problem(microsoft(token_url="nonsense"), "token_url"),
            setting_problem(microsoft(token_url=f"{HOST}/{{id}}/oauth2/v2.0/token"), "token_url"),
            setting_problem(microsoft(tenant="Contoso Ltd"), "tenant"),
            setting_problem(microsoft(client_id="two words"), "client_id"),
            setting_problem(microsoft(client_secret_expires="soon"), "client_secret_expires"),
            account_problem(AccountAnswer("alice", "gmail")),
            account_problem(AccountAnswer("sales@example.com", "gmail", "*@example.com")),
            account_problem(AccountAnswer("*@example.com", "gmail", "alice@example.com")),
        ]

    for sentence in contextvars.copy_context().run(told):
        assert any(word in sentence for word in ("doit", "c’est", "n’est", "mettez", "vont avec")), sentence
