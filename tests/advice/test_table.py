"""The table is consistent, and every diagnosis is one of its rows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import bridge
from bridge import errors
from bridge.advice.base import Advice, Turn
from bridge.advice.diagnosis import Diagnosis
from bridge.advice.said import said
from bridge.advice.table import ADVICE, ROWS
from bridge.observe.scrubber import scrubbed
from bridge.ui.i18n import translation

SOURCES = {
    path: path.read_text("utf-8") for path in Path(bridge.__file__).parent.rglob("*.py") if path.name != "table.py"
}


def test_no_key_is_there_twice() -> None:
    assert len(ROWS) == len(ADVICE)


@pytest.mark.parametrize("advice", ROWS, ids=lambda advice: advice.key)
def test_each_row_is_reached_by_some_answer(advice: Advice) -> None:
    assert any(f'"{advice.key}"' in text for text in SOURCES.values())


@pytest.mark.parametrize("advice", ROWS, ids=lambda advice: advice.key)
def test_each_sentence_says_who_acts_on_one_line_of_ascii(advice: Advice) -> None:
    sentence = advice.sentence
    assert sentence.isascii()
    assert sentence.isprintable()
    assert sentence.endswith(".")
    assert not re.search(r"AADSTS|invalid_grant|Exception", sentence)
    if advice.turn is Turn.APP_ADMIN:
        assert "administrator of mail-bridge" in sentence
    if advice.turn is Turn.TENANT_ADMIN:
        assert "administrator" in sentence
        assert "administrator of mail-bridge" not in sentence


@pytest.mark.parametrize("advice", ROWS, ids=lambda advice: advice.key)
def test_no_word_of_a_sentence_is_taken_for_a_secret_in_the_log(advice: Advice) -> None:
    assert scrubbed(advice.sentence) == advice.sentence


def test_waiting_helps_exactly_where_it_is_nobodys_turn() -> None:
    temporary = {advice.key for advice in ROWS if advice.is_temporary}
    nobodys = {advice.key for advice in ROWS if advice.turn is Turn.NOBODY}
    assert temporary ^ nobodys == {"device.pending", "sign_in.unattended"}


def test_what_stops_everybody_is_loud_and_what_mends_itself_is_not() -> None:
    assert {advice.turn for advice in ROWS if advice.level == "error"} == {Turn.APP_ADMIN, Turn.TENANT_ADMIN}
    assert {advice.turn for advice in ROWS if advice.level == "info"} == {Turn.NOBODY, Turn.USER}


def test_a_diagnosis_takes_the_arguments_that_its_sentence_wants() -> None:
    found = Diagnosis.of("mail.no_right", "NO {0} %s", protocol="IMAP", mailbox="s@x.org", person="{a}@x.org")
    assert found.arguments == (("mailbox", "s@x.org"), ("person", "{a}@x.org"))
    assert found.sentence().startswith("{a}@x.org has signed in, but may not open the mailbox s@x.org.")
    assert found.told().endswith('the permission "Send as". (NO {0} %s)')


@pytest.mark.parametrize(
    ("key", "arguments"),
    [
        ("no.such_row", ()),
        ("mail.full", ()),
        ("mail.full", (("person", "x"),)),
        ("mail.full", (("mailbox", "x"), ("person", "x"))),
        ("mail.full", (("mailbox", "x"), ("mailbox", "y"))),
        ("mail.busy", (("mailbox", "x"),)),
    ],
)
def test_a_diagnosis_without_a_row_or_with_other_arguments_is_refused(
    key: str, arguments: tuple[tuple[str, str], ...]
) -> None:
    with pytest.raises(ValueError, match="advice"):
        Diagnosis(key, arguments)


@pytest.mark.parametrize(
    ("problem", "key"),
    [
        (errors.ProviderUnavailable("login.example does not answer"), "oauth.unreachable"),
        (errors.ProviderRefused("the host is none of Microsoft's"), "oauth.registration"),
        (errors.UpstreamUnavailable("mail.example:993 does not answer"), "mail.unreachable"),
        (errors.TlsFailed("mail.example: certificate verify failed"), "mail.tls"),
    ],
)
def test_an_error_without_a_diagnosis_gets_the_row_of_its_class(problem: errors.BridgeError, key: str) -> None:
    assert problem.diagnosis == Diagnosis(key, words=str(problem))
    assert problem.diagnosis.told().endswith(f" ({problem})")


def test_what_an_error_says_in_a_sentence_of_ours_is_told_in_the_readers_language() -> None:
    problem = errors.ProviderUnavailable(said("{host} refuses the connection.", host="login.example"))
    assert problem.diagnosis is not None
    assert problem.diagnosis.told().endswith(" (login.example refuses the connection.)")
    assert problem.diagnosis.told(translation("fr")).endswith(" (login.example refuse la connexion.)")
