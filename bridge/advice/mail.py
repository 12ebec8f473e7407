"""Maps a mail server's "no" to a row of the table, by its words: providers say nowhere else what they mean.

Sources: docs/quirks.md; response codes: RFC 5530 (IMAP), RFC 3206 and RFC 2449 (POP3), RFC 3463 (SMTP).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from bridge.advice.base import Advice
from bridge.advice.diagnosis import Diagnosis
from bridge.advice.table import ADVICE


@dataclass(frozen=True, slots=True)
class Case:
    """A pattern of words, and what they mean."""

    pattern: re.Pattern[str]
    advice: Advice
    blames_token: bool
    """True if a newer token may be accepted, so that one more attempt is worth it."""


_ABOUT_TOKEN: Final = frozenset({"mail.token_expired", "mail.not_accepted"})

CASES: Final = tuple(
    Case(re.compile(pattern, re.IGNORECASE), ADVICE[key], blames_token=key in _ABOUT_TOKEN)
    for key, pattern in (
        # Exchange
        ("mail.smtp_off_tenant", r"SmtpClientAuthentication is disabled for the Tenant"),
        ("mail.smtp_off_mailbox", r"SmtpClientAuthentication is disabled"),
        ("mail.security_defaults", r"security defaults"),
        ("mail.policy", r"5\.7\.139|did not meet the criteria|conditional access"),
        ("mail.basic_off", r"5\.7\.30\b|basic authentication is not supported"),
        ("mail.not_authenticated", r"5\.7\.57\b|not authenticated to send mail"),
        ("mail.send_as", r"SendAsDenied|not allowed to send as|5\.7\.60\b"),
        ("mail.bad_credentials_form", r"5\.5\.124|invalid XOAUTH2 auth data"),
        ("mail.throttled", r"command or bandwidth limits"),  # Gmail, for a day; behind OVERQUOTA or ALERT
        ("mail.full", r"\[OVERQUOTA[ \]]|(?<![\d.])5\.2\.2(?![\d.])|mailbox (?:is )?full"),
        ("mail.token_expired", r"AccessTokenExpired"),
        ("mail.not_connected", r"authenticated but not connected|Connection closed\. 14\b"),
        ("mail.throttled", r"throttl|backoff|\[LOGIN-DELAY[ \]]"),
        # Gmail
        ("mail.protocol_off_domain", r"(?:IMAP|POP|SMTP)\w{,9} (?:access )?is disabled for (?:your|the|this) domain"),
        ("mail.protocol_off", r"not enabled for (?:IMAP|POP)|(?:IMAP|POP)3? access is disabled"),
        ("mail.web_login", r"(?:via|with|through) your web browser|web login required|\[WEBALERT[ \]]"),
        ("mail.session_over", r"session expired"),
        ("mail.token_long", r"(?<![\d.])5\.5\.6(?![\d.])"),  # RFC 4954 section 6; Postfix, above 12,288 octets
        # Yandex, also for an expired token: only a newer one, or a new sign-in, tells which of the two it is
        ("mail.not_accepted", r"invalid credentials or (?:IMAP|POP3?) is disabled"),
        # RFC 6750; go-smtp, behind 454, which is its code for any failure
        ("mail.not_accepted", r"\binvalid_token\b"),
        # anybody
        (
            "mail.forbidden",
            r"\[(?:AUTHORIZATIONFAILED|CONTACTADMIN|NOPERM|PRIVACYREQUIRED|EXPIRED|CANNOT|SYS/PERM)[ \]]"
            r"|(?:is|are|been) (?:disabled|blocked)|account disabled|not enabled",
        ),
        (
            "mail.too_many",
            r"too many|concurrent connections|maximum (?:number of )?connection|thread limit exceeded"
            r"|\[(?:LIMIT|INUSE|IN-USE)[ \]]",
        ),
        (
            "mail.busy",
            r"\[(?:UNAVAILABLE|SERVERBUG|SYS/TEMP)[ \]]|temporar|try again|system error|server (?:busy|unavailable)"
            r"|shutting down|(?:transient|generic) failure|^4\d\d[ -]",
        ),
        (
            "mail.not_accepted",
            r"\[(?:AUTHENTICATIONFAILED|AUTH)[ \]]|AUTHENTICATE failed|LogonDenied|authentication (?:failed|failure)"
            r"|authentication unsuccessful|invalid credentials|not accepted|^535[ -]",
        ),
    )
)
"""The first match counts. So a setting at the provider comes before a busy server, and that before the token, since
providers put "authentication failed" in front of everything."""


def recognized(text: str) -> Case | None:
    """What this answer means; None for words that nobody has written down yet."""
    return next((case for case in CASES if case.pattern.search(text)), None)


def leaves_open(text: str) -> bool:
    """True for words that say neither whose fault it is nor whether it will pass: Exchange has one sentence for a
    disabled protocol, a missing right, too many connections and a mailbox server that does not answer."""
    case = recognized(text)
    return case is not None and case.advice.key == "mail.not_connected"


def diagnosis(text: str, *, protocol: str, mailbox: str, person: str) -> Diagnosis:
    """Diagnose a refused login: who must do what.

    Args: text, the server's answer; protocol, as people write it (`IMAP`); mailbox, the address that was to be opened;
    person, who has signed in for it.
    """
    case = recognized(text)
    key = case.advice.key if case is not None else "mail.unknown"
    if key in {"mail.not_accepted", "mail.not_connected", "mail.unknown"} and person != mailbox:
        key = "mail.no_right"  # by far the likeliest with a shared mailbox
    return Diagnosis.of(key, text, protocol=protocol, mailbox=mailbox, person=person)
