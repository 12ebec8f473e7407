"""Which notices are passed to scripts, and what a script is told about each."""

from __future__ import annotations

import pytest

from bridge.hooks.events import REASON_LIMIT, HookEvent, event_of
from bridge.notices import (
    AuthorizationEnded,
    AuthorizationNeeded,
    Authorized,
    MailServerAnswered,
    Notice,
    Refreshed,
    RefreshFailed,
    SecretExpiring,
    ServersChecked,
)

ALICE, URL = "alice@example.com", "http://localhost:3017/sign-in/alice@example.com"


@pytest.mark.parametrize(
    ("notice", "expected"),
    [
        (AuthorizationNeeded(ALICE, URL, "ended"), HookEvent("authorization-needed", ALICE, "", "ended", URL)),
        (AuthorizationEnded(ALICE, "denied", "no"), HookEvent("authorization-ended", ALICE, "", "no")),
        (AuthorizationEnded(ALICE, "cancelled", "by the person"), None),
        (RefreshFailed(ALICE, "revoked", temporary=False), HookEvent("refresh-failed", ALICE, "", "revoked")),
        (RefreshFailed(ALICE, "away", temporary=True), None),
        (Authorized(ALICE, ALICE), None),
        (Refreshed(ALICE, 1.0), None),
        (ServersChecked(ALICE, "smtp"), None),
        (MailServerAnswered(ALICE, "smtp", "no right"), HookEvent("login-refused", ALICE, "", "no right")),
        (MailServerAnswered(ALICE, "smtp", "busy", temporary=True), None),
        (MailServerAnswered(ALICE, "smtp", ""), None),
    ],
)
def test_only_what_needs_somebody_is_told(notice: Notice, expected: HookEvent | None) -> None:
    assert event_of(notice) == expected


def test_a_secret_that_ends_is_told_with_its_sentence() -> None:
    found = event_of(SecretExpiring("office365", "2027-01-31", 3))
    assert found is not None
    assert (found.event, found.provider, found.account) == ("secret-expiring", "office365", "")
    assert "expires in 3 days, on 2027-01-31" in found.reason


def test_a_reason_is_one_bounded_line() -> None:
    found = event_of(RefreshFailed(ALICE, "a\0b\nc" + "x" * 5000, temporary=False))
    assert found is not None
    assert found.reason.startswith("a b c")
    assert len(found.reason) == REASON_LIMIT
    assert found.environment == {
        "MAIL_BRIDGE_EVENT": "refresh-failed",
        "MAIL_BRIDGE_ACCOUNT": ALICE,
        "MAIL_BRIDGE_PROVIDER": "",
        "MAIL_BRIDGE_REASON": found.reason,
        "MAIL_BRIDGE_URL": "",
    }
