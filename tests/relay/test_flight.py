"""Who must do what, by the words of the providers."""

from __future__ import annotations

import pytest

from bridge.errors import BridgeError, TlsFailed, TokenRefused, UpstreamRefused, UpstreamUnavailable
from bridge.model import Account, Protocol
from bridge.relay.flight import Turn, diagnosis

ALICE = Account("alice@example.com", "office365", "alice@example.com", {})
SALES = Account("sales@example.com", "office365", "alice@example.com", {})


@pytest.mark.parametrize(
    ("theirs", "turn", "ours"),
    [
        (
            "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant.",
            Turn.ADMIN,
            "Set-TransportConfig -SmtpClientAuthenticationDisabled $false",
        ),
        (
            "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox.",
            Turn.ADMIN,
            "Set-CASMailbox alice@example.com",
        ),
        ("535 5.7.139 locked by your organization's security defaults policy", Turn.ADMIN, "Conditional Access"),
        ("[ALERT] Your account is not enabled for IMAP use", Turn.PERSON, "IMAP is switched off in the mailbox's own"),
        ("[ALERT] Please log in via your web browser", Turn.PERSON, "web browser once"),
        ("User is authenticated but not connected.", Turn.ADMIN, "switched off for it"),
    ],
)
def test_trap_31_what_an_administrator_or_a_person_must_do_is_told(theirs: str, turn: Turn, ours: str) -> None:
    found, sentence = diagnosis(UpstreamRefused("x", text=theirs), Protocol.IMAP, ALICE)
    assert found is turn
    assert ours in sentence
    assert theirs in sentence  # to be forwarded


def test_a_shared_mailbox_that_does_not_open_is_a_question_of_rights() -> None:
    turn, sentence = diagnosis(TokenRefused("x", text="AUTHENTICATE failed."), Protocol.IMAP, SALES)
    assert turn is Turn.ADMIN
    assert "alice@example.com has signed in, but may not open the mailbox sales@example.com" in sentence


@pytest.mark.parametrize(
    ("problem", "turn", "words"),
    [
        (UpstreamUnavailable("x: [ALERT] Too many simultaneous connections."), Turn.NOBODY, "too many connections"),
        (UpstreamUnavailable("mail.example:993 does not answer"), Turn.NOBODY, "cannot be used just now"),
        (TlsFailed("mail.example: certificate verify failed"), Turn.ADMIN, "ca_file"),
    ],
)
def test_trouble_on_the_way_is_told_apart(problem: BridgeError, turn: Turn, words: str) -> None:
    found, sentence = diagnosis(problem, Protocol.SMTP, ALICE)
    assert found is turn
    assert words in sentence
