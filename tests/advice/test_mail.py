"""Which row of the table each mail server's own words lead to; the words are from users' logs."""

from __future__ import annotations

import pytest

from bridge.advice import mail
from bridge.advice.base import Turn

NOBODY, USER, APP_ADMIN, TENANT_ADMIN = Turn.NOBODY, Turn.USER, Turn.APP_ADMIN, Turn.TENANT_ADMIN

ANSWERS = [
    # Exchange IMAP
    ("AUTHENTICATE failed.", "mail.not_accepted", TENANT_ADMIN, False),
    ('AUTHENTICATE failed. Error="AuthFailed:LogonDenied-BasicAuth"', "mail.not_accepted", TENANT_ADMIN, False),
    ("User is authenticated but not connected.", "mail.not_connected", TENANT_ADMIN, False),
    ("Connection closed. 14", "mail.not_connected", TENANT_ADMIN, False),
    ("Session invalidated - AccessTokenExpired", "mail.token_expired", NOBODY, True),
    ("Request is throttled. Suggested Backoff Time: 12345 milliseconds", "mail.throttled", NOBODY, True),
    ("Server Unavailable. 15", "mail.busy", NOBODY, True),
    # Exchange POP3
    ("Server Unavailable. 21", "mail.busy", NOBODY, True),
    ("Authentication failure: unknown user name or bad password.", "mail.not_accepted", TENANT_ADMIN, False),
    # Exchange SMTP
    (
        "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant. Visit "
        "https://aka.ms/smtp_auth_disabled for more information. [AM0PR01CA0001.eurprd01.prod.example]",
        "mail.smtp_off_tenant",
        TENANT_ADMIN,
        False,
    ),
    (
        "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox.",
        "mail.smtp_off_mailbox",
        TENANT_ADMIN,
        False,
    ),
    (
        "535 5.7.139 Authentication unsuccessful, user is locked by your organization's security defaults policy. "
        "Contact your administrator.",
        "mail.security_defaults",
        TENANT_ADMIN,
        False,
    ),
    (
        "535 5.7.139 Authentication unsuccessful, the request did not meet the criteria to be authenticated "
        "successfully. Contact your administrator.",
        "mail.policy",
        TENANT_ADMIN,
        False,
    ),
    ("535 5.7.3 Authentication unsuccessful [host.example]", "mail.not_accepted", TENANT_ADMIN, False),
    ("530 5.7.57 Client not authenticated to send mail.", "mail.not_authenticated", USER, False),
    ("550 5.7.30 Basic authentication is not supported for Client Submission.", "mail.basic_off", APP_ADMIN, False),
    ("432 4.3.2 Concurrent connections limit exceeded.", "mail.too_many", NOBODY, True),
    ("432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded", "mail.too_many", NOBODY, True),
    (
        "554 5.2.252 SendAsDenied; a@example.com not allowed to send as b@example.com; STOREDRV.Submission",
        "mail.send_as",
        TENANT_ADMIN,
        False,
    ),
    ("550 5.7.60 SMTP; Client does not have permissions to send as this sender", "mail.send_as", TENANT_ADMIN, False),
    ("501 5.5.124 Invalid XOAUTH2 auth data", "mail.bad_credentials_form", APP_ADMIN, False),
    ("554 5.2.2 mailbox full; STOREDRV.Submission.Exception:QuotaExceeded", "mail.full", USER, False),
    # Gmail
    ("[AUTHENTICATIONFAILED] Invalid credentials (Failure)", "mail.not_accepted", TENANT_ADMIN, False),
    (
        "535-5.7.8 Username and Password not accepted. Learn more at 535 5.7.8 https://support.example/mail",
        "mail.not_accepted",
        TENANT_ADMIN,
        False,
    ),
    ("[ALERT] Too many simultaneous connections. (Failure)", "mail.too_many", NOBODY, True),
    ("[OVERQUOTA] Account exceeded command or bandwidth limits. (Failure)", "mail.throttled", NOBODY, True),
    ("[ALERT] Account exceeded command or bandwidth limits. (Failure)", "mail.throttled", NOBODY, True),
    ("Session expired, please login again.", "mail.session_over", NOBODY, True),
    ("454 4.7.0 Temporary authentication failure", "mail.busy", NOBODY, True),
    ("454 4.7.0 Too many login attempts, please try again later.", "mail.too_many", NOBODY, True),
    ("Too many auth attempts", "mail.too_many", NOBODY, True),
    ("421 4.7.0 Try again later, closing connection.", "mail.busy", NOBODY, True),
    ("451 4.4.2 Timeout - closing connection.", "mail.busy", NOBODY, True),
    ("454 4.5.0 SMTP protocol violation, no commands allowed to pipeline after STARTTLS", "mail.busy", NOBODY, True),
    ("[ALERT] Your account is not enabled for IMAP use", "mail.protocol_off", USER, False),
    ("[SYS/PERM] Your account is not enabled for POP access", "mail.protocol_off", USER, False),
    ("[ALERT] IMAP access is disabled for your domain.", "mail.protocol_off_domain", TENANT_ADMIN, False),
    ("[ALERT] Please log in via your web browser: https://support.example", "mail.web_login", USER, False),
    ("[WEBALERT https://accounts.example/signin] Web login required.", "mail.web_login", USER, False),
    ("534 5.7.9 Please log in with your web browser and then try again.", "mail.web_login", USER, False),
    (
        "534 5.7.14 <https://accounts.example/signin> Please log in through your web browser and then try again.",
        "mail.web_login",
        USER,
        False,
    ),
    # Yandex
    (
        "[AUTHENTICATIONFAILED] AUTHENTICATE invalid credentials or IMAP is disabled sc=aBcDeF1_202020_x",
        "mail.not_accepted",
        TENANT_ADMIN,
        False,
    ),
    ("[AUTH] login failure or POP3 disabled, try later. sc=aBcDeF1", "mail.not_accepted", TENANT_ADMIN, False),
    # Dovecot and others
    ("[AUTHENTICATIONFAILED] Authentication failed.", "mail.not_accepted", TENANT_ADMIN, False),
    ("[AUTH] Authentication failed.", "mail.not_accepted", TENANT_ADMIN, False),
    ("[UNAVAILABLE] Internal authentication failure.", "mail.busy", NOBODY, True),
    (
        "Maximum number of connections from user+IP exceeded (mail_max_userip_connections=10)",
        "mail.too_many",
        NOBODY,
        True,
    ),
    ("421 4.7.0 Maximum number of connections from user+IP exceeded", "mail.too_many", NOBODY, True),
    ("[ALERT] Maximum connection limit reached, please try again later", "mail.too_many", NOBODY, True),
    ("OAUTHBEARER authentication error (invalid_token)", "mail.not_accepted", TENANT_ADMIN, False),
    ("454 4.7.0 OAUTHBEARER authentication error (invalid_token)", "mail.not_accepted", TENANT_ADMIN, False),
    # Cyrus SASL, as Cyrus IMAP 3.10 sends them, and Postfix after "authentication failed"
    ("remote authentication server unavailable", "mail.busy", NOBODY, True),
    ("[AUTH] authenticating: transient failure (e.g., weak key)", "mail.busy", NOBODY, True),
    ("535 5.7.8 Error: authentication failed: generic failure", "mail.busy", NOBODY, True),
    ("[AUTH] authenticating: account disabled", "mail.forbidden", TENANT_ADMIN, False),
    ("[AUTH] authenticating: authentication failure", "mail.not_accepted", TENANT_ADMIN, False),
    ("[LOGIN-DELAY] minimum time between mail checks violation", "mail.throttled", NOBODY, True),
    ("[CONTACTADMIN] Ask us.", "mail.forbidden", TENANT_ADMIN, False),
    # Postfix, about a response of more than 12,288 octets
    ("500 5.5.6 SASL response limit exceeded", "mail.token_long", APP_ADMIN, False),
    ("Vaya, no.", "mail.unknown", TENANT_ADMIN, False),
]


@pytest.mark.parametrize(("text", "key", "turn", "is_temporary"), ANSWERS)
def test_trap_31_an_answer_of_a_mail_server_is_explained(text: str, key: str, turn: Turn, is_temporary: bool) -> None:
    found = mail.diagnosis(text, protocol="IMAP", mailbox="alice@example.com", person="alice@example.com")
    assert (found.key, found.advice.turn, found.advice.is_temporary) == (key, turn, is_temporary)
    assert found.words == text  # so that they can be forwarded
    assert text in found.told()


def test_every_case_is_tried_here() -> None:
    assert {case.advice.key for case in mail.CASES} <= {key for _, key, _, _ in ANSWERS}


@pytest.mark.parametrize("text", ["AUTHENTICATE failed.", "User is authenticated but not connected.", "Vaya, no."])
def test_a_shared_mailbox_that_does_not_open_is_a_question_of_rights(text: str) -> None:
    found = mail.diagnosis(text, protocol="IMAP", mailbox="sales@example.com", person="alice@example.com")
    assert found.key == "mail.no_right"
    assert "alice@example.com has signed in, but may not open the mailbox sales@example.com" in found.sentence()


def test_words_without_end_are_looked_through_once() -> None:
    """A search that began again at each word would take minutes, and hold up the loop all the while."""
    assert mail.recognized("554 " + "IMAP" * 100_000) is None


def test_a_shared_mailbox_with_too_many_connections_is_not() -> None:
    found = mail.diagnosis("Too many auth attempts", protocol="IMAP", mailbox="s@example.com", person="a@example.com")
    assert found.key == "mail.too_many"


@pytest.mark.parametrize(
    "text",
    [
        "the queue of 15.2.2 servers",
        "250 x 5.2.252",
        "peer 10.5.2.2",
    ],
)
def test_a_number_within_another_is_no_full_mailbox(text: str) -> None:
    case = mail.recognized(text)
    assert case is None or case.advice.key != "mail.full"
