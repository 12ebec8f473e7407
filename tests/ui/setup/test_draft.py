"""Answers as they arrive, good and bad, in any order; and the file that is made from them."""

from __future__ import annotations

import contextvars
import io
import os
from pathlib import Path

import pytest

from bridge.model import Protocol
from bridge.secret import Secret
from bridge.ui.i18n import speak
from bridge.ui.setup.answers import Choice, mail_server
from bridge.ui.setup.draft import LONGEST, SECTIONS, TYPED, Draft, Section

GUID = "11111111-2222-3333-4444-555555555555"
HOST = "https://login.microsoftonline.com"
TOKEN_URL = f"{HOST}/c.example/oauth2/v2.0/token"
CANARY = "CANARY-secret"


def draft_with(directory: Path, *choices: Choice, has_keyring: bool = False) -> Draft:
    """A draft with these providers, all their questions answered."""
    draft = Draft(directory, has_keyring)
    for choice in choices:
        section = draft.sections[draft.choose(choice)]
        section.offer_secret(CANARY)
        client_id = GUID if choice is Choice.MICROSOFT else "1234.apps.googleusercontent.com"
        texts = {"client_id": client_id, "tenant": "contoso.com"}
        assert section.take(texts, directory) == {}
        section.reference = "${file:secrets/one.txt}"
    return draft


@pytest.mark.parametrize(
    ("texts", "field", "said"),
    [
        ({"client_id": ""}, "client_id", "an answer is needed"),
        ({"client_id": "two words"}, "client_id", "without spaces"),
        ({"tenant": ""}, "tenant", "the tenant or both URLs are needed"),
        ({"tenant": "Contoso Ltd"}, "tenant", "not the GUID or the domain"),
        ({"tenant": f"{HOST}/c.example/oauth2/authorize", "token_url": TOKEN_URL}, "authorization_url", "v1 endpoint"),
        ({"tenant": f"{HOST}/contoso.com/oauth2/v2.0/authorize"}, "token_url", "both URLs"),
        ({"token_url": f"{HOST}/contoso.com/oauth2/v2.0/token"}, "tenant", "not both"),
        ({"client_secret_expires": "31/01/2027"}, "client_secret_expires", "such as 2027-01-31"),
    ],
)
def test_each_answer_is_judged_beside_its_field(tmp_path: Path, texts: dict[str, str], field: str, said: str) -> None:
    section = Section(Choice.MICROSOFT)
    problems = section.take({"client_id": GUID, "tenant": "contoso.com"} | texts, tmp_path)
    assert set(problems) == {field}
    assert said in problems[field]
    assert not section.is_good


def test_a_tenant_that_may_be_left_out_is_not_said_to_be_needed_alone(tmp_path: Path) -> None:
    def refused() -> dict[str, str]:
        speak("fr")
        return Section(Choice.MICROSOFT).take({"client_id": GUID}, tmp_path)

    assert contextvars.copy_context().run(refused) == {"tenant": "le locataire ou les deux URL sont nécessaires"}


def test_a_file_in_the_quotes_of_copy_as_path_is_that_file(tmp_path: Path) -> None:
    file = tmp_path / "key.json"
    file.write_text('{"type": "service_account", "client_email": "a@b.example", "private_key": "CANARY"}')
    section = Section(Choice.GOOGLE_SERVICE)
    assert section.take({"service_account_file": f'"{file}"'}, tmp_path) == {}
    assert section.settings["service_account_file"] == str(file)


@pytest.mark.skipif(os.name == "nt", reason="Windows itself takes `..` out before it looks at links")
def test_the_directory_above_a_link_is_that_of_what_it_points_to(tmp_path: Path) -> None:
    """The file was found there, and then another one was written into the configuration."""
    (tmp_path / "drive" / "keys").mkdir(parents=True)
    (tmp_path / "drive" / "key.json").write_text(
        '{"type": "service_account", "client_email": "a@b.example", "private_key": "CANARY"}'
    )
    (tmp_path / "link").symlink_to(tmp_path / "drive" / "keys")
    section = Section(Choice.GOOGLE_SERVICE)
    assert section.take({"service_account_file": str(tmp_path / "link" / ".." / "key.json")}, tmp_path) == {}
    assert Path(str(section.settings["service_account_file"])).samefile(tmp_path / "drive" / "key.json")


def test_a_file_below_a_home_that_does_not_exist_is_an_answer_that_is_wrong(tmp_path: Path) -> None:
    section = Section(Choice.GOOGLE_SERVICE)
    problems = section.take({"service_account_file": "~nobody-here-x/key.json"}, tmp_path)
    assert "cannot be read" in problems["service_account_file"]


def test_two_urls_of_different_tenants_are_wrong_together(tmp_path: Path) -> None:
    urls = {
        "authorization_url": f"{HOST}/a.example/oauth2/v2.0/authorize",
        "token_url": f"{HOST}/b.example/oauth2/v2.0/token",
    }
    problems = Section(Choice.MICROSOFT).take({"client_id": GUID, **urls}, tmp_path)
    assert "different hosts or tenants" in problems[""]


def test_a_url_that_is_pasted_for_the_tenant_is_understood(tmp_path: Path) -> None:
    section = Section(Choice.MICROSOFT)
    texts = {
        "client_id": GUID,
        "tenant": f"{HOST}/contoso.com/oauth2/v2.0/authorize",
        "token_url": f"{HOST}/contoso.com/oauth2/v2.0/token",
    }
    assert section.take(texts, tmp_path) == {}
    assert "tenant" not in section.settings


def test_a_secret_outlives_other_answers_that_are_wrong(tmp_path: Path) -> None:
    section = Section(Choice.GOOGLE)
    assert section.offer_secret(CANARY) == ""
    assert section.take({"client_id": ""}, tmp_path) == {"client_id": "an answer is needed"}
    assert section.offer_secret("") == ""
    assert section.take({"client_id": "1.apps.googleusercontent.com"}, tmp_path) == {}
    assert section.secret == Secret(CANARY)
    assert CANARY not in repr(section)
    assert CANARY not in str(section.settings)


@pytest.mark.parametrize("text", ["two words", "x" * (LONGEST + 1)])
def test_a_secret_that_cannot_be_one_leaves_the_earlier_one(text: str) -> None:
    section = Section(Choice.GOOGLE)
    section.offer_secret(CANARY)
    problem = section.offer_secret(text)
    assert problem
    assert text not in problem
    assert section.secret == Secret(CANARY)


def test_a_secret_is_needed_where_the_provider_wants_one(tmp_path: Path) -> None:
    google = {"client_id": "1.apps.googleusercontent.com"}
    assert Section(Choice.GOOGLE).take(google, tmp_path) == {"client_secret": "an answer is needed"}
    assert Section(Choice.YAHOO).take({"client_id": "1"}, tmp_path) == {}


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("mail.example.com:993", {"host": "mail.example.com", "port": 993, "tls": "implicit"}),
        ("mail.example.com:587", {"host": "mail.example.com", "port": 587, "tls": "starttls"}),
        (" mail.example.com:1587 starttls ", {"host": "mail.example.com", "port": 1587, "tls": "starttls"}),
        ("mail.example.com:143 implicit", {"host": "mail.example.com", "port": 143, "tls": "implicit"}),
    ],
)
def test_a_mail_server_is_one_line(text: str, server: dict[str, object]) -> None:
    assert mail_server(text) == server


@pytest.mark.parametrize("text", ["mail.example.com", "mail.example.com:0", "a:70000", "imaps://a:993", "a:1 tls", ""])
def test_what_is_no_mail_server_is_told_an_example(text: str) -> None:
    problem = mail_server(text)
    assert isinstance(problem, str)
    assert "imap.example.com:993" in problem


def test_another_provider_becomes_a_section_that_loads(tmp_path: Path) -> None:
    draft = Draft(tmp_path, has_keyring=True)
    section = draft.sections[draft.choose(Choice.OTHER)]
    texts = {
        "client_id": GUID,
        "authorization_url": "https://login.example.com/authorize",
        "token_url": "https://login.example.com/token",
        "scopes": "openid  mail",
    }
    assert section.take(texts, tmp_path) == {"imap": "name at least one mail server"}
    assert section.take(texts | {"imap": "mail.example.com:993"}, tmp_path) == {}
    draft.take_typed("alice@example.com")
    provider = draft.loaded().config.providers["mail"]
    assert provider.effective_scopes == ("openid", "mail")
    assert provider.override(Protocol.IMAP) is not None
    assert provider.override(Protocol.SMTP) is None


def test_typed_mailboxes_and_those_of_a_file_are_one_list(tmp_path: Path) -> None:
    draft = draft_with(tmp_path, Choice.GOOGLE)
    assert draft.account_problem() == "name at least one mailbox"
    assert draft.take_typed("alice@example.com\r\n*@example.org\r\n") == []
    assert draft.take_file("list.csv", b"address\nbob@example.com\n") == []
    assert draft.account_problem() == ""
    assert [account.address for account in draft.accounts] == ["alice@example.com", "*@example.org", "bob@example.com"]
    assert draft.take_file("list.csv", b"Alice@example.com\n") == []
    assert "in the list twice" in draft.account_problem()
    assert draft.take_file("bad.csv", b"nobody\n") != []
    assert draft.file_name == "list.csv"
    draft.drop_file()
    assert draft.account_problem() == ""


def test_a_list_that_is_too_long_for_a_page_is_asked_for_as_a_file(tmp_path: Path) -> None:
    draft = draft_with(tmp_path, Choice.GOOGLE)
    assert "CSV" in draft.take_typed("alice@example.com\n" * TYPED)[0]
    assert draft.accounts == ()


def test_with_two_providers_each_line_names_one_and_a_removed_one_is_noticed(tmp_path: Path) -> None:
    draft = draft_with(tmp_path, Choice.GOOGLE, Choice.MICROSOFT)
    assert "name the provider" in draft.take_typed("alice@example.com")[0]
    assert draft.take_typed("alice@example.com,gmail\nbob@example.com;office365") != []  # two separators are refused
    assert draft.take_typed("alice@example.com,gmail\nbob@example.com,office365") == []
    assert set(draft.loaded().config.providers) == {"gmail", "office365"}
    draft.remove("office365")
    assert "office365" in draft.account_problem()


def test_a_provider_that_was_chosen_and_never_answered_makes_room(tmp_path: Path) -> None:
    draft = draft_with(tmp_path, Choice.GOOGLE)
    draft.choose(Choice.YAHOO)
    assert draft.choose(Choice.GOOGLE) == "gmail-2"
    assert list(draft.sections) == ["gmail", "gmail-2"]
    assert draft.unanswered == "gmail-2"


def test_providers_are_few(tmp_path: Path) -> None:
    draft = draft_with(tmp_path, *[Choice.YAHOO] * SECTIONS)
    draft.choose(Choice.GOOGLE)
    assert len(draft.sections) == SECTIONS


@pytest.mark.parametrize("port", ["", "0", "65536", "143x", "-1", "3017"])
def test_a_port_is_a_number_that_nobody_else_has(tmp_path: Path, port: str) -> None:
    draft = draft_with(tmp_path, Choice.GOOGLE)
    assert set(draft.take_ports({"imap": port, "pop3": "1110", "smtp": "1587"})) == {"imap"}
    assert set(draft.take_ports({"imap": "1143", "pop3": "1143", "smtp": "1587"})) == {"pop3"}


def test_other_ports_stand_in_the_file_and_the_usual_ones_as_a_comment(tmp_path: Path) -> None:
    draft = draft_with(tmp_path, Choice.GOOGLE)
    draft.take_typed("alice@example.com")
    assert "#  imap: localhost:1143" in draft.text
    draft.console_port = 43017
    assert draft.take_ports({"imap": "41143", "pop3": "1110", "smtp": "1587"}) == {}
    config = draft.loaded().config
    assert config.listeners.imap[0].port == 41143
    assert config.console.port == 43017
    assert config.providers["gmail"].redirect_uri == "http://localhost:43017/"
    assert "localhost:3017" not in draft.text
    draft.console_port = 80
    (told,) = (line for line in draft.text.splitlines() if "then returns to" in line)
    assert told.endswith(f"then returns to {draft.loaded().config.providers['gmail'].redirect_uri}.")


def test_secrets_are_named_and_never_written_into_the_file(tmp_path: Path) -> None:
    draft = draft_with(tmp_path, Choice.GOOGLE)
    draft.take_typed("alice@example.com")
    assert draft.files == {tmp_path / "secrets/one.txt": Secret(CANARY)}
    assert draft.entries == {}
    assert CANARY not in draft.text
    draft.sections["gmail"].reference = "${keyring:gmail}"
    assert draft.entries == {"gmail": Secret(CANARY)}
    assert draft.files == {}
    assert "client_secret: ${keyring:gmail}" in draft.text
    out = io.StringIO()
    print(draft, file=out)
    assert CANARY not in out.getvalue()
