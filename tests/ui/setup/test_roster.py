"""Lists of mailboxes as people and spreadsheets write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.ui.setup.answers import AccountAnswer, account_problem
from bridge.ui.setup.roster import MOST_PROBLEMS, read_roster

ONE, TWO = ["gmail"], ["gmail", "office365"]
ALICE, BOB = AccountAnswer("alice@example.com", "gmail"), AccountAnswer("bob@contoso.com", "office365")


@pytest.mark.parametrize(
    "content",
    [
        "alice@example.com,gmail\nbob@contoso.com,office365\n",
        "address,provider\r\nalice@example.com,gmail\r\nbob@contoso.com,office365",
        "\ufeffadresse;fournisseur;connexion\r\nalice@example.com;gmail;\r\n;;\r\nbob@contoso.com;office365;\r\n",
        "Provider;Nom;E-mail\ngmail;Alice;alice@example.com\noffice365;Bob;bob@contoso.com\n",
        "Fournisseur;Adresse e-mail\ngmail;alice@example.com\noffice365;bob@contoso.com\n",
        "PrimarySmtpAddress,Provider\nalice@example.com,gmail\nbob@contoso.com,office365\n",
        "Name,Email Address [Required],Provider\nA,alice@example.com,gmail\nB,bob@contoso.com,office365\n",
        "sep=;\r\nalice@example.com;gmail\r\nbob@contoso.com;office365\r\n",
        '"alice@example.com"\t"gmail"\n"bob@contoso.com"\t"office365"\n',
        "\n\n alice@example.com , gmail \n\nbob@contoso.com,office365\n",
    ],
)
def test_what_spreadsheets_write_is_read(content: str) -> None:
    roster = read_roster(content.encode(), TWO)
    assert roster.problems == ()
    assert roster.accounts == (ALICE, BOB)


def test_a_column_with_a_name_of_its_own_is_told_of() -> None:
    roster = read_roster(b"\nadresse;fournisseur;qui signe\nalice@example.com;gmail;bob@example.com\n", TWO)
    assert (roster.accounts, roster.unused) == ((ALICE,), ("qui signe",))
    assert read_roster(b"alice@example.com;gmail;\n", TWO).unused == ()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
def test_accents_survive_whatever_windows_writes(encoding: str) -> None:
    roster = read_roster("adresse;fournisseur\r\nrené@example.com;gmail\r\n".encode(encoding), TWO)
    assert roster.accounts == (AccountAnswer("rené@example.com", "gmail"),)


def test_one_provider_need_not_be_named() -> None:
    assert read_roster(b"alice@example.com\n", ONE).accounts == (ALICE,)
    shared = read_roster(b"sales@example.com,,alice@example.com\n", ONE)
    assert shared.accounts == (AccountAnswer("sales@example.com", "gmail", "alice@example.com"),)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_the_first_line_that_has_a_separator_tells_which(separator: str) -> None:
    """Most lines contain only an address, which says nothing; the shared mailboxes usually come after them."""
    shared = separator.join(["sales@example.com", "gmail", "alice@example.com"])
    roster = read_roster(f"alice@example.com\n{shared}\n".encode(), ONE)
    assert roster.problems == ()
    assert roster.accounts == (ALICE, AccountAnswer("sales@example.com", "gmail", "alice@example.com"))


@pytest.mark.parametrize(
    ("content", "line", "said"),
    [
        ("address,provider\nalice@example.com,gmail\nbob,gmail\n", 3, "an address such as"),
        ("alice@example.com\n", 1, "name the provider: gmail, office365"),
        ("alice@example.com,gmial\n", 1, "choose from: gmail, office365"),
        ("sep=;\nalice@example.com;gmail\nbob;gmail\n", 3, "an address such as"),
        ("alice@example.com,gmail\n\nAlice@Example.com,gmail\n", 3, "is already in line 1"),
        ("alice@example.com,gmail,,extra\n", 1, "more cells than columns"),
        ('alice@example.com,gmail\n"bob@contoso.com,gmail\n', 2, "quotes"),
        ("name,gmail\n", 1, "an address such as"),
        ("alice@example.com, bob@contoso.com\n", 1, "bob@contoso.com is in the place of the provider"),
        ("a@example.com; b@example.com; c@example.com; d@example.com", 1, "write each mailbox on a line of its own"),
        ("User;Display name\nalice@example.com;Alice\nbob@contoso.com;Bob\n", 1, "but none of them is called address"),
        ("\nName,Room,User\nAlice,12,alice@example.com\n", 2, "but none of them is called address"),
        ("", 1, "no address"),
        ("address\n", 1, "no address"),
    ],
)
def test_a_mistake_is_told_with_its_line(content: str, line: int, said: str) -> None:
    (problem,) = read_roster(content.encode(), TWO).problems
    assert problem.startswith(f"line {line}: ")
    assert said in problem


def test_a_file_of_another_kind_is_told_in_a_few_lines() -> None:
    assert "not a text file" in read_roster(b"PK\x03\x04\0\0", ONE).problems[0]
    assert len(read_roster(b"nonsense\n" * 1000, ONE).problems) == MOST_PROBLEMS


@given(st.one_of(st.binary(max_size=300), st.text('a@.;,"\n\r\t é=', max_size=80).map(str.encode)))
def test_any_bytes_are_accounts_that_are_good_or_problems_with_lines(content: bytes) -> None:
    roster = read_roster(content, TWO)
    assert roster.accounts or roster.problems
    assert all(account_problem(account) == "" for account in roster.accounts)
    assert all(problem.startswith("line ") for problem in roster.problems)
